"""``python -m bench.false_failovers``: does a busy machine alone make leadership pass? It must not.

Every CPU is kept busy by a loop at normal priority for ten minutes, while clients call the active of a pair.
Counted are the writes of the ACTIVE key and the replicas that had to be started again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import children, proc, program
from bench.failover import DEADLINE_MS, PERIOD_MS
from bench.group import Group, open_group
from bench.outage import Notes
from bench.side import ACTIVE_KEY
from bench.table import number, table
from coordd.etcd.child import bound_to_parent

_LOOP = "while True: pass"
_OUTPUT_LIMIT_S = 120.0


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many processes that use all they can get."""
    command = bound_to_parent([sys.executable, "-I", "-S", "-c", _LOOP])
    loops = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure(group: Group, seconds: float, loops: int, clients: int) -> dict[str, Any]:
    """Keep the machine busy and count. Raises: BenchError, ChildError."""
    replicas = _replicas(group)
    before = group.known_holder()
    arguments = (group.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS), str(clients))
    with children.ready("bench.open_loop", *arguments) as client:
        began, busy = time.monotonic(), proc.busy_s()
        with busy_loops(loops):
            time.sleep(seconds)
            until = time.monotonic()
            load = (proc.busy_s() - busy) / (until - began)
        noted = children.told_to_stop(client, _OUTPUT_LIMIT_S)
    notes = Notes(noted["clients"])
    judged = notes.judge(began, until)
    return {
        "busy_for_s": seconds,
        "loops": loops,
        "cpus": len(os.sched_getaffinity(0)),
        "load": load,
        "role_changes": max(len(noted["switches"]), group.known_holder().server_id != before.server_id),
        "restarts": len(set(replicas) - set(_replicas(group))),
        "requests": notes.total,
        "failed": notes.errors().total(),
        "errors": dict(notes.errors()),
        "outage_ms": judged["outage_ms"],
        "slowest_answer_ms": judged["slowest_answer_ms"],
        "late_ms": judged["late_ms"] - PERIOD_MS,
    }


def _replicas(group: Group) -> list[int]:
    """All processes of the pair, those looked after included."""
    pids = [component.process.pid for component in group.make_whole()]
    return [one for pid in pids for one in (pid, *proc.descendants(pid))]


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    head = ("seconds", "CPUs in use", "role changes", "restarts", "longest outage [ms]", "failed", "requests")
    row = (
        number(results["busy_for_s"]),
        f"{results['load']:.2f} of {results['cpus']}",
        f"{results['role_changes']}",
        f"{results['restarts']}",
        number(results["outage_ms"]),
        f"{results['failed']:,}",
        f"{results['requests']:,}",
    )
    title = f"## A busy machine: {results['loops']} busy loops and clients"
    return "\n".join([title, "", *program.conditions(results), "", *table(head, [row], left=())])


def _measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    with open_group(work / "coordd", "coordd", options.ttl, 1000) as group:
        return measure(group, options.seconds, options.loops, options.clients)


def main() -> int:
    """Measure and report; the exit code tells whether leadership stayed where it was."""
    cpus = len(os.sched_getaffinity(0))
    parser = program.new_parser("bench.false_failovers", __doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=600.0, help="length of the run (default 600)")
    add("--loops", type=int, default=cpus, help="busy loops (default: one per CPU)")
    add("--clients", type=int, default=4, help="each sends a request every 5 ms (default 4)")
    add("--ttl", type=int, default=60, help="session TTL in seconds (default 60)")
    return program.run(parser, _measure, report, failed=lambda results: bool(results["role_changes"]))


if __name__ == "__main__":
    sys.exit(main())
