"""A term begins with its windows saved and the bootstrap written, and leaves nothing behind when it ends."""

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from coordd import clock
from coordd.config import LoadedConfig, load_config
from coordd.errors import CoorddError
from coordd.etcd import Compare, EtcdClient
from coordd.etcd.errors import EtcdError
from coordd.ha.coordinator import Coordinator, Term
from coordd.ha.tasks import TaskScope
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.commit import FencedCommitter
from coordd.meta.fold import Fold
from coordd.pb.milvus_pb2 import DescribeCollectionResponse, ShowCollectionsResponse
from coordd.rootcoord import RootCoord
from coordd.rootcoord.looks import ON_ITS_WAY_S, Looks
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.parts import TermParts
from coordd.rootcoord.serving import Serving
from coordd.rootcoord.snapshots import HOURLY, Pace
from coordd.rootcoord.windows import WindowCorruptError
from tests.support.etcd import eventually
from tests.unit.rootcoord.memory_etcd import Fault, MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, etcd_values, no_config
from tests.unit.rootcoord.term import ACTIVE_KEY


class Process:
    """A RootCoord with its fold, over an in-memory etcd."""

    def __init__(self, etcd: MemoryEtcd, loaded: LoadedConfig | None = None, *, pace: Pace = HOURLY) -> None:
        config = loaded or no_config()
        self.etcd = etcd
        self.coordinator = RootCoord(lambda: config, LAYOUT, cast("EtcdClient", etcd), pace=pace)
        self.fold = Fold(self.coordinator.tables)

    async def follow(self) -> None:
        start = self.coordinator.follow_from
        self.fold.load(await self.etcd.range(start, LAYOUT.session_end))

    def new_term(self, scope: TaskScope) -> Term:
        """One that is won and has its tasks in `scope`."""
        epoch = self.etcd.put_now(ACTIVE_KEY, b"{}")
        fence = Compare.mod_revision(ACTIVE_KEY, epoch)
        return Term(
            role="rootcoord",
            server_id=4,
            epoch=epoch,
            fence=fence,
            committer=FencedCommitter(self.etcd, fence, self.fold, lambda: None),
            started_at=clock.boottime(),
            task_group=scope,
        )

    @asynccontextmanager
    async def term(self) -> AsyncIterator[Term]:
        """One term: won, activated, and ended when the block is left."""
        async with TaskScope() as scope:
            term = self.new_term(scope)
            try:
                await self.coordinator.activate(term)
                yield term
            finally:
                self.coordinator.deactivate()


async def test_it_is_a_coordinator() -> None:
    coordinator: Coordinator = Process(MemoryEtcd()).coordinator
    assert (coordinator.role, coordinator.companions) == ("rootcoord", ())
    assert coordinator.follow_from == "by-dev/meta/importtask/"
    assert all(coordinator.follow_from <= table.prefix < LAYOUT.session_end for table in coordinator.tables)


async def test_a_new_cluster_is_made_ready_without_a_range_read() -> None:
    process = Process(MemoryEtcd())
    await process.follow()
    process.etcd.ranges = 0
    async with process.term():
        tables = process.coordinator.metadata
        assert process.etcd.ranges == 0
        assert process.etcd.transactions == 4
        assert [database.name for database in tables.databases] == ["default"]
        assert tables.users.names() == ["root"]
        assert tables.roles.names() == ["admin", "public"]
        assert [grant.object_type for grant in tables.grants] == ["Collection", "Global"]


async def test_a_takeover_of_a_running_cluster_costs_three_transactions() -> None:
    process = Process(MemoryEtcd.holding(etcd_values()))
    await process.follow()
    process.etcd.ranges = 0
    async with process.term():
        assert (process.etcd.ranges, process.etcd.transactions) == (0, 3)


async def test_terms_follow_each_other_in_one_process() -> None:
    process = Process(MemoryEtcd())
    await process.follow()
    timestamps, ids = [], []
    for _ in range(3):
        async with process.term():
            timestamps.append(await process.coordinator.parts.oracle.wait_timestamps(1, clock.boottime() + 1))
            ids.append(await process.coordinator.parts.oracle.wait_ids(1, clock.boottime() + 1))
        with pytest.raises(TermOverError):
            process.coordinator.parts.oracle.timestamps_now(1)
    assert timestamps == sorted(set(timestamps))
    assert ids == sorted(set(ids))


async def test_answers_are_kept_for_one_term_only() -> None:
    process = Process(MemoryEtcd())
    await process.follow()
    async with process.term():
        described, shown = (
            DescribeCollectionResponse(collectionID=7),
            ShowCollectionsResponse(collection_ids=[7]),
        )
        kept = process.coordinator.parts.kept
        assert (kept.described.get("question"), kept.shown.get(1)) == (None, None)
        kept.described.put("question", described)
        kept.shown.put(1, shown)
        assert kept.described.get("question") is described
        assert kept.shown.get(1) is shown
    assert (kept.described.get("question"), kept.shown.get(1)) == (None, None)
    async with process.term():
        kept = process.coordinator.parts.kept
        assert (kept.described.get("question"), kept.shown.get(1)) == (None, None)


async def test_who_asks_in_vain_for_a_queue_leaves_nothing_behind() -> None:
    process = Process(MemoryEtcd(), load_config(env={"MQ_TYPE": "pulsar"}, cwd=Path(__file__).parent))
    await process.follow()
    async with process.term():
        said: list[Exception] = []
        for _ in range(3):
            try:
                process.coordinator.parts.life  # noqa: B018 - there is none
            except CoorddError as error:
                said.append(error)
        assert [str(error) for error in said] == [
            "environment MQ_TYPE: mq.type is pulsar, but pulsar.address is not set"
        ] * 3
        assert [len(traceback.extract_tb(error.__traceback__)) for error in said] == [2, 2, 2]


