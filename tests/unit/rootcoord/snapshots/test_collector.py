"""Old history deleted from an etcd in memory, while others write and transactions get lost."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordd import clock
from coordd.clock import boottime
from coordd.config import LoadedConfig, load_config
from coordd.errors import CoorddError
from coordd.etcd import Compare, Delete, KeyValue, Put, RangePage, RangeResult, TxnResult
from coordd.etcd.errors import OutcomeUnknown, Unavailable
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.meta.layout import MAX_TS
from coordd.meta.snapshot import plan_delete, plan_put, values_at
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.snapshots import Pace, SnapshotCollector, SnapshotFigures
from coordd.rootcoord.tso import LOGICAL_BITS
from tests.support.etcd import eventually
from tests.unit.meta.samples import DROPPING, alias_value, collection, collection_value
from tests.unit.rootcoord.memory_etcd import Fault, MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, RECORDING, World, world
from tests.unit.rootcoord.term import start_oracle

TTL_S, RESERVE_S = 1000, 60
AGES_S = (5000, 3000, 2000, 1500, 1200, 800, 600, 300, 200, 120, 20, 5)
"""How long ago values were written: none within seconds of one of the horizons."""
FENCE_KEY = LAYOUT.session("datacoord")  # the oracle has its own
NAMES = ["a", "a_ts1", "a_ts1_ts2", "b", "c", "d/e"]
FAST = Pace(0.0, 0.01, 0.01, page_keys=3, page_pause_s=0.0, transaction_pause_s=0.0)


def kept() -> LoadedConfig:
    env = {"METASTORE_SNAPSHOT_TTL": str(TTL_S), "METASTORE_SNAPSHOT_RESERVETIME": str(RESERVE_S)}
    return load_config(env=env, cwd=RECORDING.parent)


def stamp(age_s: float) -> int:
    return (clock.unix_ms() - int(1000 * age_s)) << LOGICAL_BITS


class WatchedEtcd:
    """The collector's etcd. `before` runs before each transaction that writes, `after` after it."""

    def __init__(self, etcd: MemoryEtcd) -> None:
        self._etcd = etcd
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.deleted: list[list[str]] = []
        self.broken_pages = 0

    async def page(self, start: str, end: str, *, limit: int) -> RangePage:
        if self.broken_pages:
            self.broken_pages -= 1
            raise Unavailable("etcd is away")
        return await self._etcd.page(start, end, limit=limit)

    async def txn(self, compares: Any, success: Sequence[Any], *rest: Any, **options: Any) -> TxnResult:
        deletes = [op.key for op in success if isinstance(op, Delete)]
        if deletes:
            self.before()
        result = await self._etcd.txn(compares, success, *rest, **options)
        if deletes and result.succeeded:
            assert len(success) <= 128
            self.deleted.append(deletes)
            self.after()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._etcd, name)


@dataclass
class Scene:
    place: World
    etcd: WatchedEtcd
    oracle: Oracle
    collector: SnapshotCollector
    figures: SnapshotFigures = field(default_factory=SnapshotFigures)

    def put(self, name: str, number: int | None, age_s: float) -> None:
        """An alias made or changed so long ago; None drops it."""
        value = None if number is None else alias_value(name, number)
        self.write(alias(name), value, stamp(age_s))

    def write(self, key: str, value: bytes | None, ts: int) -> None:
        """A change as of `ts`; None deletes."""
        writes = plan_delete(LAYOUT, key, ts) if value is None else plan_put(LAYOUT, key, value, ts)
        etcd = self.place.etcd
        etcd.revision += 1
        for write in writes:
            assert isinstance(write, Put)
            etcd._put(write.key, write.value)

    def stored(self) -> list[KeyValue]:
        found = (self.place.etcd.at(key) for key in sorted(self.place.etcd.history))
        return [kv for kv in found if kv is not None]

    def seen(self, ts: int) -> dict[str, bytes]:
        """What Milvus 2.3 loads, or sees, at a time."""
        return values_at(LAYOUT, self.stored(), ts)

    def plain(self) -> dict[str, bytes]:
        """What Milvus 2.5 loads."""
        return {
            kv.key: kv.value
            for kv in self.stored()
            if kv.key.startswith(LAYOUT.alias_prefix) and kv.value != TOMBSTONE
        }

    def snapshots(self, key: str) -> list[int]:
        prefix = LAYOUT.snapshots_of(key)
        parsed = (LAYOUT.parse_snapshot(kv.key) for kv in self.stored() if kv.key.startswith(prefix))
        return sorted(one[1] for one in parsed if one is not None and one[0] == key)

    def load(self) -> None:
        """Let the tables know what was written behind their back."""
        etcd = self.place.etcd
        present = {kv.key: kv for kv in self.stored()}
        self.place.fold.load(RangeResult(etcd.revision, list(present.values())))


