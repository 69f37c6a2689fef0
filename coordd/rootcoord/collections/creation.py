"""CreateCollection's metadata: whether the name is free, what is written first, what makes it available.

The first transactions write the collection's key, in state Creating, before all other keys: whatever step is
the last, the collection is found again and can be undone by `plan_purge`. Creation counts from one timestamp
throughout, so that at any later one the collection has been there, as in Milvus.

Not Milvus': the name is looked at before a message is sent or a channel taken (there a repeated call leaks
both); equal default values count as equal, and fields in whatever order they were read; a name that was an
alias of a collection that is gone leads to the new collection.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create_collection_task,meta_table}.go,
internal/metastore/model/{collection,field}.go.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import CREATED, CollectionView, Partition, RootCoordTables
from coordd.meta.transaction import TransactionTooLarge, Write
from coordd.pb.common_pb2 import ConsistencyLevel, KeyDataPair, KeyValuePair
from coordd.pb.etcd_meta_pb2 import CollectionInfo, CollectionState
from coordd.pb.schema_pb2 import CollectionSchema, FieldSchema
from coordd.rootcoord.collections.change import (
    in_transactions,
    info_of,
    put_partition,
    tombstones,
)
from coordd.rootcoord.collections.definition import Definition, as_kept
from coordd.rootcoord.collections.naming import dead_alias_keys
from coordd.rootcoord.errors import no_collection_with_id, no_database_then
from coordd.rpc.status import MilvusError


@dataclass(frozen=True, slots=True)
class Placement:
    """What a new collection is given, once its definition is accepted.

    `first_partition_id` is followed by the IDs of the further partitions. `timestamp`: the hybrid timestamp
    of its creation, the definition's `replicated_at` if that is set. `start_positions`: (physical channel,
    message ID of the collection's first message there).
    """

    collection_id: int
    first_partition_id: int
    timestamp: int
    virtual_channels: tuple[str, ...]
    physical_channels: tuple[str, ...]
    start_positions: tuple[tuple[str, bytes], ...]


def existing(tables: RootCoordTables, definition: Definition) -> int:
    """ID of the collection that a repeated request means, 0 if the name is free.

    Raises:
        MilvusError: the name stands for a collection that differs.
        DamagedMetadata: for one that cannot be compared.
    """
    row = tables.resolve(definition.db_id, definition.name)
    view = None if row is None else tables.collections.whole(row.collection_id)
    if view is None:
        return 0
    if not _is_same(definition, view):
        raise _taken(definition.name)
    return view.id


def plan_begin(
    tables: RootCoordTables, layout: MetaLayout, definition: Definition, placement: Placement
) -> tuple[tuple[Write, ...], ...]:
    """The transactions, in this order, that write a collection which nobody sees yet.

    None if an equal one has come about since `existing` was asked: what was taken is to be given back.

    Raises:
        MilvusError: the name was taken, or the database dropped, since the definition was made.
        DamagedMetadata: as `existing`.
    """
    if tables.databases.get(definition.db_id) is None:
        raise no_database_then(definition.db_name)
    if existing(tables, definition):
        return ()
    ts, collection_id = placement.timestamp, placement.collection_id
    key = layout.collection(definition.db_id, collection_id)
    info = encode_proto(_info(definition, placement))
    partitions = enumerate(definition.partition_names, placement.first_partition_id)
    groups = (
        plan_put(layout, key, info, ts),
        *(
            put_partition(layout, collection_id, Partition(partition_id, name, ts, CREATED), ts)
            for partition_id, name in partitions
        ),
        *(
            plan_put(layout, layout.field(collection_id, field.fieldID), encode_proto(field), ts)
            for field in definition.schema.fields
        ),
    )
    try:
        return in_transactions(groups)
    except TransactionTooLarge as error:
        raise MilvusError("etcdserver: request is too large") from error


def plan_finish(
    tables: RootCoordTables, layout: MetaLayout, collection_id: int, timestamp: int
) -> tuple[Write, ...]:
    """The transaction that makes a collection available; none if it is.

    `timestamp`: of this step; the collection counts from its creation all the same.

    Raises:
        MilvusError: to be undone: it is gone or being dropped, or its database is gone, or its name taken.
    """
    row = tables.collections.get(collection_id)
    if row is None or row.state not in (CREATED, CollectionState.CollectionCreating):
        raise no_collection_with_id(collection_id)
    if row.available:
        return ()
    if tables.databases.get(row.home_db_id) is None:
        raise MilvusError(f"database dbID:{row.home_db_id} not found")
    if tables.resolve(row.home_db_id, row.name) is not None:
        raise _taken(row.name)
    info = info_of(row)
    info.state = CollectionState.CollectionCreated
    key = layout.collection(row.db_id, row.collection_id)
    return (
        *plan_put(layout, key, encode_proto(info), row.create_time),
        *tombstones(layout, dead_alias_keys(tables, row.home_db_id, row.name), timestamp),
    )


def _info(definition: Definition, placement: Placement) -> CollectionInfo:
    schema = definition.schema
    return CollectionInfo(
        ID=placement.collection_id,
        schema=CollectionSchema(
            name=schema.name,
            description=schema.description,
            autoID=schema.autoID,
            enable_dynamic_field=schema.enable_dynamic_field,
        ),
        create_time=placement.timestamp,
        virtual_channel_names=placement.virtual_channels,
        physical_channel_names=placement.physical_channels,
        shards_num=definition.shards_num,
        start_positions=[KeyDataPair(key=key, data=data) for key, data in placement.start_positions],
        consistency_level=cast("ConsistencyLevel", definition.consistency_level),
        state=CollectionState.CollectionCreating,
        properties=definition.properties,
        db_id=definition.db_id,
    )


def _is_same(definition: Definition, view: CollectionView) -> bool:
    ours, theirs = definition.schema, view.info.schema
    return (
        (definition.db_id, ours.name, ours.description, ours.autoID, ours.enable_dynamic_field)
        == (view.row.home_db_id, theirs.name, theirs.description, theirs.autoID, theirs.enable_dynamic_field)
        and definition.shards_num == view.shards_num
        and definition.consistency_level == view.info.consistency_level
        and _as_dict(definition.properties) == _as_dict(view.info.properties)
        and definition.partition_names == tuple(partition.name for partition in view.available_partitions)
        and _comparable(ours.fields) == _comparable(view.fields)
    )


def _comparable(fields: Iterable[FieldSchema]) -> list[tuple[object, ...]]:
    """What makes fields equal: all that is kept, parameters in any order."""
    out: list[tuple[object, ...]] = []
    for field in sorted(fields, key=lambda one: one.fieldID):
        params = (_as_dict(field.type_params), _as_dict(field.index_params))
        rest = as_kept(field, field.fieldID)
        rest.ClearField("type_params")
        rest.ClearField("index_params")
        out.append((encode_proto(rest), *params))
    return out


def _as_dict(pairs: Iterable[KeyValuePair]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}


def _taken(name: str) -> MilvusError:
    return MilvusError(f"create duplicate collection with different parameters, collection: {name}")
