"""`coordd status --history`: the table and the JSON, whatever the records hold."""

import pytest
from rich.console import Console

from coordd.cli.history_report import PIPE_WIDTH, HistoryReport, duration, history_table
from coordd.ha.election_events import TermCause
from coordd.ha.history import HistoryEntry, TermEnd, TermRecord

STARTED = 1_700_000_000_000


def entry(epoch: int, **fields: object) -> HistoryEntry:
    standard: dict[str, object] = {
        "role": "rootcoord", "epoch": epoch, "server_id": 14, "address": "[fd00::1]:53100", "host_name": "a",
        "cause": TermCause.CRASH, "predecessor": 12, "started_ms": STARTED,
        "phases_ms": {"detect": 0.44, "fence": 2.125, "serve": 1.0},
    }  # fmt: skip
    record = TermRecord(**{**standard, **fields})
    return HistoryEntry(f"k/{epoch}", record.role, epoch, epoch + 1, record)


def rows(*entries: HistoryEntry, running: int = 0, now_ms: int = STARTED) -> list[str]:
    console = Console(width=PIPE_WIDTH, force_terminal=False)
    with console.capture() as captured:
        console.print(history_table(HistoryReport(1, entries, frozenset({running})), now_ms))
    return [line.strip() for line in captured.get().splitlines() if line.strip()][2:]


def test_a_term_that_is_over_shows_how_long_it_lasted_and_how_it_ended() -> None:
    (row,) = rows(entry(421, end=TermEnd.HANDED_OVER, ended_ms=STARTED + 3_600_000))
    cells = [cell.strip() for cell in row.split("  ") if cell.strip()]
    assert cells[:4] == ["rootcoord", "421", "14 [fd00::1]:53100", "crash of 12"]
    assert cells[5:] == ["0.4", "2.1", "1.0", "1:00:00", "handed over"]


def test_the_running_term_is_active_and_one_without_an_end_is_not() -> None:
    first, second = rows(entry(421), entry(500), running=500, now_ms=STARTED + 2500)
    assert first.endswith("not recorded")
    assert second.endswith("active")
    assert "2.5 s" in second


def test_nobody_before_names_nobody() -> None:
    (row,) = rows(entry(421, cause=TermCause.FIRST, predecessor=0))
    assert " first " in row
    assert "first of" not in row


def test_an_unreadable_entry_is_one_row_and_a_warning() -> None:
    broken = HistoryEntry("by-dev/meta/x", "rootcoord", 430, 431, None)
    report = HistoryReport(9, (entry(421), broken), frozenset())
    assert rows(entry(421), broken)[1].split() == ["rootcoord", "430", "UNREADABLE"]
    assert report.warnings() == ["by-dev/meta/x is no record of a term"]
    plain = report.as_dict()["history"]
    assert isinstance(plain, list)
    assert [one["readable"] for one in plain] == [True, False]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (119.96, "120.0 s"), (1025.4, "0:17:05"), (183_600, "2 days, 3:00:00")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
