"""No ID twice: within a term, across terms, and across takeovers to and from Milvus' allocator."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordd.rootcoord import ids
from coordd.rootcoord.ids import MAX_COUNT, IdAllocator
from coordd.rootcoord.tso import LOGICAL_BITS, Wait
from tests.unit.rootcoord.milvus_oracle import MilvusOracle, floor_of, saved_at

START_MS = 1_705_000_000_000


def extended(allocator: IdAllocator) -> IdAllocator:
    wanted = allocator.wanted_window_ms(START_MS)
    assert wanted is not None
    allocator.extend(wanted)
    return allocator


def test_blocks_follow_each_other() -> None:
    allocator = extended(IdAllocator(floor_ms=0, now_ms=START_MS))
    assert allocator.allocate(200_000) == START_MS << LOGICAL_BITS
    assert allocator.allocate(1) == (START_MS << LOGICAL_BITS) + 200_000


def test_nothing_before_the_first_mark_is_persisted() -> None:
    assert IdAllocator(floor_ms=0, now_ms=START_MS).allocate(1) is Wait.WINDOW


def test_a_block_beyond_the_window_is_demand_for_the_next_mark() -> None:
    allocator = extended(IdAllocator(floor_ms=0, now_ms=START_MS))
    assert allocator.allocate(1 << 31) is Wait.WINDOW
    first = extended(allocator).allocate(1 << 31)
    assert first == START_MS << LOGICAL_BITS
    assert allocator.allocate(1) == (START_MS << LOGICAL_BITS) + (1 << 31)


def test_the_largest_block_is_served() -> None:
    allocator = extended(IdAllocator(floor_ms=0, now_ms=START_MS))
    assert allocator.allocate(MAX_COUNT) is Wait.WINDOW
    assert isinstance(extended(allocator).allocate(MAX_COUNT), int)
    allocator.check_invariants()


def test_the_clock_alone_costs_no_writes() -> None:
    allocator = extended(IdAllocator(floor_ms=0, now_ms=START_MS))
    assert allocator.allocate(200_000) is not Wait.WINDOW
    assert allocator.wanted_window_ms(START_MS + 10**9) is None


@pytest.mark.parametrize("count", [0, -5, MAX_COUNT + 1])
def test_counts_outside_the_range_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        extended(IdAllocator(floor_ms=0, now_ms=START_MS)).allocate(count)


def test_a_raised_floor_needs_a_mark_of_its_own() -> None:
    allocator = extended(IdAllocator(floor_ms=0, now_ms=START_MS))
    allocator.raise_floor(START_MS + ids.WINDOW_MS + 10)
    assert allocator.allocate(1) is Wait.WINDOW
    assert extended(allocator).allocate(1) == (START_MS + ids.WINDOW_MS + 10) << LOGICAL_BITS


class Takeovers(RuleBasedStateMachine):
    """Terms of coordd and of Milvus over one saved mark.

    Milvus never refreshes its mark, so its safety rests on fewer than 2^18 IDs per millisecond; the model's
    Milvus keeps to that, and the clock does not step back while it runs. coordd's own terms know no such
    condition.
    """

    saved: bytes | None
    now_ns: int
    newest: int
    ours: IdAllocator | None
    theirs: MilvusOracle | None

    @initialize(now_ms=st.integers(START_MS, START_MS + 10**9))
    def begin(self, now_ms: int) -> None:
        self.saved, self.now_ns, self.newest, self.ours, self.theirs = None, now_ms * 10**6, -1, None, None

    @property
    def now_ms(self) -> int:
        return self.now_ns // 10**6

    @rule(delta_us=st.integers(-5_000_000, 5_000_000))
    def clock_moves(self, delta_us: int) -> None:
        if self.theirs is None or delta_us > 0:
            self.now_ns += delta_us * 1000

    @rule()
    def coordd_takes_over(self) -> None:
        floor = floor_of(self.saved)
        self.ours, self.theirs = IdAllocator(floor_ms=floor, now_ms=self.now_ms), None

    @rule()
    def milvus_takes_over(self) -> None:
        self.ours, self.theirs = None, MilvusOracle.start(self.saved, self.now_ns, has_logical_limit=False)
        self.saved = self.theirs.saved

    @precondition(lambda self: self.ours is not None)
    @rule(acknowledged=st.booleans())
    def mark_is_persisted(self, acknowledged: bool) -> None:
        assert self.ours is not None
        wanted = self.ours.wanted_window_ms(self.now_ms)
        if wanted is not None:
            self.saved = saved_at(wanted)
            if acknowledged:
                self.ours.extend(wanted)

    @rule(count=st.one_of(st.integers(1, 200_000), st.integers(1, 1 << 31)))
    def allocate(self, count: int) -> None:
        first: int | Wait | None = None
        if self.ours is not None:
            first = self.ours.allocate(count)
        elif self.theirs is not None and count <= 200_000:
            first = self.theirs.allocate(count)
        if isinstance(first, int):
            assert first > self.newest
            self.newest = first + count - 1

    @invariant()
    def state_is_sound(self) -> None:
        if getattr(self, "ours", None) is not None:
            assert self.ours is not None
            self.ours.check_invariants()


Takeovers.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTakeovers = Takeovers.TestCase
