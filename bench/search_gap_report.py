"""What clients noticed while the active rootcoord was killed again and again; the table. Pure.

Moments are CLOCK_MONOTONIC seconds. The gap of a kill is, for each kind of request, the longest time
between two good answers that follow each other, from the last one before the kill until the next kill.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from bench.outage import NoAnswersError, Notes, quantile
from bench.table import number, table

NAMES = {"coordd": "coordd", "milvus": "Milvus 2.3.5"}
QUIET_S = 1.0


def summary(
    kills: Sequence[float], end: float, kinds: Mapping[str, Mapping[str, Any]], period_ms: float
) -> dict[str, dict[str, Any]]:
    """By kind of request what became of it. ``kills``: when they were, in order; ``end``: of the last one.

    Raises:
        NoAnswersError: a kind of request was not answered between two kills.
    """
    return {name: _of_kind(kills, end, kind, period_ms) for name, kind in kinds.items()}


def _of_kind(kills: Sequence[float], end: float, kind: Mapping[str, Any], period_ms: float) -> dict[str, Any]:
    notes = Notes([{"requests": kind["requests"], "backwards": len(kind["wrong"])}])
    runs = [
        {"at": at, **notes.judge(at, until), "quiet_ms": _quiet_ms(notes, at)}
        for at, until in zip(kills, [*kills[1:], end], strict=True)
    ]
    gaps = [run["outage_ms"] for run in runs]
    errors = notes.errors()
    return {
        "n": len(runs),
        "gap_ms": {"median": median(gaps), "p99": quantile(gaps, 0.99), "max": max(gaps)},
        "slowest_answer_ms": max(run["slowest_answer_ms"] for run in runs),
        "late_ms": max(run["late_ms"] for run in runs) - period_ms,
        "quiet_ms": max((run["quiet_ms"] for run in runs if run["quiet_ms"] is not None), default=None),
        "requests": notes.total,
        "failed": errors.total(),
        "errors": dict(errors),
        "wrong": list(kind["wrong"]),
        "runs": runs,
    }


def _quiet_ms(notes: Notes, at: float) -> float | None:
    """The longest pause in the second before a kill; None if nothing was answered then."""
    try:
        quiet_ms: float = notes.judge(at - QUIET_S, at)["outage_ms"]
    except NoAnswersError:
        return None
    return quiet_ms


def brief(one: Mapping[str, Any]) -> str:
    """A series in one line."""
    kinds = [
        f"{name}: gap {kind['gap_ms']['median']:.0f} / {kind['gap_ms']['max']:.0f} ms"
        f" (quiet {kind['quiet_ms'] or 0:.0f}), {kind['failed']} failed of {kind['requests']},"
        f" {len(kind['wrong'])} wrong, late {kind['late_ms']:.0f} ms"
        for name, kind in one["kinds"].items()
    ]
    return f"{one['product']}, TTL {one['ttl_s']} s: {'; '.join(kinds)}; rows {one['rows']}"


def markdown(results: Iterable[Mapping[str, Any]]) -> str:
    """The whole report, from the results of any number of runs."""
    every = list(results)
    head = (
        *("request", "rootcoord", "kills", "gap, median [ms]", "p99 [ms]", "max [ms]"),
        *("slowest answer [ms]", "failed", "wrong", "requests"),
    )
    names = dict.fromkeys(name for one in every for name in one["kinds"])
    rows = [_row(name, one) for name in names for one in every if name in one["kinds"]]
    lines = ["## Searches and inserts through a proxy while the active rootcoord is killed", ""]
    lines += [
        f"- {one['when']}, {one['machine']}: {NAMES[one['product']]}, one every {one['period_ms']:g} ms;"
        f" CPUs in use on the whole machine: {one['load']:.2f}; rows in the end: {_rows_said(one['rows'])}"
        for one in every
    ]
    return "\n".join([*lines, "", *table(head, rows, left=(0, 1))])


def _rows_said(rows: Mapping[str, Any]) -> str:
    said = f"{rows['acknowledged']:,} acknowledged, {rows['counted']:,} there"
    if rows["unsure"]:
        said += f", {rows['unsure']:,} of unknown outcome"
    return f"{said}; {'; '.join(rows['wrong'])}" if rows["wrong"] else said


def _row(name: str, one: Mapping[str, Any]) -> tuple[str, ...]:
    kind = one["kinds"][name]
    return (
        name,
        f"{NAMES[one['product']]}, TTL {one['ttl_s']} s",
        str(kind["n"]),
        *(number(kind["gap_ms"][figure]) for figure in ("median", "p99", "max")),
        number(kind["slowest_answer_ms"]),
        f"{kind['failed']:,}",
        f"{len(kind['wrong']):,}",
        f"{kind['requests']:,}",
    )
