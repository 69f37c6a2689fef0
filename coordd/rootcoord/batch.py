"""Changes that wait for a turn at the same time and share it: one transaction for as many as etcd takes.

All of one transaction are decided upon the same state, and none sees what another one writes. So each says
what it is `about`, and no two about the same thing share a transaction. What a decision rests on beside that
must be nothing that such a change writes: a collection's changes rest on databases and aliases, say, which
change in turns of their own.

Who is left waits for another turn, and keeps its place: in each turn the changes are decided in the order in
which they first came. So a change is left only for older ones, at most once for each of them, however many
come later.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from coordd.meta.transaction import Room, Write, default_guard
from coordd.rootcoord.collections.change import MAX_OPS
from coordd.rootcoord.databases import Stamp

BATCH_MAX: Final = 32
"""Changes in one turn; those that come later wait for another one."""
NEAR_S: Final = 1.0
"""How far apart the deadlines of those in one turn may be: what one of them has to wait for, all wait for."""

Decide: TypeAlias = Callable[[Stamp], Sequence[Write]]
"""From the tables as they are now to the writes, at most once called per attempt; must not wait."""
About: TypeAlias = Callable[[], str]
"""What a change is about, by the tables as they are now; must not wait, nor raise."""


class NotTaken(Exception):
    """Nothing was decided: the change has to wait for another turn."""


@dataclass(slots=True, eq=False)
class Member:
    """A change that waits. `deadline`: seconds on CLOCK_BOOTTIME. `number`: the more the later it came.

    Attributes:
        outcome: the revision, 0 if there was nothing to write; cancelled if nobody waits any more.
    """

    decide: Decide
    about: About
    deadline: float
    number: int
    outcome: asyncio.Future[int]

    def succeed(self, revision: int) -> None:
        """It was written at `revision`; 0: there was nothing to write."""
        if not self.outcome.done():
            self.outcome.set_result(revision)

    def fail(self, error: Exception) -> None:
        """It was not written, or that is not known."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # whoever waits is told; nobody need


@dataclass(slots=True)
class Batch:
    """The changes that will share a turn, the one that leads first; there is at least that one."""

    members: list[Member] = field(default_factory=list)

    def takes(self, deadline: float) -> bool:
        """Whether one with this deadline may join."""
        return len(self.members) < BATCH_MAX and abs(deadline - self.members[0].deadline) <= NEAR_S

    def join(self, decide: Decide, about: About, deadline: float, number: int) -> Member:
        """One more."""
        member = Member(decide, about, deadline, number, asyncio.get_running_loop().create_future())
        self.members.append(member)
        return member

    def waiting(self) -> list[Member]:
        """Those without an outcome, in the order in which they came."""
        waiting = [member for member in self.members if not member.outcome.done()]
        return sorted(waiting, key=lambda member: member.number)

    def dissolve(self) -> None:
        """Those without an outcome are told to wait for another turn."""
        for member in self.members:
            member.fail(NotTaken())


@dataclass(frozen=True, slots=True)
class Chosen:
    """`writes` of those `taken`, for one transaction. `left`: who has to be decided after it.

    `guards`: keys that must be as they were known, beside the first that is put.
    """

    writes: Sequence[Write]
    taken: Sequence[Member]
    left: Sequence[Member]
    guards: Sequence[str] = ()


def choose(waiting: Sequence[Member], stamps: Sequence[Stamp]) -> Chosen:
    """Decide as many as one transaction takes, each with its stamp.

    Who is refused, or has nothing to write, is told so. At least the first is decided.
    """
    several = len(waiting) > 1
    room, subjects, keys = Room(MAX_OPS), set[str](), set[str]()
    writes: list[Write] = []
    taken: list[Member] = []
    left: list[Member] = []
    guards: list[str] = []
    for member, stamp in zip(waiting, stamps, strict=True):
        about = member.about() if several else ""
        if about in subjects:
            left.append(member)
            continue
        try:
            its = member.decide(stamp)
        except Exception as error:  # noqa: BLE001 - told to whoever waits, whatever it is
            member.fail(error)
            continue
        if not its:
            member.succeed(0)
            continue
        subjects.add(about)
        if several:
            its_keys = {write.key for write in its}
            fits = keys.isdisjoint(its_keys) and room.take(its)
            if taken and not fits:
                left.append(member)
                continue
            if not fits:
                room = Room(0)  # too large, it seems: nobody is to be refused with it
            keys |= its_keys
            if taken:
                guards.append(default_guard(its))
        writes += its
        taken.append(member)
    return Chosen(writes, taken, left, guards)
