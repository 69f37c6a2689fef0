"""Metadata as Milvus writes it, for tests: values, events, range reads."""

from collections.abc import Iterator, Mapping

from coordd.etcd import Event, KeyValue, RangeResult
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb import etcd_meta_pb2, schema_pb2

LAYOUT = MetaLayout("by-dev", "meta", "kv")

CREATED, CREATING, DROPPING = 0, 1, 2


def put(key: str, value: bytes, revision: int = 1) -> Event:
    return Event(key, value, revision, 0, 0, 0)


def delete(key: str, revision: int = 1) -> Event:
    return Event(key, None, revision, 0, 0, 0)


def key_value(key: str, value: bytes, revision: int = 1) -> KeyValue:
    return KeyValue(key, value, revision, revision, 1, 0)


def range_result(state: Mapping[str, bytes], revision: int = 1) -> RangeResult:
    """A range read in which every key was written at `revision`."""
    return RangeResult(revision, [key_value(key, state[key], revision) for key in sorted(state)])


def load_steps(fold: Fold, read: RangeResult, slice_keys: int) -> Iterator[int]:
    """A load in parts of so many keys; yields keys done so far after each. Ends when the fold gives up."""
    with fold.loading() as load:
        for first in range(0, len(read.kvs), slice_keys):
            part = read.kvs[first : first + slice_keys]
            if not fold.take(load, RangeResult(read.revision, part)):
                return
            yield first + len(part)
        fold.finish(load, read.revision)


def loaded(*states: Mapping[str, bytes]) -> tuple[RootCoordTables, Fold]:
    """RootCoord's tables, loaded with the given keys."""
    tables = RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    fold.load(range_result({key: value for state in states for key, value in state.items()}))
    return tables, fold


def database_value(db_id: int, name: str, created_time: int = 0) -> bytes:
    return etcd_meta_pb2.DatabaseInfo(
        id=db_id,
        name=name,
        state=etcd_meta_pb2.DatabaseState.Value("DatabaseCreated"),
        created_time=created_time,
    ).SerializeToString()


def database(db_id: int, name: str, created_time: int = 0) -> dict[str, bytes]:
    return {LAYOUT.database(db_id): database_value(db_id, name, created_time)}


def collection_value(collection_id: int, name: str, *, db_id: int = 1, state: int = CREATED) -> bytes:
    return etcd_meta_pb2.CollectionInfo(
        ID=collection_id,
        schema=schema_pb2.CollectionSchema(name=name, description=f"about {name}"),
        create_time=collection_id << 18,
        virtual_channel_names=[f"by-dev-rootcoord-dml_0_{collection_id}v0"],
        physical_channel_names=["by-dev-rootcoord-dml_0"],
        shards_num=1,
        db_id=db_id,
        state=state,
    ).SerializeToString()


def field_value(field_id: int, name: str) -> bytes:
    kind = schema_pb2.DataType.Value("Int64")
    return schema_pb2.FieldSchema(fieldID=field_id, name=name, data_type=kind).SerializeToString()


def partition_value(collection_id: int, partition_id: int, name: str, state: int = CREATED) -> bytes:
    return etcd_meta_pb2.PartitionInfo(
        partitionID=partition_id,
        partitionName=name,
        partition_created_timestamp=partition_id << 18,
        collection_id=collection_id,
        state=state,
    ).SerializeToString()


SYSTEM_FIELDS = {0: "RowID", 1: "Timestamp"}


def collection(
    collection_id: int,
    name: str,
    *,
    db_id: int = 1,
    state: int = CREATED,
    fields: Mapping[int, str] | None = None,
    partitions: Mapping[int, str] | None = None,
) -> dict[str, bytes]:
    """All keys of a modern collection; its one partition has the ID that follows the collection's."""
    named = {100: "id", 101: "vector"} if fields is None else fields
    parts = {collection_id + 1: "_default"} if partitions is None else partitions
    keys = {
        LAYOUT.collection(db_id, collection_id): collection_value(
            collection_id, name, db_id=db_id, state=state
        )
    }
    for field_id, field_name in {**named, **SYSTEM_FIELDS}.items():
        keys[LAYOUT.field(collection_id, field_id)] = field_value(field_id, field_name)
    for partition_id, partition_name in parts.items():
        key = LAYOUT.partition(collection_id, partition_id)
        keys[key] = partition_value(collection_id, partition_id, partition_name)
    return keys


def inline_collection_value(collection_id: int, name: str) -> bytes:
    """A collection from before Milvus 2.1: fields and partitions in the one value."""
    info = etcd_meta_pb2.CollectionInfo(
        ID=collection_id,
        schema=schema_pb2.CollectionSchema(
            name=name,
            fields=[
                schema_pb2.FieldSchema.FromString(field_value(field_id, field_name))
                for field_id, field_name in {0: "RowID", 1: "Timestamp", 100: "id"}.items()
            ],
        ),
        create_time=collection_id << 18,
        partitionIDs=[collection_id + 1, collection_id + 2],
        partitionNames=["_default", "second"],
        partition_created_timestamps=[1 << 18, 2 << 18],
    )
    return info.SerializeToString()


def alias_value(name: str, collection_id: int, *, db_id: int = 1, created_time: int = 7) -> bytes:
    return etcd_meta_pb2.AliasInfo(
        alias_name=name, collection_id=collection_id, created_time=created_time, db_id=db_id
    ).SerializeToString()


def oldest_alias_value(name: str, collection_id: int) -> bytes:
    """An alias from before Milvus 2.1: a CollectionInfo named like the alias."""
    return etcd_meta_pb2.CollectionInfo(
        ID=collection_id, schema=schema_pb2.CollectionSchema(name=name)
    ).SerializeToString()