@asynccontextmanager
async def scene(values: dict[str, bytes] | None = None, pace: Pace = FAST) -> AsyncIterator[Scene]:
    place = await world(values or {})
    etcd = WatchedEtcd(place.etcd)
    client: Any = etcd
    fence = Compare.mod_revision(FENCE_KEY, place.etcd.put_now(FENCE_KEY, b"{}"))
    committer = FencedCommitter(client, fence, place.fold, lambda: None)
    loaded, figures = kept(), SnapshotFigures()
    async with start_oracle(place) as oracle:
        collector = SnapshotCollector(
            client=client,
            committer=committer,
            oracle=oracle,
            tables=place.tables,
            layout=LAYOUT,
            config=lambda: loaded,
            figures=figures,
            pace=pace,
        )
        yield Scene(place, etcd, oracle, collector, figures)


def alias(name: str) -> str:
    return LAYOUT.alias(1, name)


def forgettable(here: Scene) -> set[str]:
    """Keys that were deleted so long ago that nothing of them need stay."""
    present = here.seen(MAX_TS)
    return {
        key
        for key in map(alias, NAMES)
        if key not in present and max(here.snapshots(key), default=0) <= stamp(RESERVE_S)
    }


@pytest.mark.parametrize("seed", range(25))
async def test_random_histories(seed: int) -> None:
    """With lost transactions, and keys written while it goes on; then a second round ends it."""
    draw = random.Random(seed)
    pace = replace(FAST, page_keys=draw.choice([1, 2, 5, 100]))
    async with scene(pace=pace) as here:
        for age_s in AGES_S:
            for name in draw.sample(NAMES, draw.randint(0, 4)):
                here.put(name, draw.choice([1, 2, None, None]), age_s)
        here.load()
        times = [stamp(age_s) for age_s in (990, 700, 250, 150, 30, 0)]
        stay = {alias(name) for name in NAMES} - forgettable(here)
        before = {ts: here.seen(ts) for ts in times}

        def check() -> None:
            for ts, values in before.items():
                now = here.seen(ts)
                assert {key: now.get(key) for key in stay} == {key: values.get(key) for key in stay}
            assert here.seen(times[-1]) == before[times[-1]]
            assert here.plain() == here.seen(MAX_TS)

        def write_something() -> None:
            if draw.random() < 0.3:
                here.put(draw.choice(NAMES), draw.choice([3, None]), -10)

        here.etcd.after = check
        here.etcd.before = write_something
        lost = OutcomeUnknown("not answered")
        for _ in range(3):
            fault = draw.choice([Fault(), Fault(before=lost), Fault(after=lost)])
            here.place.etcd.faults.append(fault)
        with suppress(CoorddError):  # it need not come to an end
            await here.collector.collect()
        here.etcd.before = lambda: None
        await here.collector.collect()
        check()
        for name in NAMES:
            versions = here.snapshots(alias(name))
            past = [ts for ts in versions if ts <= stamp(TTL_S)]
            assert len(past) <= 1, "what was replaced before the horizon is gone"
            if versions and versions[-1] <= stamp(RESERVE_S):
                assert alias(name) in here.plain(), "what was deleted long ago is forgotten"
            if not versions:
                assert here.place.etcd.at(alias(name)) is None, "so is its plain key"
        assert here.figures.rounds in (1, 2)
        deleted = here.etcd.deleted[:]
        await here.collector.collect()
        assert here.etcd.deleted == deleted, "a third round finds nothing"


async def test_pitfall_15_a_history_too_long_for_one_transaction_goes_oldest_first() -> None:
    async with scene() as here:
        for age_s in range(3000, 2700, -1):
            here.put("a", 1, age_s)
        here.put("a", None, 2000)
        here.put("b", 1, 2000)
        here.load()
        here.etcd.after = lambda: _assert(alias("a") not in here.seen(MAX_TS))
        await here.collector.collect()
        assert [len(keys) for keys in here.etcd.deleted] == [64, 64, 64, 64, 46]
        assert here.etcd.deleted[-1][-1] == alias("a")
        assert (here.figures.snapshots, here.figures.keys) == (301, 1)
        assert list(here.seen(MAX_TS)) == [alias("b")]
        assert here.snapshots(alias("a")) == []
        assert here.place.fold.mod_revision(alias("a")) == 0
        assert here.place.fold.mod_revision(alias("b")) > 0


def _assert(condition: bool) -> None:
    assert condition


