"""What a CreateCollection request asks for: checked in Milvus' order, and completed.

Fields are numbered from 100 in the order of the request; a dynamic field `$meta` comes last if asked for;
then the system fields RowID (0) and Timestamp (1). Of a field only what Milvus 2.3 knows is kept, its state
aside, which 2.3 never writes.

Not Milvus': a collection or field without a name is refused.

Source of truth: Milvus 2.3.5 internal/rootcoord/create_collection_task.go, internal/metastore/model/field.go;
texts recorded from a running 2.3.5; branch 2.5 for `database.max.collections`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from coordd.meta.tables import Database, RootCoordTables
from coordd.meta.tables.collection_view import FIRST_USER_FIELD_ID
from coordd.pb.common_pb2 import KeyValuePair, MsgType
from coordd.pb.milvus_pb2 import CreateCollectionRequest
from coordd.pb.schema_pb2 import CollectionSchema, DataType, FieldSchema
from coordd.rootcoord.collections.default_values import check_default_value
from coordd.rootcoord.collections.naming import check_collection_name, database_of
from coordd.rootcoord.errors import check_msg_type
from coordd.rpc.status import CollectionNumLimitExceeded, MilvusError, ParameterInvalid

ROW_ID: Final = "RowID"
TIMESTAMP: Final = "Timestamp"
DYNAMIC: Final = "$meta"

MAX_COLLECTIONS: Final = "max number of collection has reached the limit"
OWN_LIMIT: Final = "database.max.collections"
"""Property of a database that stands for `Limits.collections_per_db` there (2.5)."""

_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a collection may take.

    `dml_channels`: rootCoord.dmlChannelNum; `shards`: proxy.maxShardNum; `collections_per_db`, `collections`:
    quotaAndLimits.limits.maxCollectionNumPerDB and .maxCollectionNum; `partitions`:
    rootCoord.maxPartitionNum.
    """

    dml_channels: int
    shards: int
    collections_per_db: int
    collections: int
    partitions: int


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """A collection to be made. Do not modify the messages in it.

    `schema` has all fields with their IDs, user fields first. `replicated_at`: hybrid timestamp that the
    collection got in the cluster it is replicated from, 0 if it is not.
    """

    db_id: int
    db_name: str
    schema: CollectionSchema
    partition_names: tuple[str, ...]
    shards_num: int
    consistency_level: int
    properties: tuple[KeyValuePair, ...]
    replicated_at: int = 0

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.schema.name


def define(
    tables: RootCoordTables, request: CreateCollectionRequest, *, limits: Limits, default_partition: str
) -> Definition:
    """Check a request and complete what it asks for. Whether the name is free is for `existing` to say.

    `default_partition`: common.defaultPartitionName.

    Raises:
        MilvusError: refused.
    """
    database = database_of(tables, request.db_name)
    check_msg_type(request.base, MsgType.CreateCollection)
    _check_shards(request.shards_num, limits)
    check_room(tables, database, limits)
    schema = _schema_of(request)
    return Definition(
        db_id=database.id,
        db_name=database.name,
        schema=schema,
        partition_names=_partition_names(request, schema, limits, default_partition),
        shards_num=max(request.shards_num, 1),
        consistency_level=request.consistency_level,
        properties=tuple(request.properties),
        replicated_at=_replicated_at(request),
    )


def as_kept(field: FieldSchema, field_id: int) -> FieldSchema:
    """A new message of what Milvus 2.3 keeps of a field."""
    return FieldSchema(
        fieldID=field_id,
        name=field.name,
        is_primary_key=field.is_primary_key,
        description=field.description,
        data_type=field.data_type,
        type_params=field.type_params,
        index_params=field.index_params,
        autoID=field.autoID,
        element_type=field.element_type,
        default_value=field.default_value if field.HasField("default_value") else None,
        is_dynamic=field.is_dynamic,
        is_partition_key=field.is_partition_key,
    )


def _check_shards(shards_num: int, limits: Limits) -> None:
    if shards_num > limits.dml_channels:
        raise MilvusError(f"shard num ({shards_num}) exceeds max configuration ({limits.dml_channels})")
    if shards_num > limits.shards:
        raise MilvusError(f"shard num ({shards_num}) exceeds system limit ({limits.shards})")


