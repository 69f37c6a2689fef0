"""Commits under the fence, with every way an answer can fail to arrive."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from coordd.clock import boottime
from coordd.etcd import Compare, Delete, Op, Put, TxnResult
from coordd.etcd.errors import EtcdError, NoSpace, OutcomeUnknown, RequestTooLarge, Unavailable
from coordd.meta import commit as commit_module
from coordd.meta.commit import (
    CommitConflict,
    CommitsOverloaded,
    FencedCommitter,
    FenceLost,
    MetadataFull,
    TransactionTooLarge,
    Write,
)
from coordd.meta.fold import Fold
from tests.support.etcd import eventually
from tests.unit.meta.fake_etcd import (
    Apply,
    FakeEtcd,
    Fault,
    delay_request,
    lose_answer,
    lose_request,
    no_space,
    no_space_after_all,
    refuse,
)
from tests.unit.meta.tables import DictTable

ACTIVE = "session/rootcoord"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "RETRY_MIN_S", 0.0005)
    monkeypatch.setattr(commit_module, "RETRY_MAX_S", 0.001)


@dataclass
class Replica:
    """A term of one replica on a fake etcd; `a/...` is in a table, all else is not."""

    etcd: FakeEtcd = field(default_factory=FakeEtcd)
    table: DictTable = field(default_factory=lambda: DictTable("a/"))
    lost: int = 0

    def __post_init__(self) -> None:
        self.fold = Fold([self.table])
        epoch = self.etcd.put(ACTIVE, b"me")
        self.committer = FencedCommitter(
            self.etcd, Compare.mod_revision(ACTIVE, epoch), self.fold, self.count_loss
        )

    def count_loss(self) -> None:
        self.lost += 1

    def follow(self) -> None:
        """The watch catches up."""
        self.fold.apply(self.etcd.since(self.fold.revision))

    def value(self, key: str) -> bytes | None:
        """What etcd holds."""
        kv = self.etcd.state.get(key)
        return None if kv is None else kv.value


@pytest.fixture
def replica() -> Replica:
    return Replica()


async def test_a_commit_is_in_etcd_and_in_the_tables(replica: Replica) -> None:
    revision = await replica.committer.commit([Put("a/1", b"x"), Put("snapshots/a/1_ts5", b"x")])
    assert revision == replica.etcd.revision
    assert replica.value("snapshots/a/1_ts5") == b"x"
    assert replica.table.values == {"a/1": b"x"}
    assert replica.fold.mod_revision("a/1") == revision
    assert await replica.committer.commit([Delete("a/1")]) == revision + 1
    assert replica.table.values == {}
    replica.follow()
    assert len(replica.table.applied) == 2


async def test_each_key_can_be_written_again_without_waiting_for_the_watch(replica: Replica) -> None:
    for value in (b"x", b"y", b"z"):
        await replica.committer.commit([Put("a/1", value)])
    assert replica.value("a/1") == b"z"


class TestFence:
    async def test_a_deposed_replica_commits_nothing(self, replica: Replica) -> None:
        replica.etcd.put(ACTIVE, b"another")
        with pytest.raises(FenceLost) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert caught.value.committed is False
        assert replica.value("a/1") is None
        assert replica.table.values == {}
        assert replica.lost == 1

    async def test_the_loss_is_told_once_and_etcd_is_not_asked_again(self, replica: Replica) -> None:
        replica.etcd.delete(ACTIVE)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.losing(replica, key), name=key) for key in ("a/1", "a/2")]
        assert all(task.result() is False for task in tasks)
        calls = replica.etcd.calls
        with pytest.raises(FenceLost):
            await replica.committer.commit([Put("a/1", b"x")])
        with pytest.raises(FenceLost):
            await replica.committer.read(["a/1"])
        assert (replica.lost, replica.etcd.calls) == (1, calls)

    @staticmethod
    async def losing(replica: Replica, key: str) -> bool | None:
        with pytest.raises(FenceLost) as caught:
            await replica.committer.commit([Put(key, b"x")])
        return caught.value.committed

    async def test_the_same_value_written_again_is_another_epoch(self, replica: Replica) -> None:
        replica.etcd.put(ACTIVE, b"me")
        with pytest.raises(FenceLost):
            await replica.committer.read(["a/1"])

    def test_is_a_mod_revision(self, replica: Replica) -> None:
        with pytest.raises(ValueError, match="mod_revision"):
            FencedCommitter(replica.etcd, Compare.value(ACTIVE, b"me"), replica.fold, replica.count_loss)


class TestConflicts:
    async def test_a_key_that_somebody_else_wrote(self, replica: Replica) -> None:
        await replica.committer.commit([Put("a/1", b"x")])
        foreign = replica.etcd.put("a/1", b"foreign")
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.commit([Put("a/1", b"y")])
        assert (caught.value.key, caught.value.known, caught.value.actual) == ("a/1", foreign - 1, foreign)
        assert replica.value("a/1") == b"foreign"
        replica.follow()
        await replica.committer.commit([Put("a/1", b"y")])
        assert replica.table.values == {"a/1": b"y"}

    async def test_what_the_decision_rests_on(self, replica: Replica) -> None:
        await replica.committer.commit([Put("a/collection", b"created")])
        known = {"a/collection": replica.fold.mod_revision("a/collection")}
        await replica.committer.commit([Put("a/alias", b"x")], expect=known)
        foreign = replica.etcd.put("a/collection", b"dropping")
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.commit([Put("a/alias", b"y")], expect=known)
        assert (caught.value.key, caught.value.actual) == ("a/collection", foreign)
        assert replica.value("a/alias") == b"x"

    async def test_of_two_that_decided_upon_the_same_state_one_wins(self, replica: Replica) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.try_to_put(replica, value), name="put") for value in (b"x", b"y")]
        assert sorted(task.result() for task in tasks) == [False, True]

    @staticmethod
    async def try_to_put(replica: Replica, value: bytes) -> bool:
        try:
            await replica.committer.commit([Put("a/1", value)])
        except CommitConflict:
            return False
        return replica.value("a/1") == value

    async def test_guard_of_a_key_outside_the_tables_comes_from_the_caller(self, replica: Replica) -> None:
        with pytest.raises(ValueError, match="guard_revision"):
            await replica.committer.commit([Put("kv/timestamp", b"1")])
        read = await replica.committer.read(["kv/timestamp"])
        assert read.values == {"kv/timestamp": None}
        revision = await replica.committer.commit(
            [Put("kv/timestamp", b"1")], guard_revision=read.mod_revision("kv/timestamp")
        )
        read = await replica.committer.read(["kv/timestamp", "a/1"])
        assert read.mod_revision("kv/timestamp") == revision
        with pytest.raises(CommitConflict):
            await replica.committer.commit([Put("kv/timestamp", b"2")], guard_revision=revision - 1)


class TestUnknownOutcomes:
    FAULTS = (lose_request, lose_answer, delay_request, refuse)

    @pytest.mark.parametrize("first", FAULTS)
    @pytest.mark.parametrize("second", [None, *FAULTS])
    @pytest.mark.parametrize(
        ("ops", "guard"),
        [
            ([Put("a/1", b"y"), Put("b", b"z")], "a/1"),
            ([Delete("a/1")], "a/1"),
            ([Delete("a/1"), Put("b", b"z")], "b"),
        ],
    )
    async def test_are_found_out(
        self, replica: Replica, ops: Sequence[Write], guard: str, first: Fault, second: Fault | None
    ) -> None:
        await replica.committer.commit([Put("a/1", b"x")])
        before = replica.etcd.revision
        replica.etcd.faults = [first, second]
        known = replica.fold.mod_revision(guard)
        revision = await replica.committer.commit(ops, guard_key=guard, guard_revision=known)
        replica.etcd.deliver()
        replica.follow()
        assert revision == replica.etcd.revision == before + 1
        assert replica.value("a/1") == (b"y" if isinstance(ops[0], Put) else None)
        assert replica.table.values == ({"a/1": b"y"} if isinstance(ops[0], Put) else {})

    async def test_a_delayed_copy_that_arrives_first(self, replica: Replica) -> None:
        def arrive(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.deliver()
            return apply()

        replica.etcd.faults = [delay_request, arrive]
        revision = await replica.committer.commit([Put("a/1", b"x"), Put("b", b"x")])
        assert revision == replica.etcd.revision == 3
        assert replica.table.values == {"a/1": b"x"}

    async def test_somebody_else_wrote_the_same_key(self, replica: Replica) -> None:
        replica.etcd.faults = [self.foreign_write]
        with pytest.raises(OutcomeUnknown, match="overwritten"):
            await replica.committer.commit([Put("a/1", b"x")])

    async def test_the_same_writes_by_somebody_else_count_as_ours(self, replica: Replica) -> None:
        def foreign(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.put("a/1", b"x")
            etcd.put("b", b"x")
            raise OutcomeUnknown("no answer")

        replica.etcd.put("b", b"old")
        replica.etcd.faults = [foreign]
        # b was written after a/1, so not with it; but it may have been written over since
        assert await replica.committer.commit([Put("a/1", b"x"), Put("b", b"x")]) == replica.etcd.revision - 1
        replica.etcd.faults = [self.foreign_write]
        with pytest.raises(OutcomeUnknown):
            await replica.committer.commit([Put("a/1", b"foreign"), Put("b", b"not written")])

    async def test_an_answered_loss_is_a_conflict_even_if_the_values_are_ours(self, replica: Replica) -> None:
        replica.etcd.put("a/1", b"x")
        with pytest.raises(CommitConflict):
            await replica.committer.commit([Put("a/1", b"x")])

    @pytest.mark.parametrize(
        "ops",
        [
            [Put("a/1", b"foreign"), Put("b", b"old")],  # b was not written since
            [Put("a/1", b"foreign"), Delete("b")],  # b was not deleted
            [Put("a/1", b"x"), Put("b", b"old")],
        ],
    )
    async def test_some_writes_like_ours_do_not_count(self, replica: Replica, ops: Sequence[Write]) -> None:
        replica.etcd.put("b", b"old")
        replica.etcd.faults = [self.foreign_write]
        with pytest.raises(OutcomeUnknown, match="overwritten"):
            await replica.committer.commit(ops)

    async def test_what_was_written_before_is_not_taken_for_the_transaction(self, replica: Replica) -> None:
        """It wants what is there already, and what somebody else does meanwhile."""
        await replica.committer.commit([Put("a/1", b"x")])
        replica.etcd.put("b", b"same")
        replica.etcd.put("c", b"not ours")

        def foreign(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.delete("a/1")
            raise OutcomeUnknown("no answer")

        replica.etcd.faults = [foreign]
        wanted = [Delete("a/1"), Put("b", b"same"), Put("c", b"ours")]
        with pytest.raises(CommitConflict):
            await replica.committer.commit(
                wanted,
                guard_revision=replica.etcd.state["b"].mod_revision,
                expect={"a/1": replica.fold.mod_revision("a/1")},
            )
        with pytest.raises(ValueError, match="guard"):
            await replica.committer.commit(wanted, guard_key="a/1")

    async def test_the_same_value_on_another_lease_is_not_ours(self, replica: Replica) -> None:
        replica.etcd.faults = [self.foreign_write]
        with pytest.raises(OutcomeUnknown, match="overwritten"):
            await replica.committer.commit([Put("a/1", b"foreign", 5)])

    async def test_nobody_is_told_that_an_inferred_revision_is_in_whole(self, replica: Replica) -> None:
        """Somebody else may have written the very same, and more besides."""

        def foreign(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.write(Put("a/1", b"x"), Put("a/2", b"theirs"))
            raise OutcomeUnknown("no answer")

        replica.follow()
        known = replica.fold.complete
        replica.etcd.faults = [foreign]
        revision = await replica.committer.commit([Put("a/1", b"x")])
        assert (revision, replica.fold.complete) == (known + 1, known)
        replica.follow()
        assert replica.fold.complete == revision
        assert replica.table.values == {"a/1": b"x", "a/2": b"theirs"}
        assert replica.fold.complete + 1 == await replica.committer.commit([Put("a/1", b"y")])
        assert replica.fold.complete == replica.etcd.revision

    async def test_nothing_was_written_if_the_guard_is_as_it_was(self, replica: Replica) -> None:
        await replica.committer.commit([Put("a/1", b"x")])
        replica.etcd.faults = [lose_request]
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.commit([Put("a/1", b"x")], expect={"c": 99})
        assert caught.value.key == "c"

    @staticmethod
    def foreign_write(etcd: FakeEtcd, apply: Apply) -> TxnResult:
        etcd.put("a/1", b"foreign")
        raise OutcomeUnknown("no answer")

    @pytest.mark.parametrize(
        ("fault", "committed"), [(lose_request, False), (lose_answer, True), (delay_request, False)]
    )
    async def test_when_the_fence_is_lost_meanwhile(
        self, replica: Replica, fault: Fault, committed: bool
    ) -> None:
        def depose(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            try:
                return fault(etcd, apply)
            finally:
                etcd.put(ACTIVE, b"another")

        replica.etcd.faults = [depose]
        with pytest.raises(FenceLost) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert caught.value.committed is committed
        replica.etcd.deliver()
        assert (replica.value("a/1") == b"x") is committed
        assert replica.table.values == {}

    async def test_when_the_successor_wrote_the_key(self, replica: Replica) -> None:
        def depose(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.put(ACTIVE, b"another")
            etcd.put("a/1", b"of the successor")
            raise OutcomeUnknown("no answer")

        replica.etcd.faults = [depose]
        with pytest.raises(FenceLost) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert caught.value.committed is None

    async def test_that_stay_unknown_until_the_deadline(self, replica: Replica) -> None:
        replica.etcd.faults = [lose_answer, *[refuse] * 1000]
        with pytest.raises(OutcomeUnknown):
            await replica.committer.commit([Put("a/1", b"x")], deadline=boottime() + 0.02)
        assert replica.table.values == {}
        replica.follow()
        assert replica.table.values == {"a/1": b"x"}

    async def test_followed_by_a_final_error_stay_unknown(self, replica: Replica) -> None:
        def denied(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            raise EtcdError("permission denied")

        replica.etcd.faults = [lose_answer, denied]
        with pytest.raises(OutcomeUnknown) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert isinstance(caught.value.__cause__, EtcdError)


class TestFailures:
    async def test_nobody_listens_until_the_deadline(self, replica: Replica) -> None:
        replica.etcd.faults = [refuse] * 1000
        with pytest.raises(Unavailable):
            await replica.committer.commit([Put("a/1", b"x")], deadline=boottime() + 0.02)
        replica.etcd.faults = [refuse] * 3
        await replica.committer.commit([Put("a/1", b"x")])

    async def test_final_errors_come_at_once(self, replica: Replica) -> None:
        def denied(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            raise EtcdError("permission denied")

        replica.etcd.faults = [denied]
        with pytest.raises(EtcdError, match="denied"):
            await replica.committer.commit([Put("a/1", b"x")])
        assert replica.etcd.calls == 1

    async def test_too_large_for_etcd(self, replica: Replica) -> None:
        def refuse_size(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            raise RequestTooLarge("a request of 2000000 bytes")

        replica.etcd.faults = [refuse_size]
        with pytest.raises(TransactionTooLarge, match="2000000"):
            await replica.committer.commit([Put("a/1", b"x")])
        with pytest.raises(TransactionTooLarge):
            await replica.committer.commit([Put(f"a/{index}", b"x") for index in range(129)])
        with pytest.raises(TransactionTooLarge):
            await replica.committer.read([f"a/{index}" for index in range(129)])

    async def test_no_space_and_nothing_written(self, replica: Replica) -> None:
        replica.etcd.faults = [no_space]
        with pytest.raises(MetadataFull):
            await replica.committer.commit([Put("a/1", b"x")])
        assert replica.value("a/1") is None

    async def test_no_space_and_written_all_the_same(self, replica: Replica) -> None:
        replica.etcd.faults = [no_space_after_all]
        assert await replica.committer.commit([Put("a/1", b"x")]) == replica.etcd.revision
        assert replica.table.values == {"a/1": b"x"}

    async def test_no_space_after_an_unknown_outcome(self, replica: Replica) -> None:
        replica.etcd.faults = [delay_request, no_space]
        with pytest.raises(OutcomeUnknown) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert not isinstance(caught.value, NoSpace)

    async def test_no_space_and_etcd_does_not_say_more(self, replica: Replica) -> None:
        replica.etcd.faults = [no_space, *[refuse] * 1000]
        with pytest.raises(NoSpace):
            await replica.committer.commit([Put("a/1", b"x")], deadline=boottime() + 0.02)

    async def test_no_space_and_deposed(self, replica: Replica) -> None:
        def depose(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.put(ACTIVE, b"another")
            raise NoSpace("database space exceeded")

        replica.etcd.faults = [depose]
        with pytest.raises(FenceLost) as caught:
            await replica.committer.commit([Put("a/1", b"x")])
        assert caught.value.committed is False

    async def test_reads_are_repeated(self, replica: Replica) -> None:
        replica.etcd.faults = [lose_answer, refuse]
        read = await replica.committer.read([ACTIVE, ACTIVE])
        assert read.revision == replica.etcd.revision
        replica.etcd.faults = [refuse] * 1000
        with pytest.raises(Unavailable):
            await replica.committer.read([ACTIVE], deadline=boottime() + 0.02)


class Stuck(FakeEtcd):
    """Answers nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        result = await super().txn(compares, success, failure, timeout_s=timeout_s)
        await self.go.wait()
        return result


