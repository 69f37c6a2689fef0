"""AlterCollection, AlterCollectionField and RenameCollection.

Only the collection's own key, or that of the field, changes, so partitions that are being created or dropped
stay as they are. A rename moves the key to the target's database; one from before databases becomes a modern
one of the default database by that, as in Milvus.

Not Milvus': the new properties are written (2.3.5 keeps them in memory until it restarts), in the order they
were first set; nothing is written if nothing changes; a collection from before databases may be renamed while
it has aliases; a request that sets properties of a field and deletes others does both (2.5 only sets).

Of what 2.5 does here this is not done, since it takes other processes of 2.5, or more than metadata:

* numbers of replicas and resource groups (`….replica.number`, `….resource_groups`) are kept as any property:
  the QueryCoord of 2.3 has no UpdateLoadConfig to be told by;
* `replicate.id` is kept: the message that ends a replication is for a reader outside the cluster;
* `UpdateTimestamp` of a collection stays: clients of 2.5 compare it, unless it is 0.

Source of truth: Milvus 2.3.5 internal/rootcoord/{alter_collection_task,rename_collection_task,meta_table}.go;
texts recorded from a running 2.3.5; branch 2.5 internal/rootcoord/alter_collection_task.go for fields, keys
to delete and consistency levels.
"""

from collections.abc import Collection, Iterable
from typing import Final

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import DEFAULT_DB_NAME, CollectionRow, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ConsistencyLevel, KeyValuePair, MsgType
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.pb.milvus_pb2 import (
    AlterCollectionFieldRequest,
    AlterCollectionRequest,
    RenameCollectionRequest,
)
from coordd.pb.schema_pb2 import FieldSchema
from coordd.rootcoord.collections.change import Change, info_of, put_collection, time_of, tombstones
from coordd.rootcoord.collections.naming import check_collection_name, collection_named, dead_alias_keys
from coordd.rootcoord.errors import check_msg_type
from coordd.rootcoord.lookup import CollectionLookup
from coordd.rpc.status import MilvusError, ParameterInvalid

CONSISTENCY_LEVEL: Final = "consistency_level"
"""The property that also sets the level of searches that name none (2.5)."""


def plan_alter(
    tables: RootCoordTables, layout: MetaLayout, request: AlterCollectionRequest, timestamp: int
) -> Change:
    """Set properties of a collection, or delete some (2.5); the others stay. The type is not checked.

    What a property means, and which values it may have, is for others to say, who are told all of them; but
    `CONSISTENCY_LEVEL` is for RootCoord.

    Raises:
        MilvusError: refused.
    """
    asked, gone = request.properties, request.delete_keys
    if not request.collection_name:
        raise MilvusError("alter collection failed, collection name does not exists")
    if not asked and not gone:
        raise MilvusError("only support alter collection properties, but collection properties is empty")
    if asked and gone:
        raise MilvusError("can not provide properties and deletekeys at the same time")
    db_name = request.db_name or DEFAULT_DB_NAME
    row = collection_named(tables, db_name, request.collection_name, timestamp)
    info = info_of(row)
    writes = put_collection(layout, row, info, timestamp) if _alter(info, asked, gone) else ()
    return Change(writes, db_name, (row.name,), row.collection_id)


def plan_alter_field(
    tables: RootCoordTables, layout: MetaLayout, request: AlterCollectionFieldRequest, timestamp: int
) -> Change:
    """Set type parameters of a field, and delete some. Which ones may be changed is the proxy's business.

    Raises:
        MilvusError: refused.
        DamagedMetadata: the fields that are there cannot all be read.
    """
    asked, gone = request.properties, request.delete_keys
    if not request.collection_name:
        raise MilvusError("alter collection field failed, collection name does not exists")
    if not request.field_name:
        raise MilvusError("alter collection field failed, filed name does not exists")
    if not asked and not gone:
        raise MilvusError(
            "The field properties to alter and keys to delete must not be empty at the same time"
        )
    db_name = request.db_name or DEFAULT_DB_NAME
    row = collection_named(tables, db_name, request.collection_name, timestamp)
    fields = CollectionLookup(tables).view(row).fields
    field = next((one for one in fields if one.name == request.field_name), None)
    if field is None:
        raise ParameterInvalid().wrap(f"field {request.field_name} does not exist in collection")
    params = _changed(field.type_params, asked, gone)
    writes = () if params is None else _put_params(layout, row, field, params, timestamp)
    return Change(writes, db_name, (row.name,), row.collection_id)


