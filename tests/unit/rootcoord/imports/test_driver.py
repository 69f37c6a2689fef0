"""Import tasks carried out: by one term, or by two with a crash in between, at any effect on the outside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from coordd.clock import boottime
from coordd.config import load_config
from coordd.ha.coordinator import _until_fence_lost
from coordd.ha.tasks import TaskScope
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.pb.common_pb2 import SegmentState
from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.pb.milvus_pb2 import ImportRequest
from coordd.rootcoord.ddl import Asked, Ddl
from coordd.rootcoord.imports import driver, records
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.imports.records import ImportRecords
from coordd.rootcoord.imports.states import (
    CLEANED,
    COMPLETED,
    FAILED,
    FLUSHED,
    PENDING,
    PERSISTED,
    STARTED,
)
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.oracle import Oracle
from coordd.rpc.status import CollectionNotFound, MilvusError
from tests.support.etcd import eventually
from tests.unit.rootcoord.imports.cluster import ROWS, Cluster, RootCoord
from tests.unit.rootcoord.memory_etcd import MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, World, etcd_values, world
from tests.unit.rootcoord.term import ACTIVE_KEY, begin_term
from tests.unit.rootcoord.test_life import CrashingEtcd, Effects

NAME = "partitioned"
NEVER_REPEATED = Asked("", lambda: False)
EFFECTS = [
    *("txn", "import", "txn"),  # taken, given, written
    *("txn", "txn"),  # a segment, all rows
    *("states", "flush", "states", "states", "txn"),  # flushed
    *("states", "show", "txn"),
]
"""Of one task that nothing happens to."""


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "FLUSH_EVERY_S", 0.01)
    monkeypatch.setattr(driver, "GIVE_EVERY_S", 0.02)


@asynccontextmanager
async def acting(**options: Any) -> AsyncIterator[Cluster]:
    """DataCoord and data nodes that outlive the terms of RootCoord."""
    async with TaskScope() as scope:
        yield Cluster(scope, **options)


@dataclass
class Term:
    place: World
    imports: Imports
    effects: Effects
    driving: asyncio.Task[None]

    def task(self, task_id: int) -> ImportTaskInfo:
        found = self.place.tables.import_tasks.get(task_id)
        assert found is not None
        return found

    def state(self, task_id: int) -> int:
        return self.task(task_id).state.stateCode

    async def until(self, task_id: int, state: int) -> None:
        await eventually(lambda: self.state(task_id) == state)

    async def take(self, file: str = "rows.json", name: str = NAME) -> int:
        request = ImportRequest(collection_name=name, files=[file])
        return await self.imports.create(request, NEVER_REPEATED, deadline=boottime() + 20)


def new_etcd() -> MemoryEtcd:
    return MemoryEtcd.holding(etcd_values())


@asynccontextmanager
async def running(
    etcd: MemoryEtcd,
    cluster: Cluster,
    effects: Effects | None = None,
    *,
    may_act: bool = True,
    env: dict[str, str] | None = None,
) -> AsyncIterator[Term]:
    """A new term on what this etcd holds, with tables of its own; data nodes report to it."""
    loaded = load_config(env=env or {}, cwd=Path(__file__).parent)
    place = await world({})
    place.etcd.__dict__.update(etcd.__dict__)
    place.fold.load(await place.etcd.range("", "\x7f"))
    term, effects = begin_term(place), effects or Effects()
    client: Any = CrashingEtcd(place.etcd, effects)
    committer = FencedCommitter(client, term.committer._fence, place.fold, lambda: None)
    oracle = await Oracle.start(place.client, LAYOUT, term.committer, KnownInTables(place.tables))
    ddl = Ddl(committer, oracle, place.tables.import_mark)
    kept = ImportRecords(place.tables, LAYOUT, lambda: loaded, ddl)
    imports = Imports(kept, cluster, lambda: cluster.alive, lambda: 1.0 if may_act else 0.0)
    async with TaskScope() as tasks:
        tasks.create_task(oracle.keep_timestamps())
        tasks.create_task(oracle.keep_ids())
        run = imports.run()
        driving = tasks.create_task(_until_fence_lost(run))
        driving.add_done_callback(lambda _task: run.close())
        cluster.root = RootCoord(imports, effects)
        try:
            yield Term(place, imports, effects, driving)
        finally:
            cluster.root = None
            etcd.__dict__.update(place.etcd.__dict__)
            oracle.close()


async def test_a_task_from_its_file_to_its_rows() -> None:
    async with acting() as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await term.until(task_id, COMPLETED)
        task = term.task(task_id)
        assert cluster.rows == {task_id: ROWS}
        assert cluster.leftovers() == []
        assert (task.datanode_id, task.state.row_count, len(task.state.segments)) == (7, ROWS, 1)
        assert [(info.key, info.value) for info in task.infos] == [("progress_percent", "100")]
        assert term.effects.done == EFFECTS
        stored = term.place.etcd.at(LAYOUT.import_task(task_id))
        assert stored is not None
        assert ImportTaskInfo.FromString(stored.value) == task


async def test_a_node_has_one_task_at_a_time() -> None:
    async with acting(nodes=[7], stuck=True) as cluster, running(new_etcd(), cluster) as term:
        first, second = await term.take(), await term.take()
        await term.until(first, PERSISTED)
        await eventually(lambda: cluster.calls["import"] > 2)
        assert cluster.runs == [(first, 7)]
        assert term.state(second) == PENDING
        cluster.stuck = False
        await term.until(second, COMPLETED)
        assert cluster.runs == [(first, 7), (second, 7)]
        assert cluster.rows == {first: ROWS, second: ROWS}


async def test_tasks_wait_for_a_datacoord() -> None:
    async with acting(absent=True, stuck=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await eventually(lambda: cluster.calls["import"] > 2)
        assert term.state(task_id) == PENDING
        cluster.absent = False
        await term.until(task_id, PERSISTED)
        cluster.absent = True
        before = cluster.calls["states"]
        await eventually(lambda: cluster.calls["states"] > before + 2)
        assert term.state(task_id) == PERSISTED
        cluster.absent = cluster.stuck = False
        await term.until(task_id, COMPLETED)
        assert cluster.rows == {task_id: ROWS}


async def test_a_task_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "CLEAN_EVERY_S", 0.2)
    options = {"nodes": [7], "bad_files": {"bad.json"}, "refusing": {"drop"}}
    async with acting(**options) as cluster, running(new_etcd(), cluster) as term:
        bad, good = await term.take("bad.json"), await term.take()
        await term.until(bad, FAILED)
        assert term.task(bad).state.error_message == "no such field"
        await term.until(good, COMPLETED)
        await eventually(lambda: cluster.calls["drop"] > 0)
        assert term.state(bad) == FAILED
        cluster.refusing.clear()
        await term.until(bad, CLEANED)
        assert cluster.leftovers() == []
        assert cluster.rows == {bad: 0, good: ROWS}


async def test_a_refusal_of_one_task_holds_no_other_up() -> None:
    async with acting(refusing={"show"}) as cluster, running(new_etcd(), cluster) as term:
        first, second = await term.take(), await term.take()
        await eventually(lambda: cluster.calls["show"] > 4)
        assert (term.state(first), term.state(second)) == (FLUSHED, FLUSHED)
        cluster.refusing.clear()
        await term.until(first, COMPLETED)
        await term.until(second, COMPLETED)


async def test_segments_that_are_lost_fail_the_task() -> None:
    async with acting(stuck=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await term.until(task_id, PERSISTED)
        for one in cluster.segments.values():
            one.state = SegmentState.Dropped
        await term.until(task_id, FAILED)
        assert term.task(task_id).state.error_message == "the import task failed"


@pytest.mark.parametrize(
    ("state", "ends_in"),
    [
        (SegmentState.SegmentStateNone, PERSISTED),
        (SegmentState.NotExist, FAILED),
        (SegmentState.Growing, PERSISTED),
        (SegmentState.Sealed, PERSISTED),
        (SegmentState.Flushed, COMPLETED),
        (SegmentState.Flushing, COMPLETED),
        (SegmentState.Dropped, FAILED),
        (SegmentState.Importing, PERSISTED),
        (max(SegmentState.values()) + 1, PERSISTED),
    ],
)
async def test_a_task_is_shown_when_all_its_segments_are_flushed(state: int, ends_in: int) -> None:
    async with acting(by_hand=True, stuck=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await term.until(task_id, STARTED)
        flushed, other = cluster.new_segment(task_id), cluster.new_segment(task_id)
        cluster.segments[flushed].state = SegmentState.Flushed
        cluster.segments[other].state = state
        assert await cluster.report(task_id, 7, PERSISTED, [flushed, other]) == ""
        if ends_in == PERSISTED:
            await eventually(lambda: cluster.calls["states"] > 3)
        await term.until(task_id, ends_in)
        assert cluster.rows[task_id] == (2 * ROWS if ends_in == COMPLETED else 0)
        to_be_sealed = state in (SegmentState.Growing, SegmentState.Importing)
        assert (cluster.segments[other].state == SegmentState.Sealed) is (
            to_be_sealed or state == SegmentState.Sealed
        )


async def test_segments_that_datacoord_says_nothing_of_are_not_flushed() -> None:
    async with acting(silent=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await eventually(lambda: cluster.calls["states"] > 3)
        assert term.state(task_id) == PERSISTED
        cluster.silent = False
        await term.until(task_id, COMPLETED)
        assert cluster.rows == {task_id: ROWS}


@pytest.mark.parametrize("persisted", [False, True])
async def test_a_task_that_takes_too_long_fails(monkeypatch: pytest.MonkeyPatch, persisted: bool) -> None:
    now_s = records.now_s()
    monkeypatch.setattr(records, "now_s", lambda: now_s)
    monkeypatch.setattr(driver, "now_s", lambda: now_s)
    async with acting(by_hand=not persisted, stuck=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await term.until(task_id, PERSISTED if persisted else STARTED)
        now_s += 899
        await asyncio.sleep(0.1)
        assert term.state(task_id) in (STARTED, PERSISTED)
        now_s += 1
        await term.until(task_id, FAILED)
        assert term.task(task_id).state.error_message == "the import task has timed out"


async def test_a_task_whose_data_node_died_fails_and_the_next_one_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = records.now_s()
    monkeypatch.setattr(records, "now_s", lambda: now_s)
    monkeypatch.setattr(driver, "now_s", lambda: now_s)
    async with acting(nodes=[7], by_hand=True) as cluster, running(new_etcd(), cluster) as term:
        first = await term.take()
        await term.until(first, STARTED)
        cluster.nodes, cluster.alive = [8], {8}
        second = await term.take()
        await term.until(second, STARTED)
        now_s += 10
        await term.until(first, FAILED)
        assert term.task(first).state.error_message == "the data node that had the import task is gone"
        assert term.state(second) == STARTED


async def test_records_are_forgotten_when_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = records.now_s()
    monkeypatch.setattr(records, "now_s", lambda: now_s)
    monkeypatch.setattr(driver, "now_s", lambda: now_s)
    monkeypatch.setattr(driver, "CLEAN_EVERY_S", 0.05)
    async with acting(nodes=[7]) as cluster, running(new_etcd(), cluster) as term:
        done = await term.take()
        await term.until(done, COMPLETED)
        cluster.nodes = []
        waits = await term.take()
        now_s += 86_400
        await eventually(lambda: [one.id for one in term.place.tables.import_tasks] == [waits])
        assert term.place.etcd.at(LAYOUT.import_task(done)) is None


async def test_what_is_said_to_be_forgotten_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_FORGOTTEN", 2)
    async with acting(absent=True) as cluster, running(new_etcd(), cluster) as term:
        ids = [await term.take() for _ in range(3)]
        said = []
        for _ in range(3):
            with capture_logs() as logs:
                await term.imports._records.forget(ids, deadline=boottime() + 20)
            said.append([line["tasks"] for line in logs if line["event"] == "old import tasks forgotten"])
        assert said == [[2], [1], []]
        assert len(term.place.tables.import_tasks) == 0


async def test_what_is_reported_of_no_task_is_refused() -> None:
    async with acting(by_hand=True, bad_files={"bad.json"}) as cluster, running(new_etcd(), cluster) as term:
        assert await cluster.report(5, 7, STARTED) == "failed to update import task, ID not found: 5"
        task_id = await term.take()
        await term.until(task_id, STARTED)
        assert await cluster.report(task_id, 7, FAILED, infos={"failed_reason": "x"}) == ""
        refused = f"trying to update an already failed task {task_id}"
        orphan = cluster.new_segment(task_id)
        assert await cluster.report(task_id, 7, STARTED, [orphan]) == refused
        await eventually(lambda: cluster.segments[orphan].state == SegmentState.Dropped)


async def test_a_task_that_runs_twice_shows_its_rows_once() -> None:
    async with acting(by_hand=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        await term.until(task_id, STARTED)
        ours, theirs = cluster.new_segment(task_id), cluster.new_segment(task_id)
        assert await cluster.report(task_id, 7, STARTED, [ours]) == ""
        assert await cluster.report(task_id, 8, STARTED, [theirs]) == ""
        assert await cluster.report(task_id, 8, PERSISTED, [theirs]) == ""
        assert await cluster.report(task_id, 7, PERSISTED, [ours]) == ""
        assert await cluster.report(task_id, 7, FAILED, [ours]) == ""
        await term.until(task_id, COMPLETED)
        assert list(term.task(task_id).state.segments) == [theirs]
        assert cluster.rows == {task_id: ROWS}
        await eventually(lambda: cluster.leftovers() == [])


async def test_an_unknown_collection_makes_no_task() -> None:
    async with acting() as cluster, running(new_etcd(), cluster) as term:
        with pytest.raises(CollectionNotFound, match=r"\[database=default\]\[collection=nope\]"):
            await term.take(name="nope")
        assert len(term.place.tables.import_tasks) == 0


async def test_a_full_queue_takes_no_more() -> None:
    env = {"ROOT_COORD_IMPORT_MAX_PENDING_TASK_COUNT": "2"}
    async with acting(nodes=[]) as cluster, running(new_etcd(), cluster, env=env) as term:
        await term.take()
        await term.take()
        with pytest.raises(MilvusError, match="max size is 2, currently there are 2"):
            await term.take()


async def test_a_replica_that_may_not_act_asks_for_nothing() -> None:
    async with acting() as cluster, running(new_etcd(), cluster, may_act=False) as term:
        task_id = await term.take()
        await asyncio.sleep(0.1)
        assert cluster.calls == {}
        assert term.state(task_id) == PENDING


async def test_a_deposed_replica_stops() -> None:
    async with acting(absent=True) as cluster, running(new_etcd(), cluster) as term:
        task_id = await term.take()
        term.place.etcd.put_now(ACTIVE_KEY, b"{}")
        cluster.absent = False
        await eventually(term.driving.done)
        assert term.state(task_id) == PENDING
        with pytest.raises(FenceLost):
            await term.take()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(len(EFFECTS)))
async def test_a_crash_at_any_effect_loses_and_doubles_nothing(number: int, after: bool) -> None:
    etcd, effects = new_etcd(), Effects(crash_at=number, after=after)
    async with acting() as cluster:
        async with running(etcd, cluster, effects) as term:
            asked = asyncio.ensure_future(term.take())
            await eventually(effects.crashed.is_set)
            answered = asked.done()
            asked.cancel()
        async with running(etcd, cluster) as term:
            tasks = list(term.place.tables.import_tasks)
            assert tasks or not answered, "an acknowledged task is lost"
            task_id = tasks[0].id if tasks else await term.take()
            await term.until(task_id, COMPLETED)
            assert len(term.place.tables.import_tasks) == 1
            assert cluster.rows == {task_id: ROWS}
            assert len(cluster.runs) <= 2


async def test_segments_that_were_shown_may_be_compacted_before_that_is_written() -> None:
    etcd, effects = new_etcd(), Effects(crash_at=EFFECTS.index("show"), after=True)
    async with acting() as cluster:
        async with running(etcd, cluster, effects) as term:
            task_id = await term.take()
            await eventually(effects.crashed.is_set)
        [segment] = cluster.segments.values()
        assert segment.shown
        segment.state = SegmentState.Dropped
        async with running(etcd, cluster) as term:
            await term.until(task_id, COMPLETED)
            assert cluster.calls["drop"] == 0


async def test_a_failed_task_is_cleaned_up_by_the_next_term(monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = new_etcd()
    async with acting(bad_files={"bad.json"}) as cluster:
        async with running(etcd, cluster) as term:
            task_id = await term.take("bad.json")
            await term.until(task_id, FAILED)
            assert cluster.leftovers() != []
        monkeypatch.setattr(driver, "CLEAN_EVERY_S", 0.05)
        async with running(etcd, cluster) as term:
            await term.until(task_id, CLEANED)
            assert cluster.leftovers() == []
