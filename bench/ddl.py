"""``python -m bench.ddl``: collections and partitions made and dropped, coordd and Milvus 2.3.5 side by side.

Each round starts a whole cluster for each product in turn, the same but for the rootcoord pair: an etcd, a
Kafka, Milvus' own DataCoord, QueryCoord and proxy. So both begin each round with empty metadata, and only one
cluster at a time uses the machine. There is no data node: it would be busy with the channels of collections
long dropped, and no change waits for one.

The requests go to the rootcoord itself, each about a collection of its own, since a proxy sends one change
after the other. All methods are measured with one call at a time, and with several. Nothing is kept on a CPU
of its own: a change needs all these processes.

CPU time of the server is that of the calls and of what they leave to be done in the second after them, less
what it uses in a quiet second before. What comes later is in no figure: the end of a dropped collection's
keys (coordd: after a minute; Milvus: after 20), and what is left by then of the rest, which both put off
while there are callers (Milvus' executor drops four collections per tick).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, proc, program
from bench.comparison import Line, compared
from bench.outage import quantile
from bench.series import CONNECTIONS
from bench.side import Side
from tests.lab.cluster import MilvusLab

PRODUCTS = ("milvus", "coordd")
# In this order: they need what the ones before have made.
METHODS = ("CreateCollection", "DescribeCollection", "AllocTimestamp", "CreatePartition", "DropCollection")
READS = ("DescribeCollection", "AllocTimestamp")
CHANGES = tuple(method for method in METHODS if method not in READS)
# So that no limit is met, and nobody collects metrics of everybody each few seconds.
EXTRA = {
    "quotaAndLimits": {
        "enabled": False,
        "limits": {"maxCollectionNum": 65_536, "maxCollectionNumPerDB": 65_536},
    }
}
# The first messages to the channels' topics, and the first calls between the processes, cost more.
_WARM_UP = 32
_QUIET_S = 1.0
_AFTER_S = 1.0
_SERIES_LIMIT_S = 300.0
# Other processes' use of the machine, in CPUs, above which the figures are called noisy.
_OTHERS_LIMIT = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: ``changes`` and ``reads`` are calls per method and number of streams."""

    rounds: int
    changes: int
    reads: int
    streams: tuple[int, ...]
    ttl_s: int


@contextmanager
def open_cluster(work: Path, product: str, ttl_s: int) -> Iterator[Side]:
    """A cluster of Milvus' processes around a rootcoord pair of "milvus" or "coordd". Raises: LabError."""
    with MilvusLab(work, session_ttl_s=ttl_s, extra=EXTRA, watchdog=True) as lab:
        side = Side(product, lab)
        lab.start_cluster(rootcoord=side.start_active(), nodes=("proxy",))
        side.pair()
        yield side


def measure(plan: Plan, work: Path) -> dict[str, list[dict[str, Any]]]:
    """Product -> the series of each round, by method and number of streams. Raises: ChildError, LabError."""
    rounds: dict[str, list[dict[str, Any]]] = {product: [] for product in PRODUCTS}
    for number in range(plan.rounds):
        # Who is first changes, since the machine may.
        for product in PRODUCTS if number % 2 == 0 else reversed(PRODUCTS):
            sys.stderr.write(f"bench: round {number + 1}: {product}\n")
            with open_cluster(work / f"{product}-{number}", product, plan.ttl_s) as side:
                rounds[product].append(_round(side, plan))
    return rounds


def _round(side: Side, plan: Plan) -> dict[str, Any]:
    target = side.target()
    warm = [f"warm_{number}" for number in range(_WARM_UP)]
    for method in CHANGES:
        _series(target, method, warm, 1)
    found: dict[str, Any] = {}
    for method in METHODS:
        for streams in plan.streams:
            names = _names(streams, plan.changes, plan.changes if method in CHANGES else plan.reads)
            found.setdefault(method, {})[str(streams)] = _measured(target, method, names, streams)
    return found


def _names(streams: int, collections: int, calls: int) -> list[str]:
    """What the calls with so many streams are about: collections of their own, in turn."""
    return [f"c{streams}_{number % collections}" for number in range(calls)]


def _series(target: dict[str, Any], method: str, names: Sequence[str], streams: int) -> dict[str, Any]:
    job = {
        "address": target["address"],
        "server_id": target["server_id"],
        "method": method,
        "collections": names,
        "streams": streams,
    }
    return children.run("bench.series", job, _SERIES_LIMIT_S)


