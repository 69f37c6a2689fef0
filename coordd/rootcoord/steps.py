"""One step of something that takes several. Pure.

Steps may be repeated, after a failure of which it is unknown how far it got, so they must be idempotent.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import NamedTuple, TypeAlias

Action: TypeAlias = Callable[[], Awaitable[object]]


class Lane(IntEnum):
    """Whom a step in the background needs; one who does not answer holds up no steps that need others.

    `LOOK`: nobody, it looks at what is in memory. `METADATA`: etcd. `QUEUE`: the message queue.
    """

    LOOK = auto()
    METADATA = auto()
    PROXIES = auto()
    QUEUE = auto()
    DATA_COORD = auto()
    QUERY_COORD = auto()


@dataclass(frozen=True, slots=True)
class NotYet:
    """What a step in the background returns that has to be taken up again, in so many seconds."""

    seconds: float


class Step(NamedTuple):
    """`do`, and what takes it back if it fails itself, perhaps half done, or a later step does.

    `lane`: whom it needs; matters only in the background. `may_refuse`: a MilvusError of it is a refusal that
    comes before it has done anything; matters only in front of a caller.
    """

    name: str
    do: Action
    undo: Action | None = None
    lane: Lane = Lane.METADATA
    may_refuse: bool = False