def plan_rename(
    tables: RootCoordTables, layout: MetaLayout, request: RenameCollectionRequest, timestamp: int
) -> Change:
    """Give a collection another name, and move it to another database if the request names one.

    Raises:
        MilvusError: refused.
    """
    check_msg_type(request.base, MsgType.RenameCollection)
    db_name, old_name = request.db_name or DEFAULT_DB_NAME, request.oldName
    new_db_name, new_name = request.newDBName or db_name, request.newName
    target = tables.databases.by_name(new_db_name)
    if target is None:
        raise MilvusError(f"target database:{new_db_name} not found")
    source = tables.databases.by_name(db_name)
    if source is not None and tables.aliases.get(source.id, old_name) is not None:
        raise MilvusError(f"unsupported use an alias to rename collection, alias:{old_name}")
    if tables.resolve(target.id, new_name) is not None:
        raise MilvusError(
            f"duplicated new collection name {new_db_name}:{new_name} with other collection name or alias"
        )
    row = collection_named(tables, db_name, old_name, timestamp)
    if target.id != row.home_db_id and tables.aliases.of_collection(row.collection_id):
        raise MilvusError("fail to rename db name, must drop all aliases of this collection before rename")
    check_collection_name(new_name)
    info = info_of(row)
    info.schema.name, info.db_id = new_name, target.id
    key, ts = layout.collection(target.id, row.collection_id), time_of(row, timestamp)
    old_keys = (one for one in tables.collections.keys_of(row.collection_id) if one != key)
    writes = (
        *plan_put(layout, key, encode_proto(info), ts),
        *tombstones(layout, old_keys, ts),
        *tombstones(layout, dead_alias_keys(tables, target.id, new_name), timestamp),
    )
    return Change(writes, db_name, (old_name,), row.collection_id)


def _alter(info: CollectionInfo, asked: Collection[KeyValuePair], gone: Collection[str]) -> bool:
    """Set and delete properties, and the consistency level if it is one of them; whether anything changes."""
    properties, level = _changed(info.properties, asked, gone), _level_in(asked)
    if properties is not None:
        del info.properties[:]
        info.properties.extend(properties)
    if level is None or level == info.consistency_level:
        return properties is not None
    info.consistency_level = level
    return True


def _level_in(asked: Iterable[KeyValuePair]) -> ConsistencyLevel | None:
    """The level that the properties ask for, by name or number; None if by neither, as in Milvus."""
    said = {pair.key: pair.value for pair in asked}.get(CONSISTENCY_LEVEL)
    names = {text: name for name, level in ConsistencyLevel.items() for text in (name, str(level))}
    return ConsistencyLevel.Value(names[said]) if said in names else None


def _changed(
    before: Iterable[KeyValuePair], asked: Iterable[KeyValuePair], gone: Collection[str]
) -> list[KeyValuePair] | None:
    """`before` with some set and some deleted, in the order they were first set; None if it is as before."""
    old = {pair.key: pair.value for pair in before}
    new = {**old, **{pair.key: pair.value for pair in asked}}
    new = {key: value for key, value in new.items() if key not in gone}
    return None if new == old else [KeyValuePair(key=key, value=value) for key, value in new.items()]


def _put_params(
    layout: MetaLayout, row: CollectionRow, field: FieldSchema, params: list[KeyValuePair], timestamp: int
) -> tuple[Write, ...]:
    """Rewrite the field where it is kept: in its own key or, from before Milvus 2.1, in the collection's."""
    if row.inline_partitions is not None:
        info = info_of(row)
        for one in info.schema.fields:
            if one.name == field.name:
                _set_params(one, params)
        return put_collection(layout, row, info, timestamp)
    changed = FieldSchema.FromString(encode_proto(field))
    _set_params(changed, params)
    key, ts = layout.field(row.collection_id, field.fieldID), time_of(row, timestamp)
    return plan_put(layout, key, encode_proto(changed), ts)


def _set_params(field: FieldSchema, params: list[KeyValuePair]) -> None:
    del field.type_params[:]
    field.type_params.extend(params)
