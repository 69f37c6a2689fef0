"""``python -m bench.false_failovers``: does a busy machine alone make leadership pass? It must not.

Every CPU is kept busy by a loop at normal priority for ten minutes, while clients call the active of a pair.
Counted are the writes of the ACTIVE key and the replicas that had to be started again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import children, proc
from bench.failover import DEADLINE_MS, PERIOD_MS
from bench.group import Group, open_group
from bench.outage import Notes
from bench.side import ACTIVE_KEY, BenchError
from bench.table import number, table
from coordd.etcd.child import bound_to_parent
from coordd.log import configure

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
    """Keep the machine busy and count. Raises: BenchError."""
    replicas = _replicas(group)
    before = group.known_holder()
    arguments = (group.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS), str(clients))
    with children.started("bench.open_loop", *arguments) as client:
        if client.stdout is None or client.stdout.readline() != "ready\n":
            raise BenchError(f"the client got no answer from {group.name}")
        began, busy = time.monotonic(), proc.busy_s()
        with busy_loops(loops):
            time.sleep(seconds)
            until = time.monotonic()
            load = (proc.busy_s() - busy) / (until - began)
        noted = json.loads(client.communicate("stop\n", timeout=_OUTPUT_LIMIT_S)[0])
    notes = Notes(noted["clients"])
    judged = notes.judge(began, until)
    return {
        "seconds": seconds,
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
        number(results["seconds"]),
        f"{results['load']:.2f} of {results['cpus']}",
        f"{results['role_changes']}",
        f"{results['restarts']}",
        number(results["outage_ms"]),
        f"{results['failed']:,}",
        f"{results['requests']:,}",
    )
    title = f"## A busy machine: {results['loops']} busy loops and clients"
    return "\n".join(
        [title, "", f"- {results['when']}, {results['machine']}", "", *table(head, [row], left=())]
    )


def main() -> int:
    """Measure and report; the exit code tells whether leadership stayed where it was."""
    cpus = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        prog="python -m bench.false_failovers", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--seconds", type=float, default=600.0, help="length of the run (default 600)")
    add("--loops", type=int, default=cpus, help="busy loops (default: one per CPU)")
    add("--clients", type=int, default=4, help="each sends a request every 5 ms (default 4)")
    add("--ttl", type=int, default=60, help="session TTL in seconds (default 60)")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    options = parser.parse_args()
    configure(level="error", stream=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as work,
        open_group(Path(work) / "coordd", "coordd", options.ttl, 1000) as group,
    ):
        found = measure(group, options.seconds, options.loops, options.clients)
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    results = {"when": when, "machine": proc.machine(), **found}
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 1 if results["role_changes"] else 0


if __name__ == "__main__":
    sys.exit(main())
