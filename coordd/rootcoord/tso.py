"""Hybrid timestamps: a pure allocator over a persisted window.

A timestamp is `physical_ms << 18 | logical`. The allocator holds no clock and does no I/O: the time comes in
with each call, and the window it may use is extended by whoever persisted it (`windows.py`).

What holds for every sequence of calls, terms and clock readings:

1. Strictly increasing: every timestamp of a block is above every timestamp of every earlier block, whatever
   the clock does in between (a clock that steps back costs nothing but the distance to wall time).
2. Below the window: no timestamp at or above `window_end_ms << 18` is ever returned, so the persisted window
   bounds everything handed out.
3. Above the predecessor: a new allocator starts above the last persisted window, so it starts above
   everything its predecessor handed out, or can still hand out before it notices that it is deposed.
4. Never zero by accident: an allocator is built from a window that was read; what to do when none can be
   read is decided by `windows.py`, never by a default here.

The first two are checked by `check_invariants`; all four are properties in the tests, also across takeovers
to and from Milvus' own allocator.

Source of truth: Milvus 2.3.5 internal/tso/tso.go and global_allocator.go. Milvus moves the physical part in
a 50 ms loop and makes a caller sleep when the logical part runs out; here the physical part follows the
clock at each call, and an exhausted logical part moves it on, at most once per clock reading, so that
demand cannot drive it far ahead of the clock.
"""

import enum

LOGICAL_BITS = 18
LOGICAL_LIMIT = 1 << LOGICAL_BITS

NS_PER_MS = 1_000_000

MAX_WINDOW_NS = 7_258_118_400 * 1_000_000_000
"""2200-01-01, to tell a saved window from eight bytes of something else."""

MAX_COUNT = LOGICAL_LIMIT - 1
"""Largest block: Milvus refuses a logical part that reaches 2^18, also on a fresh millisecond."""

WINDOW_MS = 3000
"""How far ahead of the clock the window is persisted; Milvus' updateTimestampGuard window (3 s)."""

LOW_WATER_MS = 2000
"""Extend when less than this is left of it: about one etcd write per second, and the rest outlasts the
serve guard, so a slow etcd stops answers before it stops timestamps."""

LEAD_WINDOW_MS = 1000
"""Window above the physical part while that is ahead of the clock (after a takeover). Smaller than
`WINDOW_MS` so that takeovers in quick succession do not each add three seconds of lead."""

LEAD_LOW_WATER_MS = 500


class Wait(enum.Enum):
    """Why no block could be handed out at this instant."""

    WINDOW = "the persisted window is used up"
    CLOCK = "the logical part is used up for this clock reading"


class TimestampAllocator:
    """Hands out blocks of timestamps below `window_end_ms`.

    `floor_ms`: first physical millisecond that may be used; the millisecond after the last persisted window.
    `now_ms`: wall clock, Unix milliseconds. Nothing can be allocated before the first `extend`.
    """

    __slots__ = ("_last", "_logical", "_physical_ms", "_stepped_at_ms", "_window_end_ms")

    def __init__(self, *, floor_ms: int, now_ms: int) -> None:
        self._physical_ms = max(floor_ms, now_ms)
        self._logical = 0
        self._window_end_ms = self._physical_ms
        self._stepped_at_ms = -1
        self._last = -1

    @property
    def physical_ms(self) -> int:
        """Physical part of the newest timestamp (Unix milliseconds; may be ahead of the clock)."""
        return self._physical_ms

    @property
    def window_end_ms(self) -> int:
        """First physical millisecond that must not be handed out."""
        return self._window_end_ms

    @property
    def last(self) -> int:
        """The newest timestamp handed out, -1 before the first."""
        return self._last

    def allocate(self, count: int, now_ms: int) -> int | Wait:
        """First timestamp of a block of `count` consecutive ones, or why there is none right now.

        A refusal changes nothing that a caller could see. `count` is 1 to `MAX_COUNT`.

        Raises:
            ValueError: `count` is outside that range.
        """
        if not 0 < count <= MAX_COUNT:
            raise ValueError(f"a block of {count} timestamps is outside 1..{MAX_COUNT}")
        physical, logical = self._physical_ms, self._logical
        stepped_at_ms = self._stepped_at_ms
        if now_ms > physical:
            physical, logical = now_ms, 0
        elif logical + count > LOGICAL_LIMIT:
            if now_ms == stepped_at_ms:
                return Wait.CLOCK
            physical, logical, stepped_at_ms = physical + 1, 0, now_ms
        if physical >= self._window_end_ms:
            return Wait.WINDOW
        self._stepped_at_ms = stepped_at_ms
        self._physical_ms, self._logical = physical, logical + count
        first = physical << LOGICAL_BITS | logical
        self._last = first + count - 1
        return first

    def wanted_window_ms(self, now_ms: int) -> int | None:
        """End of the window to persist next, or None while enough of the present one is left."""
        low = max(now_ms + LOW_WATER_MS, self._physical_ms + LEAD_LOW_WATER_MS)
        if self._window_end_ms >= low:
            return None
        return max(now_ms + WINDOW_MS, self._physical_ms + LEAD_WINDOW_MS)

    def extend(self, window_end_ms: int) -> None:
        """Allow timestamps below `window_end_ms`; call it only after that end was persisted.

        An end below the present one is ignored: the larger one was persisted too.
        """
        self._window_end_ms = max(self._window_end_ms, window_end_ms)

    def raise_floor(self, floor_ms: int) -> None:
        """Use no physical millisecond below `floor_ms` from now on (somebody else persisted a higher
        window)."""
        if floor_ms > self._physical_ms:
            self._physical_ms, self._logical = floor_ms, 0

    def check_invariants(self) -> None:
        """Raises AssertionError when the state breaks one of the rules above."""
        if not 0 <= self._logical <= LOGICAL_LIMIT:
            raise AssertionError("logical part out of range")
        if self._last >= self._window_end_ms << LOGICAL_BITS:
            raise AssertionError("a timestamp at or above the window's end")
        if self._last >= (self._physical_ms << LOGICAL_BITS) + self._logical:
            raise AssertionError("the next timestamp would not be above the last")


def floor_above(saved_ns: int) -> int:
    """First physical millisecond above a saved window (Unix nanoseconds), whoever saved it.

    Milvus' ends carry nanoseconds; it hands out nothing in the millisecond of the end itself, and coordd
    nothing at or above its own end, so the next whole millisecond is above both.

    Raises:
        ValueError: zero, or beyond the year 2200: no cluster's clock was ever there, and starting above it
            would use up the timestamps.
    """
    if not 0 < saved_ns <= MAX_WINDOW_NS:
        raise ValueError(f"{saved_ns} ns since 1970 is no time a cluster can have saved")
    return saved_ns // NS_PER_MS + 1


def physical_of(timestamp: int) -> int:
    """Unix milliseconds of a hybrid timestamp (the "UTC" fields of responses)."""
    return timestamp >> LOGICAL_BITS