class TestConcurrency:
    async def test_commits_of_one_key_queue(self) -> None:
        etcd = Stuck()
        replica = Replica(etcd)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(
                replica.committer.commit([Put("a/1", b"x"), Put("a/2", b"x")]), name="first"
            )
            other = group.create_task(replica.committer.commit([Put("a/3", b"x")]), name="other")
            await eventually(lambda: replica.etcd.calls == 2)
            with pytest.raises(CommitsOverloaded):
                await replica.committer.commit([Put("a/2", b"y")], deadline=boottime() + 0.01)
            assert not first.done()
            etcd.go.set()
        assert {first.result(), other.result()} == {3, 4}

    async def test_a_cancelled_commit_is_learnt_from_the_watch(self) -> None:
        etcd = Stuck()
        replica = Replica(etcd)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(replica.committer.commit([Put("a/1", b"x")]), name="commit")
            await eventually(lambda: replica.etcd.calls == 1)
            task.cancel()
        assert task.cancelled()
        assert replica.table.values == {}
        etcd.go.set()
        with pytest.raises(CommitConflict):
            await replica.committer.commit([Put("a/1", b"y")])
        replica.follow()
        await replica.committer.commit([Put("a/1", b"y")])
        assert replica.table.values == {"a/1": b"y"}


class Outcomes:
    """Many replicas' worth of random commits on one fake etcd; what they were told against what is there."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.replica = Replica()
        self.told: dict[bytes, int | bool | None] = {}

    def fault(self) -> Fault | None:
        faults = [None, None, None, lose_request, lose_answer, delay_request, refuse]
        choice = self.draw.choice(faults)
        fate = self.draw.random()

        def happen(etcd: FakeEtcd, apply: Apply) -> TxnResult:
            etcd.deliver(self.draw)
            if fate < 0.01:
                etcd.put(ACTIVE, b"another")
            if fate > 0.9:
                self.replica.follow()
            return apply() if choice is None else choice(etcd, apply)

        return happen

    async def one(self, number: int) -> None:
        """A commit whose values name it; records the revision, whether it was committed, or None: unknown."""
        for _ in range(self.draw.randrange(20)):
            await asyncio.sleep(0)
        name = f"commit {number}".encode()
        keys = self.draw.sample(["a/1", "a/2", "a/3"], self.draw.randint(1, 2))
        try:
            self.told[name] = await self.replica.committer.commit(
                [Put(key, name) for key in keys], deadline=boottime() + self.draw.choice([0.0, 5.0])
            )
        except FenceLost as error:
            self.told[name] = error.committed
        except (CommitConflict, Unavailable, CommitsOverloaded):
            self.told[name] = False
        except OutcomeUnknown:
            self.told[name] = None

    async def run(self) -> None:
        self.replica.etcd.faults = [self.fault() for _ in range(400)]
        async with asyncio.TaskGroup() as group:
            for number in range(25):
                group.create_task(self.one(number), name=f"commit-{number}")
        self.replica.etcd.deliver()
        self.replica.follow()


@pytest.mark.parametrize("seed", range(40))
async def test_what_commits_were_told_is_true(seed: int) -> None:
    outcomes = Outcomes(seed)
    await outcomes.run()
    replica = outcomes.replica
    applied: dict[bytes, int] = {}
    for revision, events in replica.etcd.history:
        for value in {event.value for event in events if event.value is not None}:
            assert value not in applied, f"{value!r} was applied twice"
            applied[value] = revision
    assert len(outcomes.told) == 25
    for name, told in outcomes.told.items():
        if isinstance(told, bool):
            assert (name in applied) is told, name
        elif told is not None:
            assert applied[name] == told, name
    in_etcd = {key: kv.value for key, kv in replica.etcd.state.items() if key.startswith("a/")}
    assert replica.table.values == in_etcd
    assert replica.lost <= 1


class TestUntilSeen:
    async def conflict(self, replica: Replica) -> CommitConflict:
        """Of a commit that was decided upon before somebody else wrote its key."""
        replica.etcd.put("a/1", b"theirs")
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.commit([Put("a/1", b"mine")])
        return caught.value

    async def test_it_returns_when_the_watch_has_told(self, replica: Replica) -> None:
        conflict = await self.conflict(replica)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(replica.committer.until_seen(conflict, deadline=boottime() + 10))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            replica.follow()
        await replica.committer.commit([Put("a/1", b"mine")])
        assert replica.value("a/1") == b"mine"

    async def test_a_deletion_is_news_too(self, replica: Replica) -> None:
        await replica.committer.commit([Put("a/1", b"mine")])
        replica.etcd.delete("a/1")
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.commit([Put("a/1", b"mine again")])
        async with asyncio.TaskGroup() as group:
            group.create_task(replica.committer.until_seen(caught.value, deadline=boottime() + 10))
            await asyncio.sleep(0)
            replica.follow()
        assert replica.table.values == {}

    async def test_it_returns_at_once_if_the_watch_was_faster(self, replica: Replica) -> None:
        conflict = await self.conflict(replica)
        replica.follow()
        await replica.committer.until_seen(conflict, deadline=boottime() + 10)

    async def test_without_news_the_conflict_stands(self, replica: Replica) -> None:
        conflict = await self.conflict(replica)
        with pytest.raises(CommitConflict) as caught:
            await replica.committer.until_seen(conflict, deadline=boottime() + 0.02)
        assert caught.value is conflict
