"""The table of bench.failover, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.faults import FAULTS
from bench.table import number, table

NAMES = {"coordd": "coordd", "milvus": "Milvus 2.3.5"}
_ORDER = [fault.name for fault in FAULTS]


def ordered(results: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """All series, by event, then product, then TTL."""
    every = [one for result in results for one in result["series"]]
    return sorted(every, key=lambda one: (_ORDER.index(one["event"]), one["product"], one["ttl_s"]))


def brief(one: dict[str, Any]) -> str:
    """A series in one line."""
    outage = one["outage_ms"]
    return (
        f"{one['product']}: {one['event']}: n {one['n']}, median {outage['median']:.1f} ms,"
        f" p99 {outage['p99']:.1f} ms, max {outage['max']:.1f} ms,"
        f" failed {one['failed']} of {one['requests']} {one['errors']},"
        f" outside events {one['failed_outside']}, longest pause of the quiet second before"
        f" {one['quiet_ms']['median']:.1f} / {one['quiet_ms']['max']:.1f} ms, waited for a CPU"
        f" {one['cpu_wait_ms']['median']:.1f} / {one['cpu_wait_ms']['max']:.1f} ms,"
        f" late {one['late_ms']['max']:.1f} ms, load {one['load']:.2f}"
    )


def markdown(results: list[dict[str, Any]]) -> str:
    """The whole report."""
    every = ordered(results)
    head = (
        "event",
        "coordinator",
        "n",
        "median [ms]",
        "p99 [ms]",
        "max [ms]",
        "failed requests",
        "requests",
    )
    rows = [
        (
            one["event"],
            f"{NAMES[one['product']]}, TTL {one['ttl_s']} s",
            str(one["n"]),
            *(number(one["outage_ms"][name]) for name in ("median", "p99", "max")),
            f"{one['failed']:,}",
            f"{one['requests']:,}",
        )
        for one in every
    ]
    phases = [
        (
            one["event"],
            *(
                f"{name} {values['median']:.1f} / {values['max']:.1f}"
                for name, values in one["phases_ms"].items()
            ),
        )
        for one in every
        if one["phases_ms"]
    ]
    lines = ["## Outage of a client that follows the ACTIVE key", "", *_conditions(results), ""]
    lines += table(head, rows, left=(0, 1))
    lines += ["", *_remarks(every)]
    if phases:
        lines += ["", "Phases of coordd's takeovers, median / max in ms:", ""]
        lines += [f"- {'; '.join(row)}" for row in phases]
    return "\n".join(lines)


def _conditions(results: list[dict[str, Any]]) -> list[str]:
    return [
        f"- {result['when']}, {result['machine']}, {result['collections']:,} collections:"
        f" {', '.join(dict.fromkeys(NAMES[one['product']] for one in result['series']))}"
        for result in results
    ]


def _remarks(every: list[dict[str, Any]]) -> list[str]:
    late = max(one["late_ms"]["max"] for one in every)
    load = max(one["load"] for one in every)
    back = sum(one["backwards"] for one in every)
    return [
        f"Timestamps that went back: {back}. The clients were at most {late:.1f} ms late in sending. CPUs in"
        f" use on the whole machine: up to {load:.2f}.",
    ]