async def test_a_key_that_comes_back_at_the_last_moment_keeps_its_history() -> None:
    async with scene() as here:
        here.put("a", 1, 3000)
        here.put("a", None, 2000)
        here.load()
        versions = here.snapshots(alias("a"))
        back: list[int] = []

        def come_back() -> None:
            if not back:
                back.append(stamp(-10))
                here.write(alias("a"), alias_value("a", 2), back[0])

        here.etcd.before = come_back
        await here.collector.collect()
        assert here.etcd.deleted == []
        assert here.snapshots(alias("a")) == [*versions, *back]
        assert here.plain() == {alias("a"): alias_value("a", 2)}
        await here.collector.collect()
        assert here.plain() == here.seen(MAX_TS) == {alias("a"): alias_value("a", 2)}
        assert here.snapshots(alias("a")) == [versions[-1], *back]


async def test_copies_that_disagree_are_left_alone() -> None:
    async with scene() as here:
        here.put("a", 1, 3000)
        here.put("a", None, 2000)
        here.place.etcd.put_now(alias("a"), b"written without history")
        here.load()
        await here.collector.collect()
        assert here.etcd.deleted == []


async def test_a_tombstone_without_a_plain_key_goes_too() -> None:
    async with scene() as here:
        here.put("a", 1, 3000)
        here.put("a", None, 2000)
        here.place.etcd.delete_now(alias("a"))
        here.load()
        await here.collector.collect()
        assert here.snapshots(alias("a")) == []
        assert (here.figures.snapshots, here.figures.keys) == (2, 1)


async def test_what_is_being_made_or_dropped_keeps_its_history() -> None:
    """A data node asks for the schema as of its channel's last saved time."""
    key, settled = LAYOUT.collection(1, 50), LAYOUT.collection(1, 60)
    values = {**collection(50, "dying", state=DROPPING), **collection(60, "living")}
    async with scene(values) as here:
        for age_s in (3000, 2000):
            here.write(key, collection_value(50, "dying", state=DROPPING), stamp(age_s))
            here.write(settled, collection_value(60, "living"), stamp(age_s))
        here.load()
        await here.collector.collect()
        assert len(here.snapshots(key)) == 2
        assert len(here.snapshots(settled)) == 1
        here.write(key, None, stamp(1500))
        here.load()
        await here.collector.collect()
        assert here.snapshots(key) == []
        assert here.place.etcd.at(key) is None


async def test_it_goes_on_after_any_failure() -> None:
    async with scene() as here:
        here.put("a", 1, 3000)
        here.put("a", 2, 2000)
        here.load()
        here.etcd.broken_pages = 2
        running = asyncio.ensure_future(here.collector.run())
        await eventually(lambda: here.figures.rounds >= 2)
        assert (here.figures.failures, here.figures.snapshots) == (2, 1)
        here.put("a", 3, 1500)
        await eventually(lambda: here.figures.snapshots == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_deposed_replica_deletes_nothing() -> None:
    async with scene() as here:
        for name in ("a", "b"):
            here.put(name, 1, 3000)
            here.put(name, 2, 2000)
        here.load()
        here.place.etcd.put_now(FENCE_KEY, b"{}")
        with pytest.raises(FenceLost):
            await here.collector.run()
        assert here.etcd.deleted == []
        assert here.figures == SnapshotFigures()


async def test_the_end_of_the_oracle_is_its_end() -> None:
    async with scene() as here:
        here.oracle.close()
        async with asyncio.timeout(10):
            await here.collector.run()
        assert here.figures == SnapshotFigures()


async def test_pages_of_large_values_are_small() -> None:
    async with scene(pace=replace(FAST, page_keys=1000)) as here:
        large = bytes(100_000)
        for number in range(800):
            here.place.etcd.put_now(LAYOUT.snapshot(alias(f"n{number}"), stamp(3000)), large)
        asked: list[int] = []
        page = here.etcd.page

        async def noted(start: str, end: str, *, limit: int) -> RangePage:
            asked.append(limit)
            return await page(start, end, limit=limit)

        here.etcd.page = noted  # type: ignore[method-assign]
        await here.collector.collect()
        assert asked[0] == 500
        assert len(asked) > 1
        assert all(limit <= 42 for limit in asked[1:]), "4 MiB"


async def test_many_keys_are_read_in_pages_and_the_loop_goes_on() -> None:
    async with scene(pace=replace(FAST, page_keys=700)) as here:
        for number in range(2000):
            here.place.etcd.put_now(LAYOUT.snapshot(alias(f"n{number}"), stamp(3000)), b"x")
        turns: list[float] = []

        async def beat() -> None:
            while True:
                turns.append(boottime())
                await asyncio.sleep(0)

        beating = asyncio.ensure_future(beat())
        before = here.place.etcd.ranges
        await here.collector.collect()
        beating.cancel()
        assert here.place.etcd.ranges - before == 4
        assert len(turns) >= 6, "a turn for others after every slice"
        assert here.etcd.deleted == []
