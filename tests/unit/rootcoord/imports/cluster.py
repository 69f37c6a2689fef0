"""DataCoord and its data nodes, as far as bulk inserts go: what they are told, and what clients can see.

A data node that is given a task allocates a segment, reports it, writes its rows, and reports that. It
reports to whoever is RootCoord, again and again, and goes on when RootCoord is another.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from coordd.ha.tasks import TaskScope
from coordd.pb.common_pb2 import KeyValuePair, SegmentState, Status
from coordd.pb.data_coord_pb2 import FlushResponse, ImportTask, ImportTaskResponse, SegmentStateInfo
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.imports.states import FAILED, PERSISTED, STARTED
from coordd.rpc.peer import PeerUnavailable
from coordd.rpc.status import MilvusError
from tests.unit.rootcoord.test_life import Effects

ROWS = 10


@dataclass
class Segment:
    """`task_id`: for which its rows were written; `state`: a common.SegmentState."""

    task_id: int
    state: int = SegmentState.Importing
    shown: bool = False


@dataclass
class RootCoord:
    """Who is RootCoord now."""

    imports: Imports
    effects: Effects


@dataclass
class Cluster:
    """`nodes`: IDs of the data nodes. `absent`: there is no DataCoord. `by_hand`: nodes do nothing.

    `bad_files`: a task with such a file fails. `stuck`: sealed segments are not flushed. `silent`: nothing is
    said of segments. `alive`: the data nodes whose sessions RootCoord knows, None if it knows of none.
    """

    scope: TaskScope
    nodes: Sequence[int] = (7, 8)
    absent: bool = False
    by_hand: bool = False
    bad_files: set[str] = field(default_factory=set)
    stuck: bool = False
    silent: bool = False
    alive: set[int] | None = None
    root: RootCoord | None = None
    runs: list[tuple[int, int]] = field(default_factory=list)
    segments: dict[int, Segment] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    refusing: set[str] = field(default_factory=set)
    _ids: Iterator[int] = field(default_factory=lambda: count(1000))

    @property
    def rows(self) -> Counter[int]:
        """How many rows of each task clients can see."""
        return Counter(
            {
                task_id: sum(ROWS for one in self.segments.values() if one.task_id == task_id and one.shown)
                for task_id in {one.task_id for one in self.segments.values()}
            }
        )

    def leftovers(self) -> list[int]:
        """Segments that nobody sees and nobody has removed."""
        return [
            number
            for number, one in self.segments.items()
            if not one.shown and one.state != SegmentState.Dropped
        ]

    # --- DataCoord ---

    async def import_task(
        self, task: ImportTask, busy_nodes: Sequence[int] = (), *, deadline: float
    ) -> ImportTaskResponse:
        del deadline
        free = [node for node in self.nodes if node not in busy_nodes]

        def give() -> None:
            if free:
                self.runs.append((task.task_id, free[0]))
                if not self.by_hand:
                    self.scope.create_task(self._carry_out(task, free[0]))

        await self._happen("import", give)
        if not free:
            return ImportTaskResponse(status=Status(code=903, error_code=1, reason="node lacks"))
        return ImportTaskResponse(datanode_id=free[0])

    async def flush_imported(
        self, collection_id: int, segment_ids: Sequence[int], *, deadline: float
    ) -> FlushResponse:
        del collection_id, deadline

        def seal() -> None:
            for number in segment_ids:
                if self.segments[number].state in (SegmentState.Importing, SegmentState.Growing):
                    self.segments[number].state = SegmentState.Sealed

        await self._happen("flush", seal)
        return FlushResponse()

    async def segment_states(
        self, segment_ids: Sequence[int], *, deadline: float
    ) -> Sequence[SegmentStateInfo]:
        del deadline
        await self._happen("states")
        found = [] if self.silent else [self._state(number) for number in segment_ids]
        if not self.stuck:
            for one in self.segments.values():
                if one.state == SegmentState.Sealed:
                    one.state = SegmentState.Flushed
        return found

    def _state(self, number: int) -> SegmentStateInfo:
        one = self.segments.get(number)
        state = SegmentState.NotExist if one is None else one.state
        return SegmentStateInfo(segmentID=number, state=state)  # type: ignore[arg-type]

    async def unset_is_importing(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        del deadline

        def show() -> None:
            for number in segment_ids:
                flushed = self.segments[number].state in (SegmentState.Flushing, SegmentState.Flushed)
                assert flushed, "shown before it is flushed"
                self.segments[number].shown = True

        await self._happen("show", show)

    async def mark_segments_dropped(self, segment_ids: Sequence[int], *, deadline: float) -> None:
        del deadline

        def drop() -> None:
            for number in segment_ids:
                if number in self.segments:
                    assert not self.segments[number].shown, "rows that clients saw are gone"
                    self.segments[number].state = SegmentState.Dropped

        await self._happen("drop", drop)

    async def _happen(self, name: str, effect: object = None) -> None:
        self.calls[name] += 1
        if self.absent:
            await asyncio.sleep(0.01)
            raise PeerUnavailable("datacoord", "there is no active datacoord", hint="start one")
        if name in self.refusing:
            raise MilvusError(f"{name} refused")
        assert self.root is not None
        await self.root.effects.happen(name, effect if callable(effect) else lambda: None)

    # --- data nodes ---

    async def _carry_out(self, task: ImportTask, node: int) -> None:
        await asyncio.sleep(0.02)
        if self.bad_files.intersection(task.files):
            segment = self.new_segment(task.task_id)
            await self.report(task.task_id, node, STARTED, [segment])
            await self.report(task.task_id, node, FAILED, [segment], {"failed_reason": "no such field"})
            return
        segment = self.new_segment(task.task_id)
        await self.report(task.task_id, node, STARTED, [segment])
        await self.report(task.task_id, node, PERSISTED, [segment], {"progress_percent": "90"})

    def new_segment(self, task_id: int) -> int:
        number = next(self._ids)
        self.segments[number] = Segment(task_id)
        return number

    async def report(
        self,
        task_id: int,
        node: int,
        state: int,
        segments: Sequence[int] = (),
        infos: dict[str, str] | None = None,
    ) -> str:
        """Report until it is answered; returns the refusal, "" for success."""
        result = ImportResult(
            task_id=task_id,
            datanode_id=node,
            state=state,  # type: ignore[arg-type]
            segments=segments,
            row_count=ROWS if state == PERSISTED else 0,
            infos=[KeyValuePair(key=key, value=value) for key, value in (infos or {}).items()],
        )
        while True:
            root = self.root
            if root is None or root.effects.crashed.is_set():
                await asyncio.sleep(0.005)
                continue
            answer = await self._answer_of(root, result)
            if answer is not None:
                return answer

    async def _answer_of(self, root: RootCoord, result: ImportResult) -> str | None:
        """What a RootCoord answers; None if it dies before."""
        loop = asyncio.get_running_loop()
        call = loop.create_task(root.imports.report(result, deadline=loop.time() + 1e9))
        died = loop.create_task(root.effects.crashed.wait())
        try:
            await asyncio.wait({call, died}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                return None
            error = call.exception()
            assert error is None or isinstance(error, MilvusError)
            return "" if error is None else str(error)
        finally:
            call.cancel()
            died.cancel()