async def test_what_an_earlier_term_has_answered_may_be_on_its_way_when_a_term_begins() -> None:
    """In another process perhaps: no proxy is told of a change early then."""
    process = Process(MemoryEtcd())
    await process.follow()
    times = [1000.0]
    looks = process.coordinator._looks = Looks(lambda: times[-1])
    for _ in range(2):
        times.append(times[-1] + 1000.0)
        assert not looks.watch(7).seen
        async with process.term():
            assert looks.watch(7).seen
            times.append(times[-1] + 2 * ON_ITS_WAY_S)
            assert not looks.watch(7).seen


async def test_an_activation_that_failed_goes_on_in_the_same_term() -> None:
    process = Process(MemoryEtcd())
    await process.follow()
    async with TaskScope() as scope:
        term = process.new_term(scope)
        process.etcd.faults.extend([Fault(), Fault(), Fault(), Fault(before=NoLeaderForGood("election"))])
        with pytest.raises(NoLeaderForGood):
            await process.coordinator.activate(term)
        oracle = process.coordinator.parts.oracle
        await process.coordinator.activate(term)
        assert process.coordinator.parts.oracle is oracle
        assert process.coordinator.metadata.users.names() == ["root"]
        process.coordinator.deactivate()


async def test_a_term_is_begun_as_a_whole_or_begun_again() -> None:
    """One without what is served would answer nobody, as long as it lasts."""

    class Begins:
        tries = 0

        def begin(self, _term: Term, parts: TermParts, _queue: object) -> object:
            self.tries += 1
            if self.tries == 1:
                raise NoLeaderForGood("not now")
            return parts

    process, begins = Process(MemoryEtcd()), Begins()
    process.coordinator._serving = cast("Serving", begins)
    await process.follow()
    async with TaskScope() as scope:
        term = process.new_term(scope)
        for _ in range(2):
            with suppress(NoLeaderForGood):
                await process.coordinator.activate(term)
        parts = process.coordinator.parts
        assert (begins.tries, parts.served) == (2, parts)
        await parts.oracle.wait_timestamps(1, clock.boottime() + 2)
        process.coordinator.deactivate()


async def test_old_history_is_deleted_while_a_term_lasts() -> None:
    key = LAYOUT.alias(1, "gone")
    process = Process(MemoryEtcd(), pace=Pace(first_after_s=0.0, every_s=0.01))
    await process.follow()

    def leave_history() -> None:
        for ts, value in ((1, b"x"), (2, TOMBSTONE)):
            process.etcd.put_now(LAYOUT.snapshot(key, ts), value)
        process.etcd.put_now(key, TOMBSTONE)

    def left() -> list[str]:
        found = (key, LAYOUT.snapshot(key, 1), LAYOUT.snapshot(key, 2))
        return [one for one in found if process.etcd.at(one) is not None]

    for _ in range(2):
        leave_history()
        async with process.term():
            await eventually(lambda: not left())
    leave_history()
    pages = process.etcd.ranges
    await asyncio.sleep(0.05)
    assert (process.etcd.ranges, len(left())) == (pages, 3), "outside a term nothing is read or deleted"
    figures = process.coordinator._snapshots
    assert (figures.snapshots, figures.keys) == (4, 2), "counted for the life of the process"


class NoLeaderForGood(EtcdError):
    """An error that a commit does not try to wait out."""


async def test_a_corrupt_window_ends_the_activation_with_a_clear_error() -> None:
    etcd = MemoryEtcd.holding({**etcd_values(), LAYOUT.timestamp: b"bad"})
    etcd.compacted = etcd.revision
    process = Process(etcd)
    await process.follow()
    with pytest.raises(WindowCorruptError, match="by-dev/kv/gid/timestamp"):
        async with process.term():
            pass
    assert etcd.at(LAYOUT.timestamp) is not None


async def test_activation_may_be_cancelled_at_every_await() -> None:
    """Whatever was written by then lets the next term begin."""
    for steps in range(12):
        process = Process(MemoryEtcd())
        await process.follow()

        async def lead(process: Process = process) -> None:
            async with process.term():
                await asyncio.sleep(60)

        task = asyncio.create_task(lead(), name="lead")
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with process.term():
            assert process.coordinator.metadata.users.names() == ["root"]


async def test_a_term_has_the_channels_that_the_metadata_uses() -> None:
    process = Process(MemoryEtcd.holding(etcd_values()))
    await process.follow()
    rows = list(process.coordinator.metadata.collections)
    used = {channel for row in rows for channel in row.physical_channels}
    for _ in range(2):
        async with process.term():
            channels = process.coordinator.parts.channels
            assert len(channels) == 16
            assert set(channels.in_use()) == used
            most = max(used, key=channels.users)
            assert channels.users(most) == sum(most in row.physical_channels for row in rows)
            assert channels.reserve(1, 1).physical[0] not in used or len(used) == 16
        with pytest.raises(TermOverError):
            _ = process.coordinator.parts.channels
        with pytest.raises(TermOverError):
            _ = process.coordinator.parts.services.time_ticks


async def test_channels_that_were_created_beforehand_replace_the_numbered_ones(tmp_path: Path) -> None:
    (tmp_path / "milvus.yaml").write_text("common: {preCreatedTopic: {enabled: true, names: [one, two]}}\n")
    process = Process(MemoryEtcd(), load_config(tmp_path / "milvus.yaml", env={}, cwd=tmp_path))
    await process.follow()
    async with process.term():
        assert process.coordinator.parts.channels.reserve(1, 2).virtual == ("one_1v0", "two_1v1")
