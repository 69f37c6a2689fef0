"""The judge of a history of client calls: what users of a RootCoord were promised, whatever fails.

- Databases: linearizable, each by itself. A list reads every database.
- No acknowledged write is lost: a special case of that, given a list at the end.
- Timestamps: strictly increasing in real time. IDs: unique.

It is pure, and reads the history slice by slice; what it keeps is bounded by the calls under way, the
databases in use and the number of writes of unknown outcome. What etcd's history must look like is judged in
`etcd_audit.py`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.support.blocks import Ids, InOrderOfTime, Timestamps
from tests.support.history import WRITES, Call, Kind, Outcome, Retirement, Slice
from tests.support.linearizability import DatabaseRegister, Violation


class HistoryChecker:
    """`feed` it slices in order. `ignored`: databases that are always there (`default`)."""

    def __init__(self, ignored: Iterable[str] = ("default",)) -> None:
        self.timestamps = Timestamps()
        self.ids = Ids()
        self.outcomes: Counter[tuple[Kind, Outcome]] = Counter()
        self.widest = 0
        self._ignored = frozenset(ignored)
        self._events = InOrderOfTime()
        self._registers: dict[str, DatabaseRegister] = {}
        self._retirements: list[Retirement] = []
        self._ghosts: dict[str, _Ghost] = {}

    @property
    def databases(self) -> int:
        """Databases whose calls are searched now."""
        return len(self._registers)

    @property
    def remembered_databases(self) -> int:
        """Retired databases that an old creation of unknown outcome may still bring back."""
        return len(self._ghosts)

    def feed(self, piece: Slice) -> None:
        """Judge the next slice.

        Raises:
            Violation: a promise was broken.
        """
        for call in piece.calls:
            self.outcomes[call.kind, call.outcome] += 1
            self._events.add(call)
        for is_end, call in self._events.before(piece.cut_ns):
            self._take(is_end, call)
        self._retirements += piece.retirements
        waiting = [one for one in self._retirements if not self._retire(one, piece.cut_ns)]
        self._retirements = waiting

    def count(self, outcome: Outcome, kinds: Iterable[Kind] = tuple(Kind)) -> int:
        """Calls that ended so."""
        return sum(self.outcomes[kind, outcome] for kind in kinds)

    def _take(self, is_end: bool, call: Call) -> None:
        if call.kind is Kind.TIMESTAMPS:
            (self.timestamps.returned if is_end else self.timestamps.invoked)(call)
        elif call.kind is Kind.IDS:
            if is_end:
                self.ids.returned(call)
        elif call.kind in WRITES:
            if call.name in self._ghosts:
                raise ValueError(f"{call} of a retired database")
            register = self._registers.setdefault(call.name, DatabaseRegister(call.name))
            (register.returned if is_end else register.invoked)(call)
            self.widest = max(self.widest, register.breadth)
        elif call.outcome is Outcome.OK:
            for register in self._registers.values():
                (register.returned if is_end else register.invoked)(call)
            if is_end:
                self._check_strangers(call)

    def _check_strangers(self, call: Call) -> None:
        for name, created in call.names.items():
            if name in self._registers or name in self._ignored:
                continue
            ghost = self._ghosts.get(name)
            if ghost is None:
                raise Violation(f"database {name} was never created, or dropped for good: {call}")
            ghost.seen(created, call)

    def _retire(self, retirement: Retirement, cut_ns: int) -> bool:
        """Whether it is done with."""
        register = self._registers.get(retirement.name)
        if register is None:
            return True
        if retirement.at_ns >= cut_ns or not register.idle:
            return False
        del self._registers[retirement.name]
        possible = register.possible_creates()
        if possible:
            self._ghosts[retirement.name] = _Ghost(possible)
        return True


class _Ghost:
    """A retired database that `possible` creations of unknown outcome may still bring back."""

    def __init__(self, possible: int) -> None:
        self._possible = possible
        self._created: set[int] = set()

    def seen(self, created: int, call: Call) -> None:
        self._created.add(created)
        if len(self._created) > self._possible:
            raise Violation(
                f"a dropped database came back {len(self._created)} times, with {self._possible} creations of"
                f" unknown outcome: {call}"
            )


def check_same(listed: Mapping[str, int] | Iterable[str], stored: Iterable[str]) -> None:
    """The final list and what etcd holds.

    Raises:
        Violation: they differ.
    """
    shown, held = set(listed), set(stored)
    if shown != held:
        raise Violation(f"listed but not in etcd: {shown - held}; in etcd but not listed: {held - shown}")
