"""``python -m bench.search_gap``: how long searches and inserts wait when the active rootcoord is killed.

A whole cluster of Milvus' own processes around a pair of rootcoords, of coordd or of Milvus. Clients
(tests/lab/load_driver.py) search with bounded and with strong consistency and insert through the proxy,
each request at its time, whatever comes back; every answer is checked. Meanwhile the active is killed
(SIGKILL) again and again, and the pair is made whole.

    python -m bench.search_gap --json coordd.json
    python -m bench.search_gap --product milvus --count 3 --json milvus.json
    python -m bench.search_gap --report coordd.json milvus.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import proc, search_gap_report
from bench.faults import BY_NAME
from bench.group import Group
from bench.program import run_or_report, when_and_where
from bench.side import LIMIT_S
from tests.lab.cluster import MilvusLab
from tests.lab.load import Load, LoadPlan

KILL = BY_NAME["kill -9"]
# The lab's broker lets a fetch wait to its end though a message has come; a real one answers at once.
# With librdkafka's 500 ms every strongly consistent search would wait for that.
_BROKER = {"kafka": {"consumer": {"fetch.wait.max.ms": 10}}}
# How long the clients go on after a kill, once the pair is whole, at least and at most. Milvus' proxies may
# notice 15 s late that there is a new rootcoord.
_PAUSE_S = {"coordd": (2.0, 4.0), "milvus": (25.0, 27.0)}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. ``ttl_s``: of the sessions of all processes. ``work``: to keep their folders."""

    count: int
    ttl_s: int
    load: LoadPlan
    work: Path | None = None


def measure(product: str, plan: Plan) -> dict[str, Any]:
    """All kills of one run. Raises: BenchError, LabError, NoAnswersError."""
    with (
        _folder(plan) as work,
        MilvusLab(work, session_ttl_s=plan.ttl_s, extra=_BROKER, watchdog=True) as lab,
        Group(product, lab) as group,
    ):
        lab.start_cluster(rootcoord=group.start_active())
        group.make_whole()
        with Load(lab.files, work, lab.component("proxy").ports.rpc, plan.load) as load:
            busy, began = proc.busy_s(), time.monotonic()
            kills, moments = [], random.Random(1)
            time.sleep(_PAUSE_S["coordd"][0])
            for number in range(plan.count):
                kills.append(_strike(group, plan))
                sys.stderr.write(f"\rbench: {product}: {number + 1} ")
                time.sleep(moments.uniform(*_PAUSE_S[product]))
            end = time.monotonic()
            used = (proc.busy_s() - busy) / (end - began)
            notes = load.stop()
        sys.stderr.write("\n")
    kinds = search_gap_report.summary(kills, end, notes.kinds, plan.load.period_ms)
    return {"kinds": kinds, "rows": notes.rows, "load": used}


@contextmanager
def _folder(plan: Plan) -> Iterator[Path]:
    if plan.work is not None:
        yield plan.work
        return
    with tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as work:
        yield Path(work)


def _strike(group: Group, plan: Plan) -> float:
    """Kill the active and make the pair whole; returns when it was killed."""
    before = group.known_holder()
    active = group.pair_of_running()[0]
    replica = group.replica_pid()
    at = time.monotonic()
    KILL.inflict(group, active, replica)
    group.wait_taken_over(before, 2 * plan.ttl_s + LIMIT_S)
    KILL.repair(group, active)
    return at


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.search_gap", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--product", choices=tuple(search_gap_report.NAMES), default="coordd", help="whose rootcoord pair")
    add("--count", type=int, default=20, help="kills (default 20)")
    add("--ttl", type=int, default=30, help="session TTL in seconds (default 30)")
    add("--period-ms", type=int, default=50, help="between two requests of a kind (default 50)")
    add("--rows", type=int, default=1000, help="in the collection from the beginning (default 1000)")
    add("--ddl", action="store_true", help="also make and drop collections and partitions meanwhile")
    add("--work", type=Path, metavar="DIR", help="keep the processes' folders here, with their logs")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    add("--report", type=Path, nargs="+", metavar="FILE", help="measure nothing, report these results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured."""
    options = _arguments(argv)
    return run_or_report(
        options.report,
        lambda: _measured(options),
        lambda results: print(search_gap_report.markdown(results)),
    )


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    load = LoadPlan(rows=options.rows, period_ms=options.period_ms, ddl=options.ddl)
    found = {
        **when_and_where(),
        "product": options.product,
        "ttl_s": options.ttl,
        "period_ms": options.period_ms,
        **measure(options.product, Plan(options.count, options.ttl, load, options.work)),
    }
    sys.stderr.write(f"bench: {search_gap_report.brief(found)}\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    sys.exit(main())
