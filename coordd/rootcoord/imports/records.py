"""The records of import tasks and how they change: transactions under the fence, one after the other.

Each is decided upon the table, in its turn (`Ddl` with a mark of its own, so it waits for no other kind of
change), and nothing of a task is kept elsewhere.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from coordd import clock
from coordd.config import LoadedConfig
from coordd.etcd import Delete, Put
from coordd.log import get_logger
from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import ImportState
from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.pb.milvus_pb2 import ImportRequest
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.ddl import Asked, Ddl
from coordd.rootcoord.imports.agenda import Agenda, agenda
from coordd.rootcoord.imports.requests import made_before, plan_task
from coordd.rootcoord.imports.states import PENDING, Event, Outcome, advance
from coordd.rootcoord.lookup import CollectionLookup, Wanted
from coordd.rpc.status import CollectionNotFound

log = get_logger("coordd.rootcoord.imports")

MAX_FORGOTTEN: Final = 100
"""Records deleted in one transaction; etcd takes 128 operations."""


class ImportRecords:
    """The records of one term.

    Each `deadline` is in seconds on CLOCK_BOOTTIME. What changes something raises the errors of
    `Ddl.carry_out` besides its own.
    """

    def __init__(
        self, tables: RootCoordTables, layout: MetaLayout, config: Callable[[], LoadedConfig], ddl: Ddl
    ) -> None:
        self._tables = tables
        self._layout = layout
        self._config = config
        self._ddl = ddl
        self._lookup = CollectionLookup(tables)

    def due(self, data_nodes: Collection[int] | None) -> Agenda:
        """What is to be done now. `data_nodes`: the IDs of those that live; None: that is not known."""
        settings = self._config().settings.root_coord
        return agenda(
            self._tables.import_tasks,
            now_s=now_s(),
            expiration_s=settings.import_task_expiration_s,
            retention_s=settings.import_task_retention_s,
            data_nodes=data_nodes,
        )

    def made_before(self, request: ImportRequest) -> ImportTaskInfo | None:
        """The task that may be this very request's; see `coordd.rootcoord.imports.requests`."""
        try:
            row = self._lookup.now(Wanted(request.db_name, request.collection_name, 0))
        except CollectionNotFound:
            return None
        return made_before(request, row.collection_id, self._tables.import_tasks)

    async def create(self, request: ImportRequest, asked: Asked, *, deadline: float) -> ImportTaskInfo:
        """Write the task of a request. `asked`: the call, whose repetition gets the task that is there.

        Raises:
            MilvusError: refused.
        """
        settings = self._config().settings
        made: list[ImportTaskInfo] = []

        def decide(stamp: Stamp) -> Sequence[Write]:
            if self._ddl.is_repetition(asked, stamp.timestamp) and (former := self.made_before(request)):
                made[:] = [former]
                return ()
            wanted = Wanted(request.db_name, request.collection_name, 0)
            task = plan_task(
                request,
                self._lookup.view(self._lookup.now(wanted)),
                task_id=stamp.id,
                now_s=now_s(),
                default_partition=settings.common.default_partition_name,
                pending=sum(task.state.stateCode == PENDING for task in self._tables.import_tasks),
                limit=settings.root_coord.import_max_pending_task_count,
            )
            made[:] = [task]
            return [self._put(task)]

        revision = await self._ddl.carry_out(decide, deadline=deadline, asked=asked)
        [task] = made
        what = "import task taken" if revision else "a repeated import finds its task"
        log.info(what, task=task.id, collection_id=task.collection_id, files=list(task.files))
        return task

    async def advance(self, task_id: int, event: Event, *, deadline: float) -> Outcome | None:
        """Write what an event makes of a task; None if there is no such task.

        Raises:
            IllegalTransition: the event cannot happen to it.
        """
        came: list[tuple[int, Outcome]] = []

        def decide(_stamp: Stamp) -> Sequence[Write]:
            came.clear()
            task = self._tables.import_tasks.get(task_id)
            if task is None:
                return ()
            outcome = advance(task, event)
            came.append((task.state.stateCode, outcome))
            return () if outcome.task is None else [self._put(outcome.task)]

        await self._ddl.carry_out(decide, deadline=deadline)
        if not came:
            return None
        [(before, outcome)] = came
        after = outcome.task
        if after is not None and after.state.stateCode != before:
            log.info(
                "import task goes on",
                task=task_id,
                was=ImportState.Name(before),
                state=ImportState.Name(after.state.stateCode),
                because=event.kind.value,
                node=after.datanode_id,
                reason=after.state.error_message,
            )
        return outcome

    async def forget(self, ids: Collection[int], *, deadline: float) -> None:
        """Delete records, `MAX_FORGOTTEN` at most. Idempotent."""
        forgotten: list[int] = []

        def decide(_stamp: Stamp) -> Sequence[Write]:
            present = [one for one in sorted(ids) if self._tables.import_tasks.get(one) is not None]
            forgotten[:] = present[:MAX_FORGOTTEN]
            return [Delete(self._layout.import_task(task_id)) for task_id in forgotten]

        await self._ddl.carry_out(decide, deadline=deadline)
        if forgotten:
            log.info("old import tasks forgotten", tasks=len(forgotten))

    def _put(self, task: ImportTaskInfo) -> Put:
        return Put(self._layout.import_task(task.id), encode_proto(task))


def now_s() -> int:
    """Unix seconds, as the records have them."""
    return clock.unix_ms() // 1000
