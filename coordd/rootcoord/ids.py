"""Unique IDs: a pure allocator over a persisted high-water mark.

An ID is a plain int64 that looks like a hybrid timestamp, because Milvus starts each term's IDs at
`start_ms << 18`. Here too, but the mark that is persisted is a true bound on what was handed out:

1. No ID twice: blocks of one allocator are disjoint and increasing.
2. Below the mark: no ID at or above `mark_ms << 18` is returned.
3. Above the predecessor: a new allocator starts above the last persisted mark. Milvus' allocator, which
   takes over from this one, reads the same mark and starts above it; and this one starts above Milvus' (as
   long as Milvus handed out fewer than 2^18 IDs per millisecond since its start; it never refreshes its own
   mark).

Source of truth: Milvus 2.3.5 internal/allocator/global_id_allocator.go, internal/tso/tso.go.
"""

from coordd.rootcoord.tso import LOGICAL_BITS, Wait

MAX_COUNT = (1 << 32) - 1
"""Largest block: what the request's uint32 can say."""

WINDOW_MS = 3000
"""IDs are persisted in units of 2^18, one "millisecond". 3000 of them (786 million) are one window."""

LOW_WATER_MS = 1500


class IdAllocator:
    """Hands out blocks of IDs below `mark_ms << 18`.

    `floor_ms`: first unit that may be used, the one after the last persisted mark. `now_ms`: wall clock, Unix
    milliseconds; read once, only so that the IDs of terms stay ordered by time as Milvus' do.
    """

    __slots__ = ("_demand", "_end", "_handed_out", "_mark_ms", "_next")

    def __init__(self, *, floor_ms: int, now_ms: int) -> None:
        start_ms = max(floor_ms, now_ms)
        self._next = start_ms << LOGICAL_BITS
        self._mark_ms = start_ms
        self._demand = 0
        self._handed_out = 0
        self._end = 0

    @property
    def next_id(self) -> int:
        """The ID that the next block starts with."""
        return self._next

    @property
    def handed_out(self) -> int:
        """How many IDs this allocator has handed out."""
        return self._handed_out

    @property
    def mark_ms(self) -> int:
        """The high-water mark: no ID at or above `mark_ms << 18` is handed out."""
        return self._mark_ms

    def allocate(self, count: int) -> int | Wait:
        """First ID of `[first, first + count)`, or `Wait.WINDOW` when the mark is too low for it.

        A refused block is remembered as demand, so that the next mark covers it.

        Raises:
            ValueError: `count` is outside 1..2^32-1.
        """
        if not 0 < count <= MAX_COUNT:
            raise ValueError(f"a block of {count} IDs is outside 1..{MAX_COUNT}")
        first = self._next
        if first + count > self._mark_ms << LOGICAL_BITS:
            self._demand = max(self._demand, count)
            return Wait.WINDOW
        self._next = self._end = first + count
        self._handed_out += count
        return first

    def wanted_window_ms(self, now_ms: int) -> int | None:
        """Mark to persist next, or None while enough is left. `now_ms` plays no part: IDs do not age."""
        del now_ms
        needed = self._next + self._demand
        if needed + (LOW_WATER_MS << LOGICAL_BITS) <= self._mark_ms << LOGICAL_BITS:
            return None
        return -(-needed >> LOGICAL_BITS) + WINDOW_MS

    def extend(self, window_end_ms: int) -> None:
        """Raise the mark; call it only after the new one was persisted. A lower one is ignored."""
        if window_end_ms > self._mark_ms:
            self._mark_ms = window_end_ms
            if self._next + self._demand <= self._mark_ms << LOGICAL_BITS:
                self._demand = 0

    def raise_floor(self, floor_ms: int) -> None:
        """Hand out no ID below `floor_ms << 18` from now on (somebody else persisted a higher mark)."""
        self._next = max(self._next, floor_ms << LOGICAL_BITS)

    def check_invariants(self) -> None:
        """Raises AssertionError when an ID at or above the mark could have been handed out."""
        if self._end > self._mark_ms << LOGICAL_BITS:
            raise AssertionError("IDs beyond the persisted mark")