def check_room(tables: RootCoordTables, database: Database, limits: Limits) -> None:
    """Whether there may be one collection more. Only available ones count.

    Raises:
        MilvusError: there may not, or the database's own limit is no number.
    """
    limit = _limit_in(database, limits)
    if tables.collections.available_in_db(database.id) >= limit:
        raise CollectionNumLimitExceeded(limit=limit).wrap(f"{MAX_COLLECTIONS} in DB")
    if tables.collections.available_count >= limits.collections:
        raise CollectionNumLimitExceeded(limit=limits.collections).wrap(MAX_COLLECTIONS)


def room_left(tables: RootCoordTables, database: Database, limits: Limits) -> int:
    """How many collections more there may be in the database; 0 or less: none."""
    try:
        limit = _limit_in(database, limits)
    except MilvusError:
        return 0
    in_db = limit - tables.collections.available_in_db(database.id)
    return min(in_db, limits.collections - tables.collections.available_count)


def _limit_in(database: Database, limits: Limits) -> int:
    own = dict(database.properties).get(OWN_LIMIT, "")
    if not own:
        return limits.collections_per_db
    if not _WHOLE_NUMBER.fullmatch(own):
        raise MilvusError(f"parse value of property fail, key:{OWN_LIMIT}, value:{own}")
    return int(own)


def _schema_of(request: CreateCollectionRequest) -> CollectionSchema:
    asked = _parsed(request.schema)
    _check_schema(asked, request.collection_name)
    fields = list(asked.fields)
    if asked.enable_dynamic_field:
        fields.append(
            FieldSchema(name=DYNAMIC, description="dynamic schema", data_type=DataType.JSON, is_dynamic=True)
        )
    return CollectionSchema(
        name=asked.name,
        description=asked.description,
        autoID=asked.autoID,
        enable_dynamic_field=asked.enable_dynamic_field,
        fields=[*_numbered(fields), *_system_fields()],
    )


def _parsed(value: bytes) -> CollectionSchema:
    try:
        return CollectionSchema.FromString(value)
    except DecodeError as error:
        raise MilvusError("proto:\u00a0cannot parse invalid wire-format data") from error


def _check_schema(schema: CollectionSchema, collection_name: str) -> None:
    if collection_name != schema.name:
        error = ParameterInvalid(expected="collection name matches schema name", actual="don't match")
        raise error.wrap(f"collection name = {collection_name}, schema.Name={schema.name}")
    for field in schema.fields:
        check_default_value(field)
    if any(field.name in (ROW_ID, TIMESTAMP, DYNAMIC) for field in schema.fields):
        error = ParameterInvalid(expected="schema don't contains system field", actual="contains")
        raise error.wrap(f"schema contains system field: {ROW_ID}, {TIMESTAMP}, {DYNAMIC}")
    check_collection_name(schema.name)
    if not all(field.name for field in schema.fields):
        raise ParameterInvalid().wrap("field name should not be empty")


def _numbered(fields: Iterable[FieldSchema]) -> list[FieldSchema]:
    return [as_kept(field, field_id) for field_id, field in enumerate(fields, FIRST_USER_FIELD_ID)]


def _system_fields() -> tuple[FieldSchema, FieldSchema]:
    return (
        FieldSchema(fieldID=0, name=ROW_ID, description="row id", data_type=DataType.Int64),
        FieldSchema(fieldID=1, name=TIMESTAMP, description="time stamp", data_type=DataType.Int64),
    )


def _partition_names(
    request: CreateCollectionRequest, schema: CollectionSchema, limits: Limits, default_partition: str
) -> tuple[str, ...]:
    if not any(field.is_partition_key for field in schema.fields):
        return (default_partition,)
    count = request.num_partitions
    if count <= 0:
        raise MilvusError("the specified partitions should be greater than 0 if partition key is used")
    if count > limits.partitions:
        raise too_many_partitions(count, limits.partitions, request.collection_name)
    return tuple(f"{default_partition}_{number}" for number in range(count))


def too_many_partitions(count: int, limit: int, collection_name: str) -> MilvusError:
    """The refusal of a collection with `count` partitions, or of one more than `count`."""
    return MilvusError(
        f"partition number ({count}) exceeds max configuration ({limit}), collection: {collection_name}"
    )


def _replicated_at(request: CreateCollectionRequest) -> int:
    info = request.base.replicateInfo
    if not info.isReplicate:
        return 0
    if not info.msgTimestamp:
        raise ParameterInvalid().wrap("the cdc timestamp is not set in the request for the backup instance")
    return info.msgTimestamp
