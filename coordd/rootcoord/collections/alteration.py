"""AlterCollection and RenameCollection.

Only the collection's own key changes, so partitions that are being created or dropped stay as they are. A
rename moves the key to the target's database; one from before databases becomes a modern one of the default
database by that, as in Milvus.

Not Milvus': the new properties are written (2.3.5 keeps them in memory until it restarts), in the order they
were first set; nothing is written if nothing changes; a collection from before databases may be renamed while
it has aliases.

Source of truth: Milvus 2.3.5 internal/rootcoord/{alter_collection_task,rename_collection_task,meta_table}.go;
texts recorded from a running 2.3.5.
"""

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import KeyValuePair, MsgType
from coordd.pb.milvus_pb2 import AlterCollectionRequest, RenameCollectionRequest
from coordd.rootcoord.collections.change import Change, info_of, put_collection, time_of, tombstones
from coordd.rootcoord.collections.naming import check_collection_name, collection_named, dead_alias_keys
from coordd.rootcoord.errors import check_msg_type
from coordd.rpc.status import MilvusError


def plan_alter(
    tables: RootCoordTables, layout: MetaLayout, request: AlterCollectionRequest, timestamp: int
) -> Change:
    """Set properties of a collection; those that the request does not name stay. The type is not checked.

    Raises:
        MilvusError: refused.
    """
    if not request.collection_name:
        raise MilvusError("alter collection failed, collection name does not exists")
    if not request.properties:
        raise MilvusError("only support alter collection properties, but collection properties is empty")
    db_name = request.db_name or DEFAULT_DB_NAME
    row = collection_named(tables, db_name, request.collection_name, timestamp)
    info = info_of(row)
    old = {pair.key: pair.value for pair in info.properties}
    new = {**old, **{pair.key: pair.value for pair in request.properties}}
    writes: tuple[Write, ...] = ()
    if new != old:
        del info.properties[:]
        info.properties.extend(KeyValuePair(key=key, value=value) for key, value in new.items())
        writes = put_collection(layout, row, info, timestamp)
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
        *plan_put(layout, key, encode_proto(info), ts, newest_ts=ts),
        *tombstones(layout, old_keys, ts),
        *tombstones(layout, dead_alias_keys(tables, target.id, new_name), timestamp),
    )
    return Change(writes, db_name, (old_name,), row.collection_id)
