"""`coordd status --history`: the terms of leadership that etcd has on record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from rich import box
from rich.table import Table
from rich.text import Text

from coordd.cli.report import since
from coordd.etcd import EtcdClient
from coordd.ha.history import HistoryEntry, HistoryTable, TermRecord
from coordd.ha.leadership import SessionTable
from coordd.ha.phases import PHASES
from coordd.ha.status import fill
from coordd.meta.layout import MetaLayout

PIPE_WIDTH = 180
COLUMNS = ("role", "epoch", "server", "cause", "started", *PHASES, "lasted", "end")
PRECISE_S = 120.0
"""Up to here a length is shown with a tenth of a second."""


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The terms of the roles asked for, oldest first; `running` holds the epochs of the terms that go on."""

    revision: int
    entries: tuple[HistoryEntry, ...]
    running: frozenset[int]

    def warnings(self) -> list[str]:
        """One sentence per entry that cannot be read."""
        return [f"{entry.key} is no record of a term" for entry in self.entries if entry.record is None]

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {
            "revision": self.revision,
            "history": [_plain(entry, running=entry.epoch in self.running) for entry in self.entries],
            "warnings": self.warnings(),
        }


def _plain(entry: HistoryEntry, *, running: bool) -> dict[str, object]:
    record = entry.record
    fields: dict[str, object] = {
        "role": entry.role,
        "epoch": entry.epoch,
        "key": entry.key,
        "readable": False,
    }
    if record is None:
        return fields
    return fields | {
        "readable": True,
        "running": running and record.end is None,
        "server_id": record.server_id,
        "address": record.address,
        "host_name": record.host_name,
        "cause": record.cause.value,
        "predecessor": record.predecessor,
        "started_ms": record.started_ms,
        "phases_ms": dict(record.phases_ms),
        "ended_ms": record.ended_ms or None,
        "end": record.end.value if record.end is not None else None,
        "lasted_s": record.lasted_s,
    }


async def read_history(client: EtcdClient, layout: MetaLayout, roles: Sequence[str]) -> HistoryReport:
    """Read history and ACTIVE keys at one revision.

    Raises:
        EtcdError: etcd did not answer.
    """
    result = await client.range(layout.history_prefix, layout.session_end)
    terms, sessions = HistoryTable(layout), SessionTable(layout)
    fill([terms, sessions], result.kvs)
    active = [sessions.get(role) for role in roles]
    return HistoryReport(
        result.revision,
        tuple(entry for entry in terms.everything() if entry.role in roles),
        frozenset(entry.mod_revision for entry in active if entry is not None),
    )


def history_table(report: HistoryReport, now_ms: int) -> Table:
    """One row per term, the newest last; phases in milliseconds. `now_ms`: Unix ms, for the running term."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in COLUMNS:
        right = column == "epoch" or column in PHASES
        unit = " ms" if column in PHASES else ""
        table.add_column(column + unit, justify="right" if right else "left", overflow="fold")
    for entry in report.entries:
        if entry.record is None:
            table.add_row(*map(Text, (entry.role, str(entry.epoch), "UNREADABLE")), style="yellow")
            continue
        running = entry.record.end is None and entry.epoch in report.running
        cells = _cells(entry.record, now_ms if running else None)
        table.add_row(*map(Text, cells), style="bold green" if running else None)
    return table


def _cells(record: TermRecord, now_ms: int | None) -> list[str]:
    """`now_ms` is None for a term that does not go on."""
    if now_ms is None:
        lasted = record.lasted_s
        end = record.end.value if record.end is not None else "not recorded"
    else:
        lasted = max(0, now_ms - record.started_ms) / 1000
        end = "active"
    lengths = [record.phases_ms.get(phase) for phase in PHASES]
    return [
        record.role,
        str(record.epoch),
        f"{record.server_id} {record.address}",
        f"{record.cause.value} of {record.predecessor}" if record.predecessor else record.cause.value,
        since(record.started_ms),
        *("" if length is None else f"{length:.1f}" for length in lengths),
        "" if lasted is None else duration(lasted),
        end,
    ]


def duration(seconds: float) -> str:
    """For people: `3.2 s`, `0:17:05`, `2 days, 3:00:00`."""
    return f"{seconds:.1f} s" if seconds < PRECISE_S else str(timedelta(seconds=int(seconds)))
