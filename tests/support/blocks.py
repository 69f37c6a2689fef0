"""Blocks of numbers that were handed out: none twice, and timestamps in the order of real time."""

import bisect
import heapq

from tests.support.history import Call, Outcome
from tests.support.linearizability import Violation


class Timestamps:
    """Strictly increasing: a block asked for after another was answered lies above it; none overlap.

    Calls must come in the order of time: `invoked`, then `returned`.
    """

    def __init__(self) -> None:
        self._highest: tuple[int, Call | None] = (-1, None)
        self._floors: dict[int, tuple[int, Call | None]] = {}
        self._blocks: list[tuple[int, int, Call]] = []
        self.answered = 0

    @property
    def highest(self) -> int:
        """The highest timestamp answered so far; -1 before the first."""
        return self._highest[0]

    def invoked(self, call: Call) -> None:
        """The start of a call."""
        if call.outcome is Outcome.OK:
            self._floors[call.number] = self._highest

    def returned(self, call: Call) -> None:
        """The end of a call.

        Raises:
            Violation: the block is not above one that was answered before, or overlaps one.
        """
        floor = self._floors.pop(call.number, None)
        if floor is None:
            return
        self.answered += 1
        last = call.first + call.count - 1
        if call.first <= floor[0]:
            raise Violation(
                f"timestamps went back:\n  {floor[1]}\nwas answered before this was asked:\n  {call}"
            )
        at = bisect.bisect_left(self._blocks, (call.first,))
        for first, other_last, other in self._blocks[max(at - 1, 0) : at + 1]:
            if first <= last and call.first <= other_last:
                raise Violation(f"timestamps handed out twice:\n  {other}\n  {call}")
        self._blocks.insert(at, (call.first, last, call))
        if last > self._highest[0]:
            self._highest = (last, call)
        self._forget()

    def _forget(self) -> None:
        """Blocks that lie below whatever may still be answered, or else it is found by its floor."""
        lowest = min((floor for floor, _call in self._floors.values()), default=self._highest[0])
        count = 0
        while count < len(self._blocks) and self._blocks[count][1] <= lowest:
            count += 1
        del self._blocks[:count]


class Ids:
    """Unique: no two blocks overlap, ever. What lies side by side is remembered as one stretch.

    Of the lowest ones, when there are more than `most`, the gaps count as handed out: IDs that nobody was
    told (other calls take some, answers are lost) do not turn up thousands of blocks later.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.answered = 0
        self.highest = -1

    @property
    def stretches(self) -> int:
        """How many stretches are remembered."""
        return len(self._starts)

    def returned(self, call: Call) -> None:
        """The end of a call.

        Raises:
            Violation: one of its IDs was handed out before.
        """
        if call.outcome is not Outcome.OK:
            return
        self.answered += 1
        first, end = call.first, call.first + call.count
        self.highest = max(self.highest, end - 1)
        at = bisect.bisect_left(self._starts, first)
        if at < len(self._starts) and self._starts[at] < end:
            raise Violation(f"IDs handed out twice: {self._starts[at]} and on, and again:\n  {call}")
        if at and self._ends[at - 1] > first:
            raise Violation(f"IDs handed out twice: below {self._ends[at - 1]}, and again:\n  {call}")
        joins_left = bool(at) and self._ends[at - 1] == first
        joins_right = at < len(self._starts) and self._starts[at] == end
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            self._starts.pop(at)
        elif joins_left:
            self._ends[at - 1] = end
        elif joins_right:
            self._starts[at] = first
        else:
            self._starts.insert(at, first)
            self._ends.insert(at, end)
        if len(self._starts) > self._most:
            del self._starts[1], self._ends[0]


class InOrderOfTime:
    """Starts and ends of calls, brought into the order of time though each call is told when it has ended.

    At one instant starts come before ends: calls that touch were concurrent.
    """

    def __init__(self) -> None:
        self._events: list[tuple[int, int, int, Call]] = []

    def add(self, call: Call) -> None:
        """One call that has ended."""
        heapq.heappush(self._events, (call.invoked_ns, 0, call.number, call))
        heapq.heappush(self._events, (call.completed_ns, 1, call.number, call))

    def before(self, cut_ns: int) -> list[tuple[bool, Call]]:
        """All events before that time: (whether it is an end, the call)."""
        events = []
        while self._events and self._events[0][0] < cut_ns:
            _at, is_end, _number, call = heapq.heappop(self._events)
            events.append((bool(is_end), call))
        return events
