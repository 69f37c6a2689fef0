"""Metadata changes of one term: one order for all, whatever becomes of their transactions and callers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import cast

import pytest

from coordd.clock import boottime
from coordd.etcd import Compare, EtcdClient, Put
from coordd.etcd.errors import OutcomeUnknown
from coordd.meta import commit as commit_module
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.commit import CommitConflict, CommitsOverloaded, FencedCommitter, FenceLost
from coordd.meta.fold import Fold
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.etcd_meta_pb2 import DatabaseInfo
from coordd.rootcoord.batch import NEAR_S
from coordd.rootcoord.databases import Stamp, plan_create, plan_drop
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.meta.fake_etcd import FakeEtcd, delay_request, lose_answer, lose_request
from tests.unit.meta.samples import LAYOUT, database_value

ACTIVE = LAYOUT.session("rootcoord")
SOON_S = 5.0
SHORTLY_S = 0.03
A_WHILE_S = 0.5
FUZZ_RUNS = 40
ANOTHERS = b"9 by another process"
NOW_MS = 1_795_640_883_000


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "RETRY_MIN_S", 0.0005)
    monkeypatch.setattr(commit_module, "RETRY_MAX_S", 0.001)


@dataclass
class Scene:
    """A term on a fake etcd that holds the default database; the watch tells when `follow` is called."""

    etcd: FakeEtcd
    tables: RootCoordTables
    fold: Fold
    oracle: Oracle
    ddl: Ddl
    limit: int = 64
    told: list[str] = field(default_factory=list)

    def follow(self) -> None:
        self.fold.apply(self.etcd.since(self.fold.revision))

    async def create(self, name: str, *, within_s: float = SOON_S) -> int:
        return await self.ddl.carry_out(
            lambda stamp: plan_create(self.tables, LAYOUT, name, stamp, limit=self.limit, now_ns=7),
            deadline=boottime() + within_s,
        )

    async def drop(self, name: str, *, within_s: float = SOON_S) -> int:
        return await self.ddl.carry_out(
            lambda stamp: plan_drop(self.tables, LAYOUT, name, stamp), deadline=boottime() + within_s
        )

    async def create_beside(
        self, name: str, *, within_s: float = SOON_S, about: Callable[[], str] | None = None
    ) -> int:
        """As `create`, but others may share the transaction."""
        return await self.ddl.carry_out_beside(
            lambda stamp: plan_create(self.tables, LAYOUT, name, stamp, limit=self.limit, now_ns=7),
            about=about or (lambda: name),
            deadline=boottime() + within_s,
        )

    async def drop_beside(self, name: str, *, within_s: float = SOON_S) -> int:
        """As `drop`, but others may share the transaction."""
        return await self.ddl.carry_out_beside(
            lambda stamp: plan_drop(self.tables, LAYOUT, name, stamp),
            about=lambda: name,
            deadline=boottime() + within_s,
        )

    def in_etcd(self) -> list[str]:
        """Names of the databases that etcd holds, the default one left out."""
        values = [kv.value for key, kv in self.etcd.state.items() if key.startswith(LAYOUT.database_prefix)]
        names = [DatabaseInfo.FromString(value).name for value in values if value != TOMBSTONE]
        return sorted(name for name in names if name != "default")

    def in_tables(self) -> list[str]:
        return sorted(one.name for one in self.tables.databases if one.name != "default")


async def new_scene() -> Scene:
    etcd, tables = FakeEtcd(), RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    epoch = etcd.put(ACTIVE, b"me")
    etcd.put(LAYOUT.database(1), database_value(1, "default"))
    fold.apply(etcd.since(0))
    committer = FencedCommitter(etcd, Compare.mod_revision(ACTIVE, epoch), fold, lambda: None)
    oracle = await Oracle.start(
        cast("EtcdClient", etcd), LAYOUT, committer, KnownInTables(tables), now_ms=lambda: NOW_MS
    )
    return Scene(etcd, tables, fold, oracle, Ddl(committer, oracle, tables.ddl_mark))


@pytest.fixture
async def scene() -> Scene:
    return await new_scene()


@asynccontextmanager
async def following(scene: Scene) -> AsyncIterator[None]:
    """A watch that is a little behind."""

    async def follow() -> None:
        while True:
            await asyncio.sleep(0.001)
            scene.follow()

    task = asyncio.get_running_loop().create_task(follow())
    try:
        yield
    finally:
        task.cancel()


async def test_key_history_and_mark_are_one_transaction(scene: Scene) -> None:
    revision = await scene.create("a")
    at, events = scene.etcd.history[-1]
    assert at == revision
    [database] = [one for one in scene.tables.databases if one.name == "a"]
    plain, history, mark = events
    assert plain.key == LAYOUT.database(database.id)
    timestamp = int(mark.value or b"")
    assert (history.key, history.value) == (LAYOUT.snapshot(plain.key, timestamp), plain.value)
    assert mark.key == LAYOUT.ddl("rootcoord")
    assert scene.tables.ddl_mark.revision == revision

    dropped = await scene.drop("a")
    _, events = scene.etcd.history[-1]
    assert [event.value for event in events[:2]] == [TOMBSTONE, TOMBSTONE]
    assert int(events[2].value or b"") > timestamp
    assert dropped == revision + 1
    assert await scene.drop("a") == 0
    assert scene.etcd.revision == dropped


async def test_of_many_at_once_one_wins(scene: Scene) -> None:
    outcomes = await asyncio.gather(*(scene.create("a") for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    refusals = [outcome for outcome in outcomes if isinstance(outcome, MilvusError)]
    assert {refusal.message for refusal in refusals} == {"database already exist: a"}
    assert len(refusals) == 19
    assert scene.in_etcd() == scene.in_tables() == ["a"]


async def test_many_at_once_do_not_pass_the_limit(scene: Scene) -> None:
    scene.limit = 5
    outcomes = await asyncio.gather(*(scene.create(f"n{n}") for n in range(20)), return_exceptions=True)
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 5
    assert len(scene.in_etcd()) == 5


async def test_each_has_its_turn_and_needs_one_transaction(scene: Scene) -> None:
    calls = scene.etcd.calls
    await asyncio.gather(*(scene.create(f"n{n}") for n in range(20)))
    assert scene.etcd.calls == calls + 20


@pytest.mark.parametrize("fault", [lose_request, lose_answer])
async def test_a_lost_message_costs_nothing(scene: Scene, fault: object) -> None:
    scene.etcd.faults += [fault]  # type: ignore[list-item]
    await scene.create("a")
    scene.etcd.faults += [fault]  # type: ignore[list-item]
    await scene.drop("a")
    await scene.create("a")
    assert scene.in_etcd() == scene.in_tables() == ["a"]


class TestLateTransactions:
    """A transaction whose outcome is unknown is still on its way when its caller comes again."""

    async def unknown(self, scene: Scene, name: str) -> None:
        scene.etcd.faults += [delay_request] * 1000
        with pytest.raises(OutcomeUnknown):
            await scene.create(name, within_s=SHORTLY_S)
        scene.etcd.faults.clear()

    async def test_it_arrives_after_the_next_change_and_is_void(self, scene: Scene) -> None:
        await self.unknown(scene, "a")
        await scene.create("a")
        scene.etcd.deliver()
        scene.follow()
        assert scene.in_etcd() == scene.in_tables() == ["a"]

    async def test_a_dropped_database_does_not_come_back(self, scene: Scene) -> None:
        await self.unknown(scene, "a")
        await scene.create("a")
        await scene.drop("a")
        scene.etcd.deliver()
        assert scene.in_etcd() == []

    async def test_what_is_answered_without_a_write_holds_too(self, scene: Scene) -> None:
        await self.unknown(scene, "a")
        assert await scene.drop("a") == 0
        scene.etcd.deliver()
        scene.follow()
        assert scene.in_etcd() == scene.in_tables() == []

    async def test_it_arrives_before_the_next_change_which_sees_it(self, scene: Scene) -> None:
        await self.unknown(scene, "a")
        scene.etcd.deliver()
        assert scene.in_tables() == []
        async with following(scene):
            with pytest.raises(MilvusError, match="already exist"):
                await scene.create("a")
        assert scene.in_etcd() == scene.in_tables() == ["a"]

    async def test_while_the_watch_is_silent_the_next_one_waits(self, scene: Scene) -> None:
        await self.unknown(scene, "a")
        scene.etcd.deliver()
        with pytest.raises(CommitConflict):
            await scene.create("a", within_s=SHORTLY_S)
        scene.follow()
        assert await scene.drop("a") > 0

    async def test_a_caller_that_went_away_changes_nothing_later(self, scene: Scene) -> None:
        scene.etcd.faults += [delay_request] * 1000
        gone = asyncio.get_running_loop().create_task(scene.create("a"))
        await eventually(lambda: scene.etcd.under_way)
        gone.cancel()
        await asyncio.wait([gone])
        scene.etcd.faults.clear()
        await scene.create("a")
        scene.etcd.deliver()
        scene.follow()
        assert scene.in_etcd() == scene.in_tables() == ["a"]


class TestTogether:
    """Those that wait at the same time share a turn and a transaction."""

    async def held_up(self, scene: Scene) -> asyncio.Task[int]:
        """A change that has the turn, and gets no answer from etcd until `scene.etcd.faults` are cleared."""
        scene.etcd.faults += [delay_request] * 1000
        first = asyncio.get_running_loop().create_task(scene.create("first"))
        await eventually(lambda: scene.etcd.under_way)
        return first

    async def joined(self, scene: Scene, *names: str, within_s: float = SOON_S) -> list[asyncio.Task[int]]:
        """Creations that wait for the turn; the first of them leads."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(scene.create_beside(name, within_s=within_s)) for name in names]
        await asyncio.sleep(0)
        return tasks

    async def test_many_take_one_transaction(self, scene: Scene) -> None:
        calls = scene.etcd.calls
        names = [f"n{number}" for number in range(20)]
        revisions = await asyncio.gather(*(scene.create_beside(name) for name in names))
        assert scene.etcd.calls == calls + 2
        assert len(set(revisions)) == 2
        assert scene.in_etcd() == scene.in_tables() == sorted(names)
        ids = {one.id for one in scene.tables.databases}
        assert len(ids) == len(names) + 1

    async def test_a_refusal_is_told_to_whom_it_concerns(self, scene: Scene) -> None:
        await scene.create("b")
        outcomes = await asyncio.gather(*map(scene.create_beside, "abcd"), return_exceptions=True)
        assert [isinstance(outcome, MilvusError) for outcome in outcomes] == [False, True, False, False]
        assert scene.in_etcd() == ["a", "b", "c", "d"]

    async def test_of_one_name_one_wins(self, scene: Scene) -> None:
        outcomes = await asyncio.gather(*map(scene.create_beside, "aabbab"), return_exceptions=True)
        assert sum(isinstance(outcome, int) for outcome in outcomes) == 2
        assert sum(isinstance(outcome, MilvusError) for outcome in outcomes) == 4
        assert scene.in_etcd() == scene.in_tables() == ["a", "b"]

    async def test_those_that_change_all_have_turns_of_their_own(self, scene: Scene) -> None:
        scene.limit = 5
        changes = [(scene.create if n % 3 == 0 else scene.create_beside)(f"n{n}") for n in range(4)]
        calls = scene.etcd.calls
        await asyncio.gather(*changes)
        assert scene.etcd.calls == calls + 3
        assert len(scene.in_etcd()) == 4

    def disturbed(self, scene: Scene, *times: int) -> Callable[[], str]:
        """What a change is about; at these times that it is decided, another process writes the mark."""
        decided = count(1)

        def about() -> str:
            if next(decided) in times:
                scene.etcd.put(LAYOUT.ddl("rootcoord"), ANOTHERS)
            return "disturbed"

        return about

    async def test_they_are_decided_anew_together(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        tasks = await self.joined(scene, "a", "b")
        loop = asyncio.get_running_loop()
        tasks.append(loop.create_task(scene.create_beside("c", about=self.disturbed(scene, 1, 2))))
        await asyncio.sleep(0)
        scene.etcd.faults.clear()
        await first
        async with following(scene):
            revisions = {await task for task in tasks}
        values = [event.value for _, events in scene.etcd.history for event in events]
        assert (len(revisions), values.count(ANOTHERS)) == (1, 2)
        assert scene.in_etcd() == ["a", "b", "c", "first"]

    async def test_if_the_watch_is_silent_all_are_told(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        tasks = await self.joined(scene, "a", "b", within_s=A_WHILE_S)
        disturbed = scene.create_beside("c", within_s=A_WHILE_S, about=self.disturbed(scene, 1))
        tasks.append(asyncio.get_running_loop().create_task(disturbed))
        await asyncio.sleep(0)
        scene.etcd.faults.clear()
        await first
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CommitConflict] * 3
        assert scene.in_etcd() == ["first"]

    async def test_a_lost_fence_is_told_to_all(self, scene: Scene) -> None:
        scene.etcd.put(ACTIVE, b"another")
        outcomes = await asyncio.gather(*map(scene.create_beside, "abc"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [FenceLost] * 3

    async def test_the_end_of_the_term_is_told_to_all(self, scene: Scene) -> None:
        scene.oracle.close()
        outcomes = await asyncio.gather(*map(scene.create_beside, "abc"), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TermOverError] * 3

    async def test_an_unknown_outcome_is_told_to_all_and_settled_by_the_next(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        tasks = await self.joined(scene, "a", "b", within_s=A_WHILE_S)
        scene.etcd.faults[:] = [None, *[delay_request] * 1000]
        await first
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown, OutcomeUnknown]
        scene.etcd.faults.clear()
        await scene.create_beside("a")
        scene.etcd.deliver()
        scene.follow()
        assert scene.in_etcd() == scene.in_tables() == ["a", "first"]

    async def test_who_leaves_before_the_turn_takes_no_one_along(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        leads, follows, leaves, stays = await self.joined(scene, "a", "b", "c", "d")
        leads.cancel()
        leaves.cancel()
        await asyncio.wait([leads, leaves])
        scene.etcd.faults.clear()
        await asyncio.gather(first, follows, stays)
        assert scene.in_etcd() == ["b", "d", "first"]

    async def test_who_leaves_with_the_turn_leaves_the_outcome_unknown(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        leads, follows = await self.joined(scene, "a", "b")
        under_way = len(scene.etcd.under_way)
        scene.etcd.faults[:] = [None, *[delay_request] * 1000]
        await first
        await eventually(lambda: len(scene.etcd.under_way) > under_way)
        leads.cancel()
        with pytest.raises(OutcomeUnknown):
            await follows
        scene.etcd.faults.clear()
        await scene.create("b")
        assert scene.in_etcd() == ["b", "first"]

    async def test_whose_time_is_up_is_not_decided(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        [leads] = await self.joined(scene, "a", within_s=0.9 * NEAR_S)
        [late] = await self.joined(scene, "b", within_s=0)
        scene.etcd.faults.clear()
        await asyncio.gather(first, leads)
        with pytest.raises(CommitsOverloaded):
            await late
        assert scene.in_etcd() == ["a", "first"]

    async def test_whoever_can_wait_for_much_longer_has_a_turn_of_its_own(self, scene: Scene) -> None:
        first = await self.held_up(scene)
        tasks = [(await self.joined(scene, name, within_s=SOON_S + 9 * n))[0] for n, name in enumerate("abc")]
        scene.etcd.faults.clear()
        await first
        assert len({await task for task in tasks}) == 3

    @pytest.mark.parametrize(
        ("about", "keys"), [("same", 1), ("large", 100)], ids=["the same thing", "no room beside others"]
    )
    @pytest.mark.parametrize("alone", [False, True])
    async def test_who_is_left_is_not_left_for_those_who_come_later(
        self, scene: Scene, about: str, keys: int, alone: bool
    ) -> None:
        """While one of a stream is decided the next one comes; `alone`: behind one with its own turn."""
        loop = asyncio.get_running_loop()
        tasks: dict[str, asyncio.Task[int]] = {}
        others: list[asyncio.Task[int]] = []

        def come(name: str, about: str, keys: int, stream: Sequence[str] = ()) -> None:
            def decide(_stamp: Stamp) -> list[Write]:
                if stream and stream[0] not in tasks:
                    if alone:
                        others.append(loop.create_task(scene.create(f"before {stream[0]}")))
                    come(stream[0], "same", 50, stream[1:])
                return [Put(f"{LAYOUT.alias(1, name)}{number}", TOMBSTONE) for number in range(keys)]

            share = scene.ddl.carry_out_beside(decide, about=lambda: about, deadline=boottime() + SOON_S)
            tasks[name] = loop.create_task(share)

        first = await self.held_up(scene)
        come("a", "same", 50, stream="bcdefgh")
        come("left", about, keys)
        await asyncio.sleep(0)
        scene.etcd.faults.clear()
        await first
        while waiting := [task for task in (*tasks.values(), *others) if not task.done()]:
            await asyncio.wait(waiting)
        assert sorted(tasks, key=lambda name: tasks[name].result()) == ["a", "left", *"bcdefgh"]

    async def test_what_one_transaction_does_not_take_comes_in_the_next(self, scene: Scene) -> None:
        names = [f"n{number:02}" for number in range(10)]

        def decide(name: str, stamp: Stamp) -> list[Write]:
            return [Put(LAYOUT.alias(1, f"{name}-{number}"), b"%d" % stamp.id) for number in range(50)]

        calls = scene.etcd.calls
        await asyncio.gather(
            *(
                scene.ddl.carry_out_beside(
                    partial(decide, name), about=partial(str, name), deadline=boottime() + SOON_S
                )
                for name in names
            )
        )
        assert scene.etcd.calls == calls + 7  # one, two, one ...: the first of those left goes at once
        assert sum(len(events) - 1 for _, events in scene.etcd.history[-7:]) == 500

    @pytest.mark.parametrize("touched", "abc")
    async def test_what_a_deposed_milvus_did_counts_against_each(self, scene: Scene, touched: str) -> None:
        """It writes without the mark, so only the change's own key tells of it."""
        for name in "abc":
            await scene.create(name)
        first = await self.held_up(scene)
        loop = asyncio.get_running_loop()
        drops = {name: loop.create_task(scene.drop_beside(name)) for name in "abc"}
        await asyncio.sleep(0)
        [database] = [one for one in scene.tables.databases if one.name == touched]
        scene.etcd.put(LAYOUT.database(database.id), TOMBSTONE)
        scene.etcd.faults.clear()
        await first
        async with following(scene):
            revisions = {name: await task for name, task in drops.items()}
        assert [name for name, revision in revisions.items() if revision == 0] == [touched]
        assert scene.in_etcd() == ["first"]


async def test_what_a_deposed_milvus_did_is_seen_before_the_decision(scene: Scene) -> None:
    await scene.create("a")
    [database] = [one for one in scene.tables.databases if one.name == "a"]
    scene.etcd.put(LAYOUT.database(database.id), TOMBSTONE)
    async with following(scene):
        assert await scene.drop("a") == 0
        assert await scene.create("a") > 0
    assert scene.in_etcd() == ["a"]


async def test_a_lost_fence_changes_nothing(scene: Scene) -> None:
    scene.etcd.put(ACTIVE, b"another")
    with pytest.raises(FenceLost) as caught:
        await scene.create("a")
    assert caught.value.committed is False
    assert scene.in_etcd() == []


async def test_whoever_waits_for_its_turn_hears_in_time(scene: Scene) -> None:
    scene.etcd.faults += [delay_request] * 1000
    first = asyncio.get_running_loop().create_task(scene.create("a"))
    await eventually(lambda: scene.etcd.under_way)
    with pytest.raises(CommitsOverloaded):
        await scene.create("b", within_s=SHORTLY_S)
    scene.etcd.faults.clear()
    await first
    await scene.create("b")
    assert scene.in_etcd() == ["a", "b"]


async def test_a_term_that_is_over_says_so(scene: Scene) -> None:
    scene.oracle.close()
    with pytest.raises(TermOverError):
        await scene.create("a")


@pytest.mark.parametrize("seed", range(FUZZ_RUNS))
async def test_no_fault_makes_two_of_one_name(seed: int) -> None:
    """Also: what was acknowledged last is what etcd holds, of each name nobody is unsure about."""
    draw = random.Random(seed)
    scene = await new_scene()
    exists = {"a": False, "b": False}
    unsure: set[str] = set()
    async with following(scene):
        for _ in range(12):
            scene.etcd.faults = draw.choices([None, lose_request, lose_answer, delay_request], k=30)
            name, creates = draw.choice("ab"), draw.random() < 0.6
            alone = scene.create if creates else scene.drop
            beside = scene.create_beside if creates else scene.drop_beside
            change = draw.choice((alone, beside))
            try:
                await change(name, within_s=draw.choice([0.002, SOON_S]))
                exists[name] = creates
                unsure.discard(name)
            except MilvusError:
                assert name in unsure or exists[name]
                exists[name] = True
                unsure.discard(name)
            except (OutcomeUnknown, CommitConflict, CommitsOverloaded):
                unsure.add(name)
            scene.etcd.deliver(draw)
            assert len(set(scene.in_etcd())) == len(scene.in_etcd())
            if not unsure:
                assert scene.in_etcd() == [one for one, there in exists.items() if there]
    scene.etcd.deliver()
    scene.follow()
    assert scene.in_tables() == scene.in_etcd()
    assert len(set(scene.in_etcd())) == len(scene.in_etcd())
