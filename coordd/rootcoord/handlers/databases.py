"""CreateDatabase, DropDatabase and ListDatabases. They do not check the message type, as in Milvus.

The proxies are told nothing: Milvus 2.3's RootCoord invalidates no cache of theirs for a database.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; recorded replies.
"""

from collections.abc import Callable

from coordd import clock
from coordd.config import LoadedConfig
from coordd.log import get_logger
from coordd.meta.commit import TIMEOUT_S
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    CreateDatabaseRequest,
    DropDatabaseRequest,
    ListDatabasesRequest,
    ListDatabasesResponse,
)
from coordd.rootcoord.databases import plan_create, plan_drop
from coordd.rootcoord.ddl import Ddl, Decide
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.oracle import NotHandedOutError, TermOverError
from coordd.rpc.call import Call
from coordd.rpc.status import ServiceUnavailable, success

log = get_logger("coordd.rootcoord.databases")

MARGIN_S = 0.2
"""Kept back of the caller's deadline, so that it learns why its change was not made, or may not have been."""


class DatabaseHandlers:
    """`_ddl` gives the changes of the present term, `_config` the present settings."""

    _tables: RootCoordTables
    _layout: MetaLayout
    _ddl: Callable[[], Ddl]
    _config: Callable[[], LoadedConfig]

    async def create_database(self, request: CreateDatabaseRequest, call: Call) -> Status:
        """Create a database. Not idempotent: once it exists, a repeated call is refused, as in Milvus."""
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
            ),
        )
        log.info("database created", database=name, revision=revision)
        return success()

    async def drop_database(self, request: DropDatabaseRequest, call: Call) -> Status:
        """Drop a database that has no available collections. Idempotent."""
        name = request.db_name
        revision = await self._change(call, lambda stamp: plan_drop(self._tables, self._layout, name, stamp))
        if revision:
            log.info("database dropped", database=name, revision=revision)
        return success()

    def list_databases(self, _request: ListDatabasesRequest, _call: Call) -> ListDatabasesResponse:
        """Names and creation times (Unix nanoseconds)."""
        databases = list(self._tables.databases)
        return ListDatabasesResponse(
            status=success(),
            db_names=[database.name for database in databases],
            created_timestamp=[database.created_time for database in databases],
        )

    async def _change(self, call: Call, decide: Decide) -> int:
        """Raises what the chain translates: refusals, and why etcd does not take the change."""
        try:
            return await self._ddl().carry_out(decide, deadline=_deadline(call))
        except TermOverError as error:
            raise elsewhere(error) from error
        except NotHandedOutError as error:
            raise ServiceUnavailable(f"no timestamp or ID for the change: {error}") from error


def _deadline(call: Call) -> float:
    return clock.boottime() + TIMEOUT_S if call.deadline is None else call.deadline - MARGIN_S
