"""CreateAlias, DropAlias and AlterAlias.

An alias is written where its collection lies: under its database, or without one if the collection is from
before databases. Other forms of the same alias that are stored are tombstoned with it.

Not Milvus': an alias whose collection is gone, or being dropped, is free; keys are exact (there, dropping
alias `a` deletes `ab` in etcd too, and writing an alias in any database deletes the old forms of one of that
name).

Source of truth: Milvus 2.3.5 internal/rootcoord/meta_table.go, internal/metastore/kv/rootcoord/kv_catalog.go;
texts recorded from a running 2.3.5.
"""

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import CREATED, DEFAULT_DB_NAME, CollectionRow, Database, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import MsgType
from coordd.pb.etcd_meta_pb2 import AliasInfo, AliasState, CollectionState
from coordd.pb.milvus_pb2 import AlterAliasRequest, CreateAliasRequest, DropAliasRequest
from coordd.rootcoord.collections.change import Change, tombstones
from coordd.rootcoord.collections.naming import check_alias, database_of, live_alias
from coordd.rootcoord.errors import check_msg_type, no_collection_with_name, no_database
from coordd.rpc.status import (
    AliasAlreadyExist,
    AliasCollectionNameConflict,
    AliasNotFound,
    CollectionNotFound,
)


def plan_create_alias(
    tables: RootCoordTables, layout: MetaLayout, request: CreateAliasRequest, timestamp: int
) -> Change:
    """Make an alias; no writes if it is there.

    Raises:
        MilvusError: refused.
    """
    check_msg_type(request.base, MsgType.CreateAlias)
    database = _database(tables, request.db_name)
    name, collection_name = request.alias, request.collection_name
    _check_no_collection(tables, database, name)
    missing = no_collection_with_name(database.name, collection_name)
    if not tables.collections.holders(database.id, collection_name):
        raise missing
    row = tables.collections.find(database.id, collection_name)
    names = (name, collection_name)
    alias = live_alias(tables, database.id, name)
    if alias is not None and row is not None and alias.collection_id == row.collection_id:
        return Change((), database.name, names)
    if alias is not None:
        other = tables.collections.get(alias.collection_id)
        text = f"{name} is alias to another collection: {'' if other is None else other.name}"
        raise AliasAlreadyExist(database=database.name, alias=name).wrap(text)
    if row is None:
        raise missing
    check_alias(name)
    return Change(_put(tables, layout, name, row, timestamp), database.name, names)


def plan_drop_alias(
    tables: RootCoordTables, layout: MetaLayout, request: DropAliasRequest, timestamp: int
) -> Change:
    """Delete an alias in all its forms; no writes if there is none.

    Raises:
        MilvusError: refused.
    """
    check_msg_type(request.base, MsgType.DropAlias)
    database = database_of(tables, request.db_name)
    keys = tables.aliases.keys_of(database.id, request.alias)
    alias = tables.aliases.get(database.id, request.alias)
    led_to = 0 if alias is None else alias.collection_id
    return Change(tombstones(layout, keys, timestamp), database.name, (request.alias,), led_to=led_to)


def plan_alter_alias(
    tables: RootCoordTables, layout: MetaLayout, request: AlterAliasRequest, timestamp: int
) -> Change:
    """Make an alias that exists lead to a collection, from now on.

    Raises:
        MilvusError: refused.
    """
    check_msg_type(request.base, MsgType.AlterAlias)
    database = _database(tables, request.db_name)
    name = request.alias
    _check_no_collection(tables, database, name)
    row = tables.collections.find(database.id, request.collection_name)
    if row is None:
        raise CollectionNotFound(collection=request.collection_name)
    alias = tables.aliases.get(database.id, name)
    if alias is None:
        raise AliasNotFound(database=database.name, alias=name)
    writes = _put(tables, layout, name, row, timestamp)
    return Change(writes, database.name, (name,), led_to=alias.collection_id)


def _database(tables: RootCoordTables, db_name: str) -> Database:
    database = tables.databases.by_name(db_name)
    if database is None:
        raise no_database(db_name or DEFAULT_DB_NAME)
    return database


def _check_no_collection(tables: RootCoordTables, database: Database, name: str) -> None:
    """A collection that is being created holds its name too."""
    live = (CREATED, CollectionState.CollectionCreating)
    if any(row.state in live for row in tables.collections.holders(database.id, name)):
        raise AliasCollectionNameConflict(database=database.name, alias=name)


def _put(
    tables: RootCoordTables, layout: MetaLayout, name: str, row: CollectionRow, ts: int
) -> tuple[Write, ...]:
    key = layout.alias(row.db_id, name)
    info = AliasInfo(
        alias_name=name,
        collection_id=row.collection_id,
        created_time=ts,
        state=AliasState.AliasCreated,
        db_id=row.db_id,
    )
    others = (one for one in tables.aliases.keys_of(row.home_db_id, name) if one != key)
    return (*plan_put(layout, key, encode_proto(info), ts), *tombstones(layout, others, ts))
