"""Whether what clients saw of one database can be explained by calls that happened one at a time.

The search is Wing and Gong's, in the form that needs no whole history (Lowe, "Testing for linearizability",
just-in-time linearization): events are taken in the order of time, and a set of configurations is kept, each
one way in which the calls so far may have happened. When a call returns, every configuration in which it has
not happened yet is extended by calls under way until it has; if no configuration is left, there is no
explanation. Equal configurations are kept once, which is the memoisation of the search.

A write whose outcome is unknown may happen at any time after its start, or never. Two unknown creations of
one database do the same, so a configuration only counts how many of each kind have happened, and one that
has used fewer makes those that have used more superfluous.

The database itself is a register: absent, or present with the time of its creation, which the first list
after a creation tells and every later one must repeat.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from tests.support.history import WRITES, Call, Kind, Outcome

ABSENT: Final = -1
JUST_CREATED: Final = -2
"""Present, and no list has told yet when it was created."""

STORY_LENGTH: Final = 40


class Violation(AssertionError):
    """Something happened that must not."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way in which the calls so far may have happened.

    `ahead`: calls under way that have happened. `creates`, `drops`: writes of unknown outcome that have.
    """

    state: int = ABSENT
    ahead: frozenset[int] = frozenset()
    creates: int = 0
    drops: int = 0


class DatabaseRegister:
    """The search for one database. Calls must come in the order of time: `invoked`, then `returned`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._configurations = {Configuration()}
        self._open: dict[int, Call] = {}
        self._creates = 0
        self._drops = 0
        self._story: deque[str] = deque(maxlen=STORY_LENGTH)

    @property
    def breadth(self) -> int:
        """Configurations kept: what the next step costs."""
        return len(self._configurations)

    @property
    def idle(self) -> bool:
        """No call is under way, except writes of unknown outcome."""
        return not self._open

    def invoked(self, call: Call) -> None:
        """The start of a write of this database, or of a list; `call` tells its outcome already."""
        if call.outcome is Outcome.FAILED or (call.kind not in WRITES and call.outcome is not Outcome.OK):
            return
        if call.outcome is not Outcome.UNKNOWN:
            self._open[call.number] = call
            return
        self._story.append(str(call))
        if call.kind is Kind.CREATE:
            self._creates += 1
        else:
            self._drops += 1

    def returned(self, call: Call) -> None:
        """The end of a call.

        Raises:
            Violation: it cannot have happened.
        """
        if call.number not in self._open:
            return
        self._story.append(self._line(call))
        happened = self._extend_until(call)
        if not happened:
            raise Violation(self._explain(call))
        del self._open[call.number]
        number = frozenset({call.number})
        self._configurations = _without_superfluous(
            replace(one, ahead=one.ahead - number) for one in happened
        )

    def possible_creates(self) -> int:
        """How many creations of unknown outcome may still happen."""
        return self._creates - min(one.creates for one in self._configurations)

    def _extend_until(self, call: Call) -> set[Configuration]:
        happened: set[Configuration] = set()
        seen = set(self._configurations)
        todo = list(seen)
        while todo:
            one = todo.pop()
            if call.number in one.ahead:
                happened.add(one)
                continue
            for following in self._following(one):
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return happened

    def _following(self, one: Configuration) -> Iterable[Configuration]:
        for number, call in self._open.items():
            if number not in one.ahead:
                state = _after(call, one.state, self.name)
                if state is not None:
                    yield replace(one, state=state, ahead=one.ahead | {number})
        if one.state == ABSENT and one.creates < self._creates:
            yield replace(one, state=JUST_CREATED, creates=one.creates + 1)
        if one.state != ABSENT and one.drops < self._drops:
            yield replace(one, state=ABSENT, drops=one.drops + 1)

    def _line(self, call: Call) -> str:
        if call.kind is not Kind.LIST:
            return str(call)
        seen = f"created at {call.names[self.name]}" if self.name in call.names else "absent"
        return f"{call}, {self.name} {seen}"

    def _explain(self, call: Call) -> str:
        states = sorted({_spell(one.state) for one in self._configurations})
        story = "\n  ".join(self._story)
        under_way = "\n  ".join(map(self._line, self._open.values()))
        return (
            f"not linearizable: database {self.name}: {self._line(call)}\n"
            f"before it: {', '.join(states)}; {self._creates} creations and {self._drops} drops unknown\n"
            f"under way:\n  {under_way}\nstory, by time of return (unknown: of start):\n  {story}"
        )


def _after(call: Call, state: int, name: str) -> int | None:
    """State after the call happened in `state`; None if it cannot have, given what it returned."""
    if call.kind is Kind.CREATE:
        present = state != ABSENT
        if call.outcome is Outcome.REFUSED:
            return state if present else None
        return None if present else JUST_CREATED
    if call.kind is Kind.DROP:
        if call.outcome is Outcome.REFUSED:
            return state if state == ABSENT else None
        return ABSENT
    created = call.names.get(name)
    if created is None:
        return state if state == ABSENT else None
    return created if state in (JUST_CREATED, created) else None


def _without_superfluous(configurations: Iterable[Configuration]) -> set[Configuration]:
    groups: dict[tuple[int, frozenset[int]], list[Configuration]] = {}
    for one in sorted(set(configurations), key=lambda one: (one.creates, one.drops)):
        group = groups.setdefault((one.state, one.ahead), [])
        if not any(other.creates <= one.creates and other.drops <= one.drops for other in group):
            group.append(one)
    return {one for group in groups.values() for one in group}


def _spell(state: int) -> str:
    return {ABSENT: "absent", JUST_CREATED: "just created"}.get(state, f"created at {state}")
