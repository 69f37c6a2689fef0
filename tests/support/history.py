"""What clients asked and what they were told, with the times of both: the material that a checker judges."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic_ns


class Kind(enum.Enum):
    """What was asked."""

    CREATE = "CreateDatabase"
    DROP = "DropDatabase"
    LIST = "ListDatabases"
    TIMESTAMPS = "AllocTimestamp"
    IDS = "AllocID"


WRITES = frozenset({Kind.CREATE, Kind.DROP})


class Outcome(enum.Enum):
    """What the client knows afterwards."""

    OK = "ok"
    REFUSED = "refused"
    """Not done, for a reason that says what the database was like: it exists already, it does not exist."""
    FAILED = "failed"
    """Certainly not done."""
    UNKNOWN = "unknown"
    """A write may have been done, or may still be; a read told nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Times are nanoseconds of one monotonic clock.

    `name`: the database of a write. `names`: databases in a list, each with the time of its creation as the
    server tells it. `first`, `count`: a block of timestamps or IDs. `server_id`: whom the client asked.
    """

    number: int
    client: int
    kind: Kind
    invoked_ns: int
    completed_ns: int
    outcome: Outcome
    name: str = ""
    names: Mapping[str, int] = field(default_factory=dict)
    first: int = 0
    count: int = 0
    server_id: int = 0
    detail: str = ""

    def __str__(self) -> str:
        what = self.name or (f"{self.first}+{self.count}" if self.count else f"{len(self.names)} names")
        times = f"[{self.invoked_ns / 1e9:.6f} {self.completed_ns / 1e9:.6f}]"
        text = f"#{self.number} client {self.client} {times} {self.kind.value} {what}: {self.outcome.value}"
        return f"{text} ({self.detail})" if self.detail else text


@dataclass(frozen=True, slots=True)
class Retirement:
    """After `at_ns` no client writes this database any more: its last call dropped it."""

    name: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of history: whatever was invoked before `cut_ns` is in it or in an earlier one."""

    calls: tuple[Call, ...]
    retirements: tuple[Retirement, ...]
    cut_ns: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A request on its way."""

    number: int
    client: int
    kind: Kind
    name: str
    server_id: int
    invoked_ns: int


class History:
    """Collects calls; whoever judges them takes them away, slice by slice, so that it stays small."""

    def __init__(self) -> None:
        self.calls = 0
        self._open: dict[int, Begun] = {}
        self._done: list[Call] = []
        self._retired: list[Retirement] = []

    def begin(self, client: int, kind: Kind, name: str = "", server_id: int = 0) -> Begun:
        """To be called right before the request is sent."""
        self.calls += 1
        begun = Begun(self.calls, client, kind, name, server_id, monotonic_ns())
        self._open[begun.number] = begun
        return begun

    def end(
        self,
        begun: Begun,
        outcome: Outcome,
        *,
        names: Mapping[str, int] | None = None,
        first: int = 0,
        count: int = 0,
        detail: str = "",
    ) -> Call:
        """To be called right after the answer, or when there will be none."""
        del self._open[begun.number]
        call = Call(
            begun.number, begun.client, begun.kind, begun.invoked_ns, monotonic_ns(), outcome, begun.name,
            names or {}, first, count, begun.server_id, detail,
        )  # fmt: skip
        self._done.append(call)
        return call

    def retire(self, name: str) -> None:
        """No client will write this database again, and none is about to."""
        self._retired.append(Retirement(name, monotonic_ns()))

    def take(self) -> Slice:
        """What has ended since the last time."""
        cut_ns = min((begun.invoked_ns for begun in self._open.values()), default=monotonic_ns())
        taken = Slice(tuple(self._done), tuple(self._retired), cut_ns)
        self._done.clear()
        self._retired.clear()
        return taken
