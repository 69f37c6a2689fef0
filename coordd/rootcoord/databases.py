"""CreateDatabase, DropDatabase and AlterDatabase decided: pure functions from tables to writes, or a refusal.

Refusals, their order and their texts are Milvus', and so are the oddities: the limit comes before the check
for an existing name, and is passed only when more than the limit exist already (the default one counts); a
name is not checked, which is the proxy's business; dropping what does not exist succeeds; collections that
are being dropped do not keep a database. Not Milvus': the empty name, which all requests use for the default
database. RootCoord there creates a database that nobody can name, and drops the default one if that has no
collections. Here it is refused in the words of Milvus' proxy.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create_db,drop_db}_task.go, meta_table.go; texts and values
recorded from a running 2.3.5; branch 2.5 internal/rootcoord/alter_database_task.go for AlterDatabase.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_delete, plan_put
from coordd.meta.tables import DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState
from coordd.pb.root_coord_pb2 import AlterDatabaseRequest
from coordd.rpc.status import (
    DatabaseInvalidName,
    DatabaseNotFound,
    DatabaseNumLimitExceeded,
    MilvusError,
)

REPLICATE_ID = "replicate.id"
REPLICATE_END = "replicate.endTS"
"""Properties of a database that mirrors another cluster's; setting the end takes the ID away."""


class Stamp(NamedTuple):
    """What a change gets from the oracle: a hybrid timestamp and a unique ID, both fresh."""

    timestamp: int
    id: int


def plan_create(
    tables: RootCoordTables,
    layout: MetaLayout,
    name: str,
    stamp: Stamp,
    *,
    limit: int,
    now_ns: int,
    properties: Iterable[KeyValuePair] = (),
) -> Sequence[Write]:
    """The writes that create a database; keep them in one transaction.

    `limit`: rootCoord.maxDatabaseNum. `now_ns`: Unix nanoseconds, the creation time that clients see.
    `properties`: of Milvus 2.5; its proxy has checked them.

    Raises:
        MilvusError: refused.
    """
    _check_name(name)
    if len(tables.databases) > limit:
        raise DatabaseNumLimitExceeded(limit=limit)
    if tables.databases.by_name(name) is not None:
        raise MilvusError(f"database already exist: {name}")
    info = DatabaseInfo(
        name=name,
        id=stamp.id,
        state=DatabaseState.DatabaseCreated,
        created_time=now_ns,
        properties=properties,
    )
    return plan_put(layout, layout.database(stamp.id), encode_proto(info), stamp.timestamp)


def plan_drop(tables: RootCoordTables, layout: MetaLayout, name: str, stamp: Stamp) -> Sequence[Write]:
    """The writes that drop a database, none if it does not exist; keep them in one transaction.

    Raises:
        MilvusError: refused.
    """
    _check_name(name)
    if name == DEFAULT_DB_NAME:
        raise MilvusError("can not drop default database")
    database = tables.databases.by_name(name)
    if database is None:
        return ()
    if tables.collections.any_available(database.id):
        raise MilvusError(f"database:{name} not empty, must drop all collections before drop database")
    return plan_delete(layout, layout.database(database.id), stamp.timestamp)


def plan_alter(
    tables: RootCoordTables, layout: MetaLayout, request: AlterDatabaseRequest, stamp: Stamp
) -> Sequence[Write]:
    """The writes that set or delete properties of a database, none if it has them so; in one transaction.

    Raises:
        MilvusError: refused.
    """
    name, asked, gone = request.db_name, request.properties, set(request.delete_keys)
    if not name:
        raise MilvusError("alter database failed, database name does not exists")
    database = tables.databases.by_name(name)
    if any(pair.key == REPLICATE_ID and pair.value for pair in asked):
        if database is None:
            raise DatabaseNotFound(database=name)
        if tables.collections.any_available(database.id):
            raise MilvusError("can't set replicate id on database with collections")
    if not asked and not gone:
        raise MilvusError(
            "alter database requires either properties or deletekeys to modify or delete keys,"
            " both cannot be empty"
        )
    if asked and gone:
        raise MilvusError(
            "alter database operation cannot modify properties and delete keys at the same time"
        )
    if database is None:
        raise DatabaseNotFound(database=name)
    properties = dict(database.properties)
    properties.update((pair.key, pair.value) for pair in asked)
    if any(pair.key == REPLICATE_END for pair in asked):
        properties[REPLICATE_ID] = ""
    if not asked:
        properties = {key: value for key, value in properties.items() if key not in gone}
    if tuple(properties.items()) == database.properties:
        return ()
    info = DatabaseInfo(
        tenant_id=database.tenant_id,
        name=name,
        id=database.id,
        state=cast("DatabaseState", database.state),
        created_time=database.created_time,
        properties=[KeyValuePair(key=key, value=value) for key, value in properties.items()],
    )
    return plan_put(layout, layout.database(database.id), encode_proto(info), stamp.timestamp)


def _check_name(name: str) -> None:
    if not name:
        raise DatabaseInvalidName(database="").wrap("database name couldn't be empty")
