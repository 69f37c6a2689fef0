"""``python -m bench.activation``: takeovers with 100,000 collections, and the memory of a warm standby.

coordd's pair gets generated metadata and is killed and switched over in turn; the phases of each takeover are
those that the new active logs. Milvus' pair gets less (it reads all metadata at each takeover) and is killed.
On both sides the client's time from the new ACTIVE key to the first answer is measured: activation as a
client sees it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, generate, proc
from bench.failover import DEADLINE_MS, PERIOD_MS
from bench.faults import BY_NAME, Fault
from bench.group import Group, open_group
from bench.outage import Notes
from bench.side import ACTIVE_KEY, LIMIT_S, BenchError
from bench.table import number, table
from coordd.log import configure

# After loading, until the memory counts as settled.
_SETTLE_S = 10.0
_AFTER_S = 1.0
_MILVUS_TTL_S = 5


def measure(
    product: str, collections: int, faults: Sequence[Fault], count: int, ttl_s: int
) -> dict[str, Any]:
    """Takeovers of a pair with so many collections. Raises: BenchError."""
    with (
        tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as work,
        open_group(Path(work) / product, product, ttl_s, collections) as group,
    ):
        active, standby = group.make_whole()
        time.sleep(_SETTLE_S)
        memory = {
            "active": proc.service_mb(active.process.pid),
            "standby": proc.service_mb(standby.process.pid),
        }
        runs = []
        for fault in faults:
            for _ in range(count):
                runs.append({"event": fault.name, **_once(group, fault, ttl_s)})
                sys.stderr.write(f"bench: {product}: {collections} collections: {runs[-1]}\n")
    return {"product": product, "collections": collections, "memory_mb": memory, "runs": runs}


def _once(group: Group, fault: Fault, ttl_s: int) -> dict[str, Any]:
    active, _ = group.make_whole()
    before = group.known_holder()
    arguments = (group.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS))
    with children.started("bench.open_loop", *arguments) as client:
        if client.stdout is None or client.stdout.readline() != "ready\n":
            raise BenchError(f"the client got no answer from {group.name}")
        time.sleep(_AFTER_S)
        replica = group.replica_pid()
        at = time.monotonic()
        fault.inflict(group, active, replica)
        heir = group.wait_taken_over(before, 2 * ttl_s + LIMIT_S)
        time.sleep(_AFTER_S)
        noted = json.loads(client.communicate("stop\n", timeout=LIMIT_S)[0])
    until = time.monotonic()
    phases = group.phases_ms(heir)
    server_id = group.known_holder().server_id
    fault.repair(group, active)
    seen = next(seen for seen, switched_to in noted["switches"] if switched_to == server_id)
    good = sorted(r[1] for r in noted["clients"][0]["requests"] if r[3] is None and r[2] == server_id)
    first = good[min(bisect_right(good, seen), len(good) - 1)]
    outage_ms = Notes(noted["clients"]).judge(at, until)["outage_ms"]
    return {"activation_ms": (first - seen) * 1000, "outage_ms": outage_ms, "phases_ms": phases}


def report(results: dict[str, Any]) -> str:
    """The tables, in Markdown."""
    head = ("takeover", "collections", "n", "new key to first answer [ms]", "max [ms]", "outage, max [ms]")
    rows, phases, memory = [], [], []
    for one in results["sides"]:
        size = f"{one['collections']:,}"
        for event in dict.fromkeys(run["event"] for run in one["runs"]):
            runs = [run for run in one["runs"] if run["event"] == event]
            taken = [run["activation_ms"] for run in runs]
            figures = (median(taken), max(taken), max(run["outage_ms"] for run in runs))
            rows.append((f"{one['product']}, {event}", size, str(len(runs)), *map(number, figures)))
            phases += _phases(f"{one['product']}, {event}, {size} collections", runs)
        for place, found in one["memory_mb"].items():
            figures = (found["rss"], found["anonymous"], found["parents_rss"])
            memory.append((f"{one['product']}, {place}", size, *map(number, figures)))
    lines = ["## Takeover with many collections", "", f"- {results['when']}, {results['machine']}", ""]
    lines += [*table(head, rows), "", *phases, ""]
    places = ("process", "collections", "RSS [MB]", "without mapped files [MB]", "its parent's RSS [MB]")
    return "\n".join([*lines, *table(places, memory)])


def _phases(title: str, runs: list[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for run in runs for name in run["phases_ms"])
    texts = []
    for name in names:
        values = [run["phases_ms"][name] for run in runs if name in run["phases_ms"]]
        texts.append(f"{name} {median(values):.1f} / {max(values):.1f}")
    return [f"- phases of {title}, median / max in ms: {'; '.join(texts)}"] if texts else []


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m bench.activation", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--collections", type=int, default=generate.COLLECTIONS, help="of coordd's pair (default 100000)")
    add("--milvus", type=int, nargs="*", default=[2000, 10_000], help="of Milvus' pairs (2000 10000)")
    add("--event", choices=list(BY_NAME), action="append", help="for coordd (default kill -9, switchover)")
    add("--count", type=int, default=5, help="takeovers of each kind (default 5)")
    add("--milvus-count", type=int, default=2, help="takeovers of each of Milvus' pairs (default 2)")
    add("--ttl", type=int, default=60, help="session TTL of coordd in seconds (default 60)")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    options = parser.parse_args()
    configure(level="error", stream=sys.stderr)
    faults = [BY_NAME[name] for name in options.event or ("kill -9", "switchover")]
    sides = [measure("coordd", options.collections, faults, options.count, options.ttl)]
    for collections in options.milvus:
        killed = [BY_NAME["kill -9"]]
        sides.append(measure("milvus", collections, killed, options.milvus_count, _MILVUS_TTL_S))
    results = {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": proc.machine(),
        "sides": sides,
    }
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
