"""Virtual time: what is going to happen, in order. Nothing here sleeps and nothing reads a real clock."""

import heapq
from collections.abc import Callable
from typing import Any, Protocol


class Owner(Protocol):
    """A process that something happens to: not at all once it is dead, and later while it is paused."""

    dead: bool
    paused: bool
    inbox: list[tuple[Callable[..., None], tuple[Any, ...]]]


class EventQueue:
    """Runs what was scheduled, in order of time; for one moment, in the order in which it was scheduled."""

    __slots__ = ("_after_owned", "_entries", "_sequence", "now")

    def __init__(self, after_owned: Callable[[Any], None]) -> None:
        self.now = 0.0
        self._after_owned = after_owned
        self._entries: list[tuple[float, int, Owner | None, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, when: float, owner: Owner | None, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function` at true time `when` (seconds), in `owner` if it is something a process does."""
        self._sequence += 1
        heapq.heappush(self._entries, (when, self._sequence, owner, function, arguments))

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, owner, function, arguments = heapq.heappop(self._entries)
        if owner is None:
            function(*arguments)
        elif owner.paused:
            owner.inbox.append((function, arguments))
        elif not owner.dead:
            function(*arguments)
            self._after_owned(owner)
