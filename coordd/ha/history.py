"""The log of leadership: one record in etcd for each term that served, bounded in number.

`<meta>/session-coordd/history/<role>/<epoch, 20 digits>` holds JSON:

    {"ServerID":14,"Address":"10.0.0.5:53100","HostName":"a","Cause":"crash","Predecessor":12,
     "StartedMs":1700000000000,"PhasesMs":{"detect":0.4,"fence":2.1,"activate":0.8,"serve":1.3},
     "EndedMs":0,"End":""}

A replica writes the record of its term under the fence, right after it has begun to serve, so nothing waits
for it. A term that is given up writes its own end; of one that is not, the next term writes the end that it
saw. The log informs people and decides nothing: an unreadable record is shown as such, and a record that was
never written (the replica ended at that very moment) is missed by nobody but the reader.

The plans here are pure: they read the table and return the operations of a transaction.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeVar

from coordd.etcd import Delete, Event, Put
from coordd.ha.election_events import TermCause
from coordd.ha.json_object import JsonObject, encode_object
from coordd.ha.phases import PHASES
from coordd.meta.codecs import DecodeError
from coordd.meta.keys import HistoryKey
from coordd.meta.layout import MetaLayout

KEEP_TERMS: Final = 64
"""Terms kept per role, the running one included: about 20 KB of etcd."""

MAX_DELETES: Final = 64
"""Old terms deleted at once, so that the operations fit into one transaction whatever was left over."""

PHASE_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From a handover on one host to the end of a lease."""

E = TypeVar("E", bound=Enum)


class TermEnd(Enum):
    """How a term ended; the value is what the record says."""

    HANDED_OVER = "handed over"
    RESIGNED = "resigned"
    CRASH = "crash"
    SILENCE = "silence"
    LEASE_ENDED = "lease ended"
    DEPOSED = "deposed"
    """Another replica holds the ACTIVE key; why, its record says."""
    ACTIVATION_FAILED = "activation failed"
    UNKNOWN = "unknown"
    """Its successor could not tell, or a word of another version."""


SEEN_END: Final[Mapping[TermCause, TermEnd]] = MappingProxyType(
    {
        TermCause.RELEASED: TermEnd.RESIGNED,
        TermCause.LEASE_ENDED: TermEnd.LEASE_ENDED,
        TermCause.CRASH: TermEnd.CRASH,
        TermCause.SILENCE: TermEnd.SILENCE,
        TermCause.HANDOVER: TermEnd.HANDED_OVER,
    }
)
"""What the cause of a term says about the end of the one before."""


@dataclass(frozen=True, slots=True)
class TermRecord:
    """One term. `epoch` is the revision that won the ACTIVE key, `predecessor` a server ID (0: none).

    `started_ms` is when leadership was won, `ended_ms` when it ended (0: it goes on, or nobody wrote that),
    in wall-clock Unix ms. `phases_ms` holds the length of each phase of `PHASES` that was passed.
    """

    role: str
    epoch: int
    server_id: int
    address: str
    host_name: str
    cause: TermCause
    predecessor: int
    started_ms: int
    phases_ms: Mapping[str, float] = field(default_factory=dict)
    ended_ms: int = 0
    end: TermEnd | None = None

    @property
    def lasted_s(self) -> float | None:
        """Seconds from start to end; None while there is no end. Wall clock: a clock set back gives 0."""
        return max(0, self.ended_ms - self.started_ms) / 1000 if self.end is not None else None

    def ended(self, end: TermEnd, ended_ms: int) -> "TermRecord":
        """The same term with its end."""
        return replace(self, end=end, ended_ms=ended_ms)

    def to_json(self) -> bytes:
        """The value of the key."""
        return encode_object(
            {
                "ServerID": self.server_id,
                "Address": self.address,
                "HostName": self.host_name,
                "Cause": self.cause.value,
                "Predecessor": self.predecessor,
                "StartedMs": self.started_ms,
                "PhasesMs": {name: round(length, 3) for name, length in self.phases_ms.items()},
                "EndedMs": self.ended_ms,
                "End": self.end.value if self.end is not None else "",
            }
        )


def phases_ms(durations_s: Mapping[str, float]) -> dict[str, float]:
    """`Phases.durations_s` in the unit of a record."""
    return {name: seconds * 1000 for name, seconds in durations_s.items()}


def decode_term(key: str, role: str, epoch: int, value: bytes) -> TermRecord:
    """The record of one term; role and epoch are those of its key.

    Raises:
        DecodeError: not a record.
    """
    fields = JsonObject.parse(key, value)
    lengths = fields.child("PhasesMs")
    end = fields.text("End", default="")
    return TermRecord(
        role=role,
        epoch=epoch,
        server_id=fields.integer("ServerID"),
        address=fields.text("Address", default=""),
        host_name=fields.text("HostName", default=""),
        cause=_word(TermCause, fields.text("Cause", default=""), TermCause.UNKNOWN),
        predecessor=fields.integer("Predecessor", default=0),
        started_ms=fields.integer("StartedMs"),
        phases_ms={name: length for name in PHASES if (length := lengths.length(name)) is not None},
        ended_ms=fields.integer("EndedMs", default=0),
        end=_word(TermEnd, end, TermEnd.UNKNOWN) if end else None,
    )


