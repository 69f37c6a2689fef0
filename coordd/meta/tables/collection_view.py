"""One collection as it is served, put together from its keys: pure functions and immutable views.

Milvus spreads a collection over a collection key (without fields), one key per field and one per partition;
metadata from before 2.1 has everything inline in the collection key. As in Milvus, the inline form counts
only if it has both partitions and fields; else both come from their own keys.

Order of fields: user fields by ID, then the system fields RowID (0) and Timestamp (1). That is the order in
which Milvus creates them and answers until it restarts. After a restart its order is that of the keys it
reads, compared as text: 2.3 reads the snapshot keys (`0_ts…`, `100_ts…`, …, `1_ts…`), 2.5 the plain ones
(`0`, `1`, `100`, …). User fields, all that a proxy shows to clients, come by ascending ID in all three as
long as IDs have the same number of digits. Partitions come by ascending ID: order of creation, and of
keys. Inline fields and partitions keep the order they are stored in.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go (appendPartitionAndFieldsInfo),
internal/metastore/model/collection.go, internal/rootcoord/{create_collection_task,root_coord}.go.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coordd.meta.codecs import DecodeError, decode_proto
from coordd.meta.tables.family import home_db, require
from coordd.pb import etcd_meta_pb2, schema_pb2

CREATED: Final = 0
"""The state in which a collection, a partition or an alias is available; the number is the same for all."""

FIRST_USER_FIELD_ID: Final = 100


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """What a collection key says, as far as lists and look-ups need it.

    `db_id` is that of the key, 0 for metadata from before databases; `home_db_id` is where it is shown.
    `create_time` is a hybrid timestamp. `inline_partitions`: their number in the inline form, None when
    partitions and fields have their own keys. `physical_channels`: where its inserts and deletes go, in order
    of the shards. `value` is the etcd.CollectionInfo.
    """

    collection_id: int
    db_id: int
    name: str
    state: int
    create_time: int
    inline_partitions: int | None
    mod_revision: int
    physical_channels: tuple[str, ...]
    value: bytes

    @property
    def available(self) -> bool:
        """Neither being created nor being dropped."""
        return self.state == CREATED

    @property
    def home_db_id(self) -> int:
        """The database it is shown in."""
        return home_db(self.db_id)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. `created_timestamp` is a hybrid timestamp, `state` an etcd.PartitionState."""

    id: int
    name: str
    created_timestamp: int
    state: int

    @property
    def available(self) -> bool:
        """Neither being created nor being dropped."""
        return self.state == CREATED


@dataclass(frozen=True, slots=True, eq=False)
class CollectionView:
    """A collection with all its parts at one revision. Do not modify the messages in it.

    `damaged` names the keys of this collection whose values are quarantined; their parts are missing here.
    """

    row: CollectionRow
    info: etcd_meta_pb2.CollectionInfo
    fields: tuple[schema_pb2.FieldSchema, ...]
    partitions: tuple[Partition, ...]
    functions: tuple[schema_pb2.FunctionSchema, ...] = ()
    damaged: frozenset[str] = frozenset()

    @property
    def id(self) -> int:
        """The collection's ID."""
        return self.row.collection_id

    @property
    def name(self) -> str:
        """The collection's name, never an alias."""
        return self.row.name

    @property
    def available(self) -> bool:
        """Neither being created nor being dropped."""
        return self.row.available

    @property
    def available_partitions(self) -> tuple[Partition, ...]:
        """Partitions that are neither being created nor being dropped."""
        return tuple(partition for partition in self.partitions if partition.available)

    @property
    def shards_num(self) -> int:
        """Number of shards; metadata that does not say has one per virtual channel."""
        return self.info.shards_num or len(self.info.virtual_channel_names)

    def schema(self) -> schema_pb2.CollectionSchema:
        """A new message with all fields, system fields included, in the order the module states."""
        schema = self.info.schema
        return schema_pb2.CollectionSchema(
            name=schema.name,
            description=schema.description,
            autoID=schema.autoID,
            fields=self.fields,
            enable_dynamic_field=schema.enable_dynamic_field,
            functions=self.functions,
        )


