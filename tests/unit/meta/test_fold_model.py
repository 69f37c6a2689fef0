"""The fold against a plain replay of etcd's history, under random mixtures of all that can happen to it."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordd.etcd import Event, KeyValue, RangeResult, WatchBatch
from coordd.meta.fold import Fold
from tests.unit.meta.samples import load_steps
from tests.unit.meta.tables import DictTable

KEYS = ["r/a/1", "r/a/x/1", "r/a/y", "r/none"]
"""Few, so that writes meet."""
PREFIXES = ("r/a/", "r/a/x/")

State = dict[str, KeyValue]
writes = st.dictionaries(
    st.sampled_from(KEYS),
    st.sampled_from([None, None, b"one", b"two", b"bad", b"bug"]),
    min_size=1,
    max_size=3,
)


class History:
    """etcd: every revision's events and state."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, ...]] = [(), ()]  # an empty etcd is at revision 1
        self.states: list[State] = [{}, {}]

    @property
    def revision(self) -> int:
        return len(self.events) - 1

    def commit(self, ops: dict[str, bytes | None]) -> int:
        """One transaction; deletes of absent keys are no events, and if there are only such, no revision."""
        state = dict(self.states[-1])
        revision = self.revision + 1
        events = []
        for key, value in ops.items():
            if value is not None:
                state[key] = KeyValue(key, value, revision, revision, 1, 0)
            elif state.pop(key, None) is None:
                continue
            events.append(Event(key, value, revision, 0, 0, 0))
        if events:
            self.events.append(tuple(events))
            self.states.append(state)
        return self.revision

    def batch(self, first: int, last: int) -> WatchBatch:
        return WatchBatch(
            last, tuple(event for revision in self.events[first : last + 1] for event in revision)
        )

    def read(self, revision: int) -> RangeResult:
        return RangeResult(revision, [self.states[revision][key] for key in sorted(self.states[revision])])


class FoldAgainstHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.etcd = History()
        self.tables = [DictTable(prefix) for prefix in PREFIXES]
        self.fold = Fold(self.tables)
        self.unanswered: list[tuple[int, dict[str, bytes | None]]] = []
        self.early: list[tuple[int, dict[str, bytes | None]]] = []
        self.loaded = False
        self.mirror: dict[str, bytes] = {}
        self.heard: dict[str, list[int]] = {key: [] for key in KEYS}
        self.fold.subscribe("r/", self.hear)

    def hear(self, event: Event) -> None:
        self.heard[event.key].append(event.mod_revision)
        if event.value is None:
            self.mirror.pop(event.key, None)
        else:
            self.mirror[event.key] = event.value

    @rule(ops=writes)
    def somebody_else_commits(self, ops: dict[str, bytes | None]) -> None:
        self.etcd.commit(ops)

    @rule(ops=writes, answered=st.booleans())
    def we_commit(self, ops: dict[str, bytes | None], answered: bool) -> None:
        self.unanswered.append((self.etcd.commit(ops), ops))
        if answered:
            self._answer(len(self.unanswered) - 1)

    @rule(index=st.integers(0, 9))
    def an_answer_arrives(self, index: int) -> None:
        """In any order, before or after the watch has told of the commit."""
        if self.unanswered:
            self._answer(index % len(self.unanswered))

    def _answer(self, index: int) -> None:
        revision, ops = self.unanswered.pop(index)
        self.fold.apply_commit(revision, [Event(key, value, revision, 0, 0, 0) for key, value in ops.items()])
        self.early.append((revision, ops))

    @rule(overlap=st.integers(0, 3), length=st.integers(0, 2))
    def the_watch_delivers(self, overlap: int, length: int) -> None:
        if self.loaded:
            done = self.fold.revision
            last = min(done + length, self.etcd.revision)
            self.fold.apply(self.etcd.batch(max(1, done + 1 - overlap), last))
            assert self.fold.revision == last

    @rule(
        lag=st.integers(0, 3), slice_keys=st.integers(1, 3), between=st.lists(st.integers(0, 9), max_size=2)
    )
    def the_range_is_read(self, lag: int, slice_keys: int, between: list[int]) -> None:
        """Perhaps an old state of it; between the steps of the load, answers arrive."""
        revision = max(self.etcd.revision - (lag if self.loaded else 0), 1)
        known = self.fold.revision
        answers = iter(between)
        for _ in load_steps(self.fold, self.etcd.read(revision), slice_keys):
            if self.loaded:
                self.an_answer_arrives(next(answers, 0))
        self.loaded = True
        assert self.fold.revision == max(known, revision)

    def expected(self) -> dict[str, tuple[int, bytes]]:
        """State at the fold's revision, with the own commits that are newer and were answered."""
        state = self.etcd.states[self.fold.revision]
        values: dict[str, tuple[int, bytes | None]] = {
            key: (kv.mod_revision, kv.value) for key, kv in state.items()
        }
        for revision, ops in sorted(self.early, key=lambda commit: commit[0]):
            if revision > self.fold.revision:
                values.update({key: (revision, value) for key, value in ops.items()})
        return {
            key: (revision, value)
            for key, (revision, value) in values.items()
            if value is not None and self.fold.covers(key)
        }

    @invariant()
    def tables_equal_the_replay(self) -> None:
        expected = self.expected()
        usable = {key: value for key, (_, value) in expected.items() if value in (b"one", b"two")}
        assert self.values(self.tables) == usable
        assert {value.key for value in self.fold.quarantine} == set(expected) - set(usable)
        assert {key: self.fold.mod_revision(key) for key in expected} == {
            key: revision for key, (revision, _) in expected.items()
        }
        assert len(self.fold) == len(expected)

    @invariant()
    def nothing_is_missing_up_to_the_revision_that_is_complete(self) -> None:
        """Own commits go on where the watch has got to, as far as there is nobody else's between them."""
        own = {revision for revision, ops in self.early if any(value is not None for value in ops.values())}
        complete = self.fold.revision
        while complete + 1 in own:
            complete += 1
        assert self.fold.complete == complete

    @invariant()
    def subscribers_have_heard_all(self) -> None:
        assert self.mirror == self.values(self.tables)
        for revisions in self.heard.values():
            assert revisions == sorted(set(revisions)), "of each key in its order, and nothing twice"

    def teardown(self) -> None:
        """When all is delivered, a fold that went through this equals one that loads now."""
        if not self.loaded:
            self.fold.load(self.etcd.read(self.etcd.revision))
        self.fold.apply(self.etcd.batch(self.fold.revision + 1, self.etcd.revision))
        fresh = [DictTable(prefix) for prefix in PREFIXES]
        Fold(fresh).load(self.etcd.read(self.etcd.revision))
        assert self.values(self.tables) == self.values(fresh)

    @staticmethod
    def values(tables: Sequence[DictTable]) -> dict[str, bytes]:
        return {key: value for table in tables for key, value in table.values.items()}


TestFoldAgainstHistory = FoldAgainstHistory.TestCase
TestFoldAgainstHistory.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def step(machine: FoldAgainstHistory, draw: random.Random) -> None:
    """One random thing happens."""
    ops = {
        draw.choice(KEYS): draw.choice([None, None, b"one", b"two", b"bad", b"bug"])
        for _ in range(draw.randint(1, 3))
    }
    match draw.randrange(8):
        case 0 | 1:
            machine.somebody_else_commits(ops)
        case 2 | 3:
            machine.we_commit(ops, draw.random() < 0.5)
        case 4:
            machine.an_answer_arrives(draw.randrange(10))
        case 5 | 6:
            machine.the_watch_delivers(draw.randrange(4), draw.randrange(3))
        case _:
            machine.the_range_is_read(draw.randrange(4), draw.randint(1, 3), [draw.randrange(10)])


@pytest.mark.parametrize("seed", range(100))
def test_seeded_mixtures(seed: int) -> None:
    """The same machine without hypothesis: much faster, so it gets further into odd corners."""
    draw = random.Random(seed)
    machine = FoldAgainstHistory()
    for _ in range(60):
        step(machine, draw)
        machine.tables_equal_the_replay()
        machine.nothing_is_missing_up_to_the_revision_that_is_complete()
        machine.subscribers_have_heard_all()
    machine.teardown()