def _word(kind: type[E], word: str, other: E) -> E:
    try:
        return kind(word)
    except ValueError:
        return other


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A key of the history as last observed. `record` is None when its value is no record of a term.

    `epoch` is 0 when the key itself names none; `role` is then whatever stands in its place.
    """

    key: str
    role: str
    epoch: int
    mod_revision: int
    record: TermRecord | None


class HistoryTable:
    """The terms of all roles. What does not decode stays in it without a record."""

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.history_prefix
        self._layout = layout
        self._entries: dict[str, HistoryEntry] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: not the key or not the record of a term.
        """
        if event.value is None:
            self._entries.pop(event.key, None)
            return
        parsed = self._layout.parse(event.key)
        if not isinstance(parsed, HistoryKey):
            role = event.key[len(self.prefix) :].partition("/")[0]
            self._entries[event.key] = HistoryEntry(event.key, role, 0, event.mod_revision, None)
            raise DecodeError(event.key, "not the key of a term")
        entry = HistoryEntry(event.key, parsed.role, parsed.epoch, event.mod_revision, None)
        self._entries[event.key] = entry
        record = decode_term(event.key, parsed.role, parsed.epoch, event.value)
        self._entries[event.key] = replace(entry, record=record)

    def get(self, role: str, epoch: int) -> HistoryEntry | None:
        """One term, if there is a key for it."""
        return self._entries.get(self._layout.history(role, epoch))

    def of_role(self, role: str) -> list[HistoryEntry]:
        """The terms of one role, oldest first."""
        entries = [entry for entry in self._entries.values() if entry.role == role]
        return sorted(entries, key=lambda entry: (entry.epoch, entry.key))

    def everything(self) -> list[HistoryEntry]:
        """All keys in order of their epochs, whatever their role."""
        return sorted(self._entries.values(), key=lambda entry: (entry.epoch, entry.key))

    def key_of(self, record: TermRecord) -> str:
        """Where a record lies."""
        return self._layout.history(record.role, record.epoch)


def plan_begin(table: HistoryTable, record: TermRecord, keep: int = KEEP_TERMS) -> list[Put | Delete]:
    """Write the record of a new term, the end of terms before it that have none, and delete the oldest.

    At most `keep` (at least 1) terms are left, `record` among them, as far as `MAX_DELETES` allows; a key
    that is not a term's is left alone. Belongs into one transaction under the fence of the term; the table
    must hold everything up to the term's epoch. Planned again later, it leads to the same state.
    """
    earlier = [entry for entry in table.of_role(record.role) if 0 < entry.epoch < record.epoch]
    surplus = max(0, len(earlier) - (keep - 1))
    kept = earlier[surplus:]
    return [
        Put(table.key_of(record), record.to_json()),
        *_completed(table, kept, record),
        *(Delete(entry.key) for entry in earlier[: min(surplus, MAX_DELETES)]),
    ]


def _completed(table: HistoryTable, kept: list[HistoryEntry], successor: TermRecord) -> list[Put | Delete]:
    """Of the terms in `kept` that have no end, the successor has seen that of its direct predecessor only."""
    puts: list[Put | Delete] = []
    for entry in kept:
        record = entry.record
        if record is None or record.end is not None:
            continue
        direct = record.server_id == successor.predecessor
        end = SEEN_END.get(successor.cause, TermEnd.UNKNOWN) if direct else TermEnd.UNKNOWN
        puts.append(Put(table.key_of(record), record.ended(end, successor.started_ms).to_json()))
    return puts


def plan_end(table: HistoryTable, record: TermRecord, why: TermEnd, now_ms: int) -> Put:
    """Write the end of the own term; `now_ms` is wall-clock Unix ms. Belongs under the term's fence."""
    return Put(table.key_of(record), record.ended(why, now_ms).to_json())


@dataclass(slots=True, eq=False)
class PhaseStats:
    """How long one phase took, over all terms: counts per bucket of `PHASE_BUCKETS_S`, the last one +Inf."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(PHASE_BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(PHASE_BUCKETS_S, seconds)] += 1
        self.total_s += seconds


@dataclass(slots=True, eq=False)
class TermLog:
    """The terms of one replica since its process started, counted; for metrics.

    `latest` is the term that began last, with its end once it has one.
    """

    begun: dict[TermCause, int] = field(default_factory=dict)
    finished: dict[TermEnd, int] = field(default_factory=dict)
    phases: dict[str, PhaseStats] = field(default_factory=dict)
    latest: TermRecord | None = None

    def began(self, record: TermRecord) -> None:
        """A term serves."""
        self.latest = record
        self.begun[record.cause] = self.begun.get(record.cause, 0) + 1
        for name, length_ms in record.phases_ms.items():
            self.phases.setdefault(name, PhaseStats()).add(length_ms / 1000)

    def ended(self, record: TermRecord) -> None:
        """A term is over; counted once, by the first end that is told of it.

        Raises:
            ValueError: the record has no end.
        """
        if record.end is None:
            raise ValueError(f"the term {record.epoch} of {record.role} has no end")
        if self.latest is not None and self.latest.epoch == record.epoch and self.latest.end is not None:
            return
        self.latest = record
        self.finished[record.end] = self.finished.get(record.end, 0) + 1