def decode_collection(
    key: str, value: bytes, db_id: int, collection_id: int, mod_revision: int
) -> CollectionRow:
    """The row of a collection key.

    Raises:
        DecodeError: no etcd.CollectionInfo, not that of `collection_id`, no name, inline arrays of unequal
            length.
    """
    info = decode_proto(key, value, etcd_meta_pb2.CollectionInfo)
    if collection_id != info.ID:
        raise DecodeError(key, f"holds collection {info.ID}")
    require(key, condition=info.schema.name != "", reason="a collection without a name")
    ids, names = len(info.partitionIDs), len(info.partitionNames)
    same = ids == names == len(info.partition_created_timestamps)
    require(key, condition=same, reason="inline partition arrays of unequal length")
    return CollectionRow(
        collection_id=collection_id,
        db_id=db_id,
        name=info.schema.name,
        state=info.state,
        create_time=info.create_time,
        inline_partitions=ids if ids and info.schema.fields else None,
        mod_revision=mod_revision,
        physical_channels=tuple(map(sys.intern, info.physical_channel_names)),
        value=value,
    )


def decode_partition(key: str, value: bytes, collection_id: int, partition_id: int) -> Partition:
    """A partition from an etcd.PartitionInfo.

    Raises:
        DecodeError: not one, not the one the key names, or no name.
    """
    info = decode_proto(key, value, etcd_meta_pb2.PartitionInfo)
    if info.partitionID != partition_id or info.collection_id not in (0, collection_id):
        raise DecodeError(key, f"holds partition {info.partitionID} of collection {info.collection_id}")
    require(key, condition=info.partitionName != "", reason="a partition without a name")
    name = sys.intern(info.partitionName)  # nearly all are `_default`
    return Partition(partition_id, name, info.partition_created_timestamp, info.state)


def decode_field(key: str, value: bytes, field_id: int) -> schema_pb2.FieldSchema:
    """A field.

    Raises:
        DecodeError: no schema.FieldSchema, not that of `field_id`, or no name.
    """
    field = decode_proto(key, value, schema_pb2.FieldSchema)
    if field.fieldID != field_id:
        raise DecodeError(key, f"holds field {field.fieldID}")
    require(key, condition=field.name != "", reason="a field without a name")
    return field


def decode_function(key: str, value: bytes, function_id: int) -> schema_pb2.FunctionSchema:
    """A function (Milvus 2.5).

    Raises:
        DecodeError: no schema.FunctionSchema, not that of `function_id`, or no name.
    """
    function = decode_proto(key, value, schema_pb2.FunctionSchema)
    if function.id != function_id:
        raise DecodeError(key, f"holds function {function.id}")
    require(key, condition=function.name != "", reason="a function without a name")
    return function


def assemble(
    row: CollectionRow,
    *,
    fields: Mapping[int, bytes],
    partitions: Mapping[int, Partition],
    functions: Mapping[int, bytes],
    damaged: Iterable[str] = (),
) -> CollectionView:
    """Put a collection together; `fields` and `functions` are values that were checked when they came in."""
    info = etcd_meta_pb2.CollectionInfo.FromString(row.value)
    if row.inline_partitions is None:
        served_fields = tuple(
            schema_pb2.FieldSchema.FromString(fields[field_id])
            for field_id in sorted(fields, key=_field_order)
        )
    else:
        served_fields = tuple(info.schema.fields)
    return CollectionView(
        row=row,
        info=info,
        fields=served_fields,
        partitions=partitions_of(row, partitions),
        functions=tuple(
            schema_pb2.FunctionSchema.FromString(functions[function_id]) for function_id in sorted(functions)
        ),
        damaged=frozenset(damaged),
    )


def partitions_of(row: CollectionRow, partitions: Mapping[int, Partition]) -> tuple[Partition, ...]:
    """By ID; or, of a collection that holds them inside, in the order that they have there."""
    if row.inline_partitions is None:
        return tuple([partitions[partition_id] for partition_id in sorted(partitions)])
    info = etcd_meta_pb2.CollectionInfo.FromString(row.value)
    arrays = zip(info.partitionIDs, info.partitionNames, info.partition_created_timestamps, strict=True)
    return tuple(Partition(id_, name, created, CREATED) for id_, name, created in arrays)


def _field_order(field_id: int) -> tuple[bool, int]:
    return field_id < FIRST_USER_FIELD_ID, field_id