def _measured(target: dict[str, Any], method: str, names: Sequence[str], streams: int) -> dict[str, Any]:
    """One series, with the CPU time that it cost the server, and that strangers took meanwhile."""
    pid = target["pid"]
    quiet = proc.Usage(pid)
    time.sleep(_QUIET_S)
    idle = quiet.result()
    usage, own = proc.Usage(pid), proc.tree_cpu_s(os.getpid())
    found = _series(target, method, names, streams)
    time.sleep(_AFTER_S)
    used = usage.result()
    machine_s = sum(used[name] for name in ("server_cpu_s", "client_cpu_s", "others_cpu_s"))
    strangers_s = machine_s - (proc.tree_cpu_s(os.getpid()) - own)
    return {
        **found,
        "server_cpu_s": used["server_cpu_s"] - idle["server_cpu_s"] / idle["wall_s"] * used["wall_s"],
        "others_busy": max(0.0, strangers_s / used["wall_s"]),
    }


def summary(rounds: Sequence[dict[str, Any]], method: str, streams: int) -> dict[str, float]:
    """The figures of one method: the median of the rates, latencies and CPU time over all rounds together."""
    every = [one[method][str(streams)] for one in rounds]
    latencies = [taken for one in every for taken in one["latencies_us"]]
    calls = sum(one["calls"] for one in every)
    return {
        "rate_per_s": median(one["calls"] / one["wall_s"] for one in every),
        "p50_ms": quantile(latencies, 0.50) / 1000,
        "p99_ms": quantile(latencies, 0.99) / 1000,
        "server_cpu_ms": sum(one["server_cpu_s"] for one in every) * 1000 / calls,
    }


def lines(rounds: dict[str, list[dict[str, Any]]], streams: Sequence[int]) -> Iterator[Line]:
    """The lines of the table."""
    figures = (
        ("rate_per_s", "rate", "calls/s"),
        ("p50_ms", "p50", "ms"),
        ("p99_ms", "p99", "ms"),
        ("server_cpu_ms", "server CPU per call", "ms"),
    )
    for method in METHODS:
        for count in streams:
            found = {product: summary(rounds[product], method, count) for product in PRODUCTS}
            for figure, name, unit in figures:
                what = f"{method}, {count} at a time, {name}"
                theirs, ours = found["milvus"][figure], found["coordd"][figure]
                yield Line(what, unit, theirs, ours, more=figure == "rate_per_s")


def report(results: dict[str, Any]) -> str:
    """The whole report, in Markdown."""
    rounds, options = results["rounds"], results["options"]
    parts = ["## Collections made and dropped, coordd and Milvus 2.3.5 side by side", ""]
    parts += [*program.conditions(results), *_conditions(options), ""]
    parts += [*compared(list(lines(rounds, options["streams"]))), "", *_remarks(rounds)]
    return "\n".join(parts)


def _conditions(options: dict[str, Any]) -> Iterator[str]:
    yield (
        f"- {options['rounds']} rounds, each with a new cluster per product: etcd 3.5.1 (one member, no "
        "fsync), librdkafka's mock of Kafka, Milvus' DataCoord, QueryCoord and proxy, a rootcoord pair; "
        "loopback, no TLS, log level info; nothing is pinned to a CPU"
    )
    yield (
        f"- per round and line {options['changes']} changes or {options['reads']} reads, sent to the active "
        f"rootcoord on at most {CONNECTIONS} connections; each change is about a collection of its own, of "
        "three fields and one shard; rate: median of the rounds; p50, p99 and CPU time: all rounds together"
    )
    yield (
        f"- server CPU: of the calls and the {_AFTER_S:g} s after them, less what the server uses when it is "
        "not called"
    )


def _remarks(rounds: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    every = [
        (f"{method} of {product}", series)
        for product, of_product in rounds.items()
        for one in of_product
        for method, by_streams in one.items()
        for series in by_streams.values()
    ]
    failed: Counter[str] = Counter()
    for what, series in every:
        for reason, count in series["failed"].items():
            failed[f"{what}: {reason}"] += count
    yield f"Failed calls: {dict(failed) or 'none'}."
    busiest = max(series["client_cpu_s"] / series["wall_s"] for _, series in every)
    yield f"The client used at most {busiest:.0%} of one CPU."
    others = max(series["others_busy"] for _, series in every)
    noise = " That is much: all figures suffer, CPU time least." if others > _OTHERS_LIMIT else ""
    yield f"Processes that are no part of this used up to {others:.0%} of one CPU.{noise}"


def _measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    plan = Plan(options.rounds, options.changes, options.reads, tuple(options.streams), options.ttl)
    return {"rounds": measure(plan, work)}


def main() -> int:
    """Measure and report."""
    parser = program.new_parser("bench.ddl", __doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="clusters per product (default 3)")
    add("--changes", type=int, default=200, help="calls of a method that changes something (default 200)")
    add("--reads", type=int, default=4000, help="calls of a method that reads (default 4000)")
    add("--streams", type=int, nargs="+", default=[1, 16], help="calls at a time (default 1 16)")
    add("--ttl", type=int, default=60, help="session TTL in seconds (default 60)")
    return program.run(parser, _measure, report)


if __name__ == "__main__":
    sys.exit(main())
