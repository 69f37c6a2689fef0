"""Databases: Create, Drop, List; of Milvus 2.5 AlterDatabase, DescribeDatabase, ShowCollectionIDs.

None checks the message type, as in Milvus. The proxies are told nothing: Milvus 2.3's RootCoord invalidates
no cache of theirs for a database, and its proxies know nothing of a database's properties.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; branch 2.5 internal/rootcoord/
{describe_db,alter_database}_task.go; recorded replies.
"""

from collections.abc import Callable

from coordd import clock
from coordd.config import LoadedConfig
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import Database, RootCoordTables
from coordd.pb.common_pb2 import KeyValuePair, Status
from coordd.pb.milvus_pb2 import (
    CreateDatabaseRequest,
    DropDatabaseRequest,
    ListDatabasesRequest,
    ListDatabasesResponse,
)
from coordd.pb.root_coord_pb2 import (
    AlterDatabaseRequest,
    DBCollections,
    DescribeDatabaseRequest,
    DescribeDatabaseResponse,
    ShowCollectionIDsRequest,
    ShowCollectionIDsResponse,
)
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.database_drop import DatabaseDrop
from coordd.rootcoord.databases import plan_alter, plan_create
from coordd.rootcoord.ddl import Asked, Ddl
from coordd.rootcoord.errors import no_database
from coordd.rootcoord.handlers.changing import PEERS_PATIENCE_S, asked_by, change, deadline_of, why_not
from coordd.rootcoord.operations import Operations
from coordd.rpc.call import Call
from coordd.rpc.status import success

log = get_logger("coordd.rootcoord.databases")


class DatabaseHandlers:
    """`_ddl` and `_operations` give the changes of the present term, `_config` the present settings."""

    _tables: RootCoordTables
    _layout: MetaLayout
    _ddl: Callable[[], Ddl]
    _operations: Callable[[], Operations]
    _config: Callable[[], LoadedConfig]

    async def create_database(self, request: CreateDatabaseRequest, call: Call) -> Status:
        """Create a database. Once it exists another call is refused, as in Milvus; a repetition is not."""
        name = request.db_name
        revision = await self._change(
            call,
            lambda stamp: plan_create(
                self._tables,
                self._layout,
                name,
                stamp,
                limit=self._config().settings.root_coord.max_database_num,
                now_ns=clock.unix_ns(),
                properties=request.properties,
            ),
            asked_by(call, lambda: self._tables.databases.by_name(name) is not None, base=request.base),
        )
        log.info("database created", database=name, revision=revision)
        return success()

    async def drop_database(self, request: DropDatabaseRequest, call: Call) -> Status:
        """Drop a database that has no available collections; waits for those that are being created.

        Idempotent.
        """
        name, deadline = request.db_name, deadline_of(call, PEERS_PATIENCE_S)
        with why_not():
            ddl, operations = self._ddl(), self._operations()
            drop = DatabaseDrop(self._tables, self._layout, ddl, operations, name, deadline)
            revision = await drop.carry_out()
        if revision:
            log.info("database dropped", database=name, revision=revision)
        return success()

    async def alter_database(self, request: AlterDatabaseRequest, call: Call) -> Status:
        """Set properties of a database, or take some away. Idempotent."""
        revision = await self._change(
            call, lambda stamp: plan_alter(self._tables, self._layout, request, stamp)
        )
        if revision:
            log.info("database altered", database=request.db_name, revision=revision)
        return success()

    def describe_database(self, request: DescribeDatabaseRequest, _call: Call) -> DescribeDatabaseResponse:
        """ID, creation time (Unix nanoseconds) and properties of one database."""
        database = self._database(request.db_name)
        return DescribeDatabaseResponse(
            status=success(),
            db_name=database.name,
            dbID=database.id,
            created_timestamp=database.created_time,
            properties=[KeyValuePair(key=key, value=value) for key, value in database.properties],
        )

    def list_databases(self, _request: ListDatabasesRequest, _call: Call) -> ListDatabasesResponse:
        """Names and creation times (Unix nanoseconds)."""
        databases = list(self._tables.databases)
        return ListDatabasesResponse(
            status=success(),
            db_names=[database.name for database in databases],
            created_timestamp=[database.created_time for database in databases],
        )

    def show_collection_ids(
        self, request: ShowCollectionIDsRequest, _call: Call
    ) -> ShowCollectionIDsResponse:
        """IDs of the collections of some databases, of all if none is named; without names and schemas."""
        wanted = list(self._tables.databases)
        if request.db_names:
            wanted = [self._database(name) for name in request.db_names]
        collections = self._tables.collections
        return ShowCollectionIDsResponse(
            status=success(),
            db_collections=[
                DBCollections(
                    db_name=database.name,
                    collectionIDs=[
                        row.collection_id
                        for row in collections.in_db(database.id, available_only=not request.allowUnavailable)
                    ],
                )
                for database in wanted
            ],
        )

    def _database(self, name: str) -> Database:
        database = self._tables.databases.by_name(name)
        if database is None:
            raise no_database(name)
        return database

    async def _change(self, call: Call, decide: Decide, asked: Asked | None = None) -> int:
        return await change(self._ddl, decide, call, asked)
