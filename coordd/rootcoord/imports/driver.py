"""Import tasks of one term: taken, reported on, given to data nodes, flushed, shown, cleaned up.

What other processes are asked for comes out of the table anew each round, whatever woke the driver. So a next
term goes on where this one stopped, and a round that fails, for want of a DataCoord say, is made again.

| state | what is done |
|---|---|
| waiting | DataCoord gives it to a data node that is not busy; a refusal is no failure, it waits |
| persisted | its segments are sealed; once they are flushed it is Flushed |
| flushed | its segments are shown, those that are not compacted by now; then it is Completed |
| expired, deserted | Failed |
| failed | its segments are dropped, every `CLEAN_EVERY_S`: clients see Failed for a while first |
| old | forgotten |

DataCoord is asked only while this replica may act. That is no fence, and need not be one: a call of one that
is deposed can give a task away twice, which `states` allows for, show segments that belong to the task for
good, or drop some that belong to none.

Not Milvus': segments whose state is not known are waited for, not taken for flushed; the report that a task
is persisted is answered before its segments are sealed, since that goes on here until it succeeds; a task is
Completed only when its segments are shown; segments of a failed task are dropped (2.3.5 leaves them).

Source of truth: Milvus 2.3.5 internal/rootcoord/import_manager.go, root_coord.go.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.commit import FenceLost
from coordd.pb.common_pb2 import SegmentState
from coordd.pb.data_coord_pb2 import (
    FlushResponse,
    ImportTask,
    ImportTaskInfo,
    ImportTaskResponse,
    SegmentStateInfo,
)
from coordd.pb.milvus_pb2 import ImportRequest
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rootcoord.ddl import Asked
from coordd.rootcoord.imports.agenda import Agenda
from coordd.rootcoord.imports.records import ImportRecords, now_s
from coordd.rootcoord.imports.states import Event, IllegalTransition, Kind, reported, unknown_task
from coordd.rootcoord.oracle import TermOverError
from coordd.rpc.status import MilvusError, is_success

log = get_logger("coordd.rootcoord.imports")

CALL_TIMEOUT_S: Final = 10.0
"""What a call to DataCoord may take before the round is given up and made again."""
FLUSH_EVERY_S: Final = 1.0
"""Between two looks at the segments of persisted tasks (Milvus: 2 s)."""
GIVE_EVERY_S: Final = 10.0
"""Between two tries to give away a task that no data node was free for (Milvus: 60 s)."""
CLEAN_EVERY_S: Final = 300.0
"""Between two removals of what failed tasks have left, as in Milvus."""
MAX_DROPPED: Final = 10_000
"""Segments without a task that are remembered; those beyond stay in DataCoord, which shows them to nobody."""

_LOST: Final = (SegmentState.Dropped, SegmentState.NotExist)
_UNSEALED: Final = frozenset({SegmentState.Importing, SegmentState.Growing})
_FLUSHED: Final = frozenset({SegmentState.Flushing, SegmentState.Flushed})
"""On the way there counts, as in Milvus: no row is added any more."""


class DataCoord(Protocol):
    """What is asked of DataCoord; see `coordd.rootcoord.peers.DataCoordClient`."""

    async def import_task(
        self, task: ImportTask, busy_nodes: Sequence[int] = (), *, deadline: float
    ) -> ImportTaskResponse:
        """Give a task to a data node."""

    async def flush_imported(
        self, collection_id: int, segment_ids: Sequence[int], *, deadline: float
    ) -> FlushResponse:
        """Seal segments."""

    async def segment_states(
        self, segment_ids: Sequence[int], *, deadline: float
    ) -> Sequence[SegmentStateInfo]:
        """What has become of segments."""

    async def unset_is_importing(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        """Show segments."""

    async def mark_segments_dropped(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        """Remove segments."""


class Imports:
    """See the module. `data_nodes`: the IDs of those that live, None if that is not known; `may_act_s`: for
    how many seconds this replica may act outward, 0 for not now."""

    def __init__(
        self,
        records: ImportRecords,
        data_coord: DataCoord,
        data_nodes: Callable[[], Collection[int] | None],
        may_act_s: Callable[[], float],
    ) -> None:
        self._records = records
        self._data_coord = data_coord
        self._data_nodes = data_nodes
        self._may_act_s = may_act_s
        self._woken = asyncio.Event()
        self._trouble = Trouble()
        self._refusals: dict[int, tuple[str, str]] = {}  # by task: what was refused last, and why
        self._dropped: set[int] = set()
        self._give_at = 0.0
        self._clean_at = boottime() + CLEAN_EVERY_S

    # --- what others ask for ---

    def made_before(self, request: ImportRequest) -> bool:
        """Whether there is a task that may be this very request's."""
        return self._records.made_before(request) is not None

    async def create(self, request: ImportRequest, asked: Asked, *, deadline: float) -> int:
        """Take a request; returns the ID of its task, which is written. Not idempotent, as in Milvus.

        `asked`: the call; repeated because a term ended before it was answered, it gets the task that it has
        made. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            MilvusError: refused.
            CoorddError: see `Ddl.carry_out`.
        """
        task = await self._records.create(request, asked, deadline=deadline)
        self._wake()
        return task.id

    async def report(self, report: ImportResult, *, deadline: float) -> None:
        """Take a data node's report. Idempotent. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            MilvusError: the task is unknown or has failed.
            CoorddError: see `Ddl.carry_out`.
        """
        event = reported(report, now_s())
        outcome = await self._records.advance(report.task_id, event, deadline=deadline)
        if outcome is None:
            raise unknown_task(report.task_id)
        if len(self._dropped) + len(outcome.dropped) <= MAX_DROPPED:
            self._dropped.update(outcome.dropped)
        if outcome.dropped or event.kind is not Kind.PROGRESS:
            self._wake()
        if outcome.refusal is not None:
            raise outcome.refusal

    # --- what is done without being asked ---

    async def run(self) -> None:
        """Do what is to be done, until cancelled.

        Raises:
            FenceLost: the term is over.
        """
        while True:
            pause_s = FLUSH_EVERY_S
            if self._may_act_s() > 0:
                pause_s = await self._round()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            self._woken.clear()

    async def _round(self) -> float:
        """Do what is due; returns after how many seconds to look again, unless woken before."""
        try:
            await self._tidy(self._due())
            await self._ask_data_coord()
        except FenceLost:
            raise
        except CoorddError as error:
            if self._trouble.is_news(error):
                log.warning("import tasks have to wait", reason=str(error))
            return FLUSH_EVERY_S
        self._trouble.over()
        return self._pause_s(self._due())

    def _pause_s(self, due: Agenda) -> float:
        """What has come due in the middle of the round is not left for long."""
        if due.expired or due.deserted or due.persisted or due.flushed:
            return FLUSH_EVERY_S
        if due.waiting or due.started or self._dropped:
            return GIVE_EVERY_S
        return CLEAN_EVERY_S

    async def _tidy(self, due: Agenda) -> None:
        """What needs nobody else."""
        for task in due.expired:
            await self._happened(task, Kind.TIMED_OUT)
        for task in due.deserted:
            await self._happened(task, Kind.NODE_LOST)
        if due.old:
            await self._records.forget({task.id for task in due.old}, deadline=_soon())

    async def _ask_data_coord(self) -> None:
        for task in self._due().persisted:
            await self._unless_refused("flush", self._flush(task), task.id)
        for task in self._due().flushed:
            await self._unless_refused("show", self._show(task), task.id)
        await self._give_away()
        if self._dropped:
            await self._unless_refused("drop", self._drop_orphans())
        if boottime() >= self._clean_at:
            for task in self._due().failed:
                await self._unless_refused("clean up", self._clean(task), task.id)
            self._clean_at = boottime() + CLEAN_EVERY_S

    async def _give_away(self) -> None:
        if boottime() < self._give_at:
            return
        while (due := self._due()).waiting:
            task = due.waiting[0]
            self._check_may_act()
            answer = await self._data_coord.import_task(_order(task), due.busy_nodes, deadline=_soon())
            if not is_success(answer.status):
                self._note_refusal("give to a data node", task.id, answer.status.reason)
                self._give_at = boottime() + GIVE_EVERY_S
                return
            self._refusals.pop(task.id, None)
            await self._happened(task, Kind.GIVEN, node_id=answer.datanode_id)

    async def _flush(self, task: ImportTaskInfo) -> None:
        """Seal the segments of a persisted task, or see that they are flushed, or lost."""
        segments = list(task.state.segments)
        states = set((await self._states(segments)).values())
        if not states.isdisjoint(_LOST):
            await self._happened(task, Kind.SEGMENTS_LOST)
            return
        if not states.isdisjoint(_UNSEALED):
            self._check_may_act()
            await self._data_coord.flush_imported(task.collection_id, segments, deadline=_soon())
        if states <= _FLUSHED:
            await self._happened(task, Kind.FLUSHED)
            self._give_at = 0.0  # a data node is free

    async def _show(self, task: ImportTaskInfo) -> None:
        """Show the segments of a flushed task. A former term may have: some may be compacted by now."""
        states = await self._states(task.state.segments)
        segments = [segment for segment, state in states.items() if state not in _LOST]
        if segments:
            self._check_may_act()
            await self._data_coord.unset_is_importing(segments, deadline=_soon())
        await self._happened(task, Kind.SHOWN)

    async def _states(self, segments: Sequence[int]) -> dict[int, int]:
        """The states of segments by ID, in the order given; SegmentStateNone if DataCoord says nothing."""
        if not segments:
            return {}
        states = await self._data_coord.segment_states(segments, deadline=_soon())
        told = {state.segmentID: state.state for state in states}
        return {segment: told.get(segment, SegmentState.SegmentStateNone) for segment in segments}

    async def _clean(self, task: ImportTaskInfo) -> None:
        await self._drop(task.state.segments)
        await self._happened(task, Kind.CLEANED)

    async def _drop_orphans(self) -> None:
        orphans = frozenset(self._dropped)
        await self._drop(orphans)
        self._dropped -= orphans

    async def _drop(self, segments: Iterable[int]) -> None:
        ids = sorted(segments)
        if ids:
            self._check_may_act()
            await self._data_coord.mark_segments_dropped(ids, deadline=_soon())

    async def _happened(self, task: ImportTaskInfo, kind: Kind, *, node_id: int = 0) -> None:
        """Write it, unless a report has meanwhile made something else of the task."""
        with suppress(IllegalTransition):
            await self._records.advance(task.id, Event(kind, now_s(), node_id), deadline=_soon())

    # --- small parts ---

    def _due(self) -> Agenda:
        return self._records.due(self._data_nodes())

    async def _unless_refused(self, what: str, work: Coroutine[Any, Any, None], task: int = 0) -> None:
        """Do it; that DataCoord refuses one thing stops no other."""
        try:
            await work
        except MilvusError as error:
            self._note_refusal(what, task, str(error))
        else:
            self._refusals.pop(task, None)

    def _note_refusal(self, what: str, task: int, reason: str) -> None:
        if self._refusals.get(task) != (what, reason):
            self._refusals[task] = (what, reason)
            log.warning("DataCoord refuses, trying again", what=what, task=task, reason=reason)

    def _wake(self) -> None:
        self._give_at = 0.0
        self._woken.set()

    def _check_may_act(self) -> None:
        if self._may_act_s() <= 0:
            raise TermOverError("this rootcoord cannot confirm that it still leads")


def _order(task: ImportTaskInfo) -> ImportTask:
    """A task as DataCoord passes it on."""
    return ImportTask(
        collection_id=task.collection_id,
        partition_id=task.partition_id,
        channel_names=task.channel_names,
        task_id=task.id,
        files=task.files,
        infos=task.infos,
        database_name=task.database_name,
    )


def _soon() -> float:
    return boottime() + CALL_TIMEOUT_S
