"""Timestamps strictly increase, inside the persisted window, also across terms and to and from Milvus."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordd.rootcoord import tso
from coordd.rootcoord.tso import (
    LOGICAL_BITS,
    MAX_COUNT,
    TimestampAllocator,
    Wait,
    floor_above,
)
from tests.unit.rootcoord.milvus_oracle import MilvusOracle, floor_of, saved_at

START_MS = 1_705_000_000_000
counts = st.one_of(st.integers(1, 100), st.integers(1, MAX_COUNT), st.just(MAX_COUNT))


def fresh(*, floor_ms: int = 0, now_ms: int = START_MS, window_ms: int = 3000) -> TimestampAllocator:
    allocator = TimestampAllocator(floor_ms=floor_ms, now_ms=now_ms)
    allocator.extend(allocator.physical_ms + window_ms)
    return allocator


def test_first_block_follows_the_clock() -> None:
    assert fresh().allocate(1, START_MS) == START_MS << LOGICAL_BITS
    allocator = fresh()
    assert allocator.allocate(10, START_MS + 7) == (START_MS + 7) << LOGICAL_BITS
    assert allocator.allocate(3, START_MS + 7) == ((START_MS + 7) << LOGICAL_BITS) + 10


def test_nothing_before_the_first_window_is_persisted() -> None:
    allocator = TimestampAllocator(floor_ms=0, now_ms=START_MS)
    assert allocator.allocate(1, START_MS) is Wait.WINDOW
    assert allocator.last == -1
    assert allocator.wanted_window_ms(START_MS) == START_MS + tso.WINDOW_MS


def test_a_new_term_starts_above_the_saved_window_whatever_the_clock_says() -> None:
    allocator = fresh(floor_ms=START_MS + 5000, now_ms=START_MS)
    assert allocator.allocate(1, START_MS) == (START_MS + 5000) << LOGICAL_BITS


def test_a_clock_that_steps_back_is_tolerated() -> None:
    allocator = fresh()
    before = allocator.allocate(5, START_MS + 100)
    after = allocator.allocate(5, START_MS - 3_600_000)
    assert isinstance(before, int)
    assert after == before + 5


def test_logical_overflow_moves_the_physical_part_once_per_clock_reading() -> None:
    allocator = fresh()
    assert allocator.allocate(MAX_COUNT, START_MS) == START_MS << LOGICAL_BITS
    assert allocator.allocate(MAX_COUNT, START_MS) == (START_MS + 1) << LOGICAL_BITS
    assert allocator.allocate(MAX_COUNT, START_MS) is Wait.CLOCK
    assert allocator.allocate(1, START_MS) == ((START_MS + 1) << LOGICAL_BITS) + MAX_COUNT
    assert allocator.allocate(MAX_COUNT, START_MS + 1) == (START_MS + 2) << LOGICAL_BITS


def test_the_window_end_itself_is_never_handed_out() -> None:
    allocator = fresh(window_ms=10)
    assert allocator.allocate(1, START_MS + 9) == (START_MS + 9) << LOGICAL_BITS
    assert allocator.allocate(1, START_MS + 10) is Wait.WINDOW
    allocator.extend(START_MS + 20)
    assert allocator.allocate(1, START_MS + 10) == (START_MS + 10) << LOGICAL_BITS


def test_a_lower_window_does_not_shrink_the_present_one() -> None:
    allocator = fresh(window_ms=100)
    allocator.extend(START_MS + 1)
    assert allocator.window_end_ms == START_MS + 100


def test_a_raised_floor_needs_a_window_of_its_own() -> None:
    allocator = fresh(window_ms=100)
    allocator.raise_floor(START_MS + 500)
    assert allocator.allocate(1, START_MS) is Wait.WINDOW
    wanted = allocator.wanted_window_ms(START_MS)
    assert wanted is not None
    allocator.extend(wanted)
    assert allocator.allocate(1, START_MS) == (START_MS + 500) << LOGICAL_BITS


@pytest.mark.parametrize("count", [0, -1, MAX_COUNT + 1])
def test_counts_outside_the_range_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        fresh().allocate(count, START_MS)


def test_the_window_is_written_about_once_a_second() -> None:
    allocator = fresh()
    writes = 0
    for now in range(START_MS, START_MS + 20_000, 10):
        wanted = allocator.wanted_window_ms(now)
        if wanted is not None:
            allocator.extend(wanted)
            writes += 1
        assert isinstance(allocator.allocate(1, now), int)
    assert 15 <= writes <= 20


def test_quick_takeovers_add_at_most_a_second_of_lead_each() -> None:
    saved = saved_at(START_MS + 3000)
    for _ in range(10):
        allocator = TimestampAllocator(floor_ms=floor_of(saved), now_ms=START_MS)
        wanted = allocator.wanted_window_ms(START_MS)
        assert wanted is not None
        saved = saved_at(wanted)
    assert allocator.physical_ms - START_MS <= 3000 + 10 * (tso.LEAD_WINDOW_MS + 1)


@pytest.mark.parametrize("saved_ns", [0, -1, tso.MAX_WINDOW_NS + 1, (1 << 63) - 1])
def test_an_impossible_window_is_an_error_never_zero(saved_ns: int) -> None:
    with pytest.raises(ValueError, match="no time"):
        floor_above(saved_ns)


@given(st.integers(1, 7_000_000_000_000))
def test_a_window_written_is_read_back_above(end_ms: int) -> None:
    assert floor_of(saved_at(end_ms)) == end_ms + 1


class Takeovers(RuleBasedStateMachine):
    """Terms of coordd and of Milvus follow each other over one saved value, under a clock that jumps
    about."""

    saved: bytes | None
    now_ns: int
    newest: int
    ours: TimestampAllocator | None
    theirs: MilvusOracle | None

    @initialize(now_ms=st.integers(START_MS, START_MS + 10**9))
    def begin(self, now_ms: int) -> None:
        self.saved, self.now_ns, self.newest, self.ours, self.theirs = None, now_ms * 10**6, -1, None, None

    @property
    def now_ms(self) -> int:
        return self.now_ns // 10**6

    @rule(delta_us=st.one_of(st.integers(0, 3000), st.integers(0, 5_000_000), st.integers(-5_000_000, 0)))
    def clock_moves(self, delta_us: int) -> None:
        self.now_ns = max(10**18, self.now_ns + delta_us * 1000)

    @rule()
    def coordd_takes_over(self) -> None:
        floor = floor_of(self.saved)
        self.ours, self.theirs = TimestampAllocator(floor_ms=floor, now_ms=self.now_ms), None

    @rule()
    def milvus_takes_over(self) -> None:
        self.ours, self.theirs = None, MilvusOracle.start(self.saved, self.now_ns)
        self.saved = self.theirs.saved

    @precondition(lambda self: self.ours is not None)
    @rule(acknowledged=st.booleans())
    def window_is_persisted(self, acknowledged: bool) -> None:
        assert self.ours is not None
        wanted = self.ours.wanted_window_ms(self.now_ms)
        if wanted is not None:
            self.saved = saved_at(wanted)
            if acknowledged:
                self.ours.extend(wanted)

    @precondition(lambda self: self.theirs is not None)
    @rule()
    def milvus_ticks(self) -> None:
        assert self.theirs is not None
        self.theirs.tick(self.now_ns)
        self.saved = self.theirs.saved

    @rule(count=counts)
    def allocate(self, count: int) -> None:
        first: int | Wait | None = None
        if self.ours is not None:
            first = self.ours.allocate(count, self.now_ms)
        elif self.theirs is not None:
            first = self.theirs.allocate(count)
        if isinstance(first, int):
            assert first > self.newest
            self.newest = first + count - 1
            assert self.saved is not None
            assert self.newest >> LOGICAL_BITS < int.from_bytes(self.saved, "big") // 10**6

    @invariant()
    def state_is_sound(self) -> None:
        if getattr(self, "ours", None) is not None:
            assert self.ours is not None
            self.ours.check_invariants()


Takeovers.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTakeovers = Takeovers.TestCase
