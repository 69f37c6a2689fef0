"""``python -m bench.activation``: starts, takeovers and memory with up to 100,000 collections, side by side.

Pairs of coordd and of Milvus get generated metadata, one pair and one number of collections after the other.
Milvus reads all of it at each start and at each takeover, so it gets less by default; a number that it does
not load in time is reported as such. Measured are

* takeovers by the warm standby: the client's time from the new ACTIVE key to the first answer, which is
  activation as a client sees it, and the whole outage, in which Milvus also waits for the end of the lease;
  of coordd the phases that the new active logs, too;
* cold starts of a lone process, from its start to Healthy;
* the memory of active and standby, when both have just loaded and again after the takeovers, when those that
  have been active and stand by again are among them.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, footprint, generate, program
from bench.failover import DEADLINE_MS, PERIOD_MS
from bench.failover_report import NAMES
from bench.faults import BY_NAME, Fault
from bench.group import Group, open_group
from bench.outage import Notes
from bench.side import ACTIVE_KEY, LIMIT_S, BenchError
from bench.table import number, table
from tests.lab.install import LabError

# After loading, or after a takeover and its forwarding, until the memory counts as settled.
_SETTLE_S = 10.0
_AFTER_S = 1.0
_MILVUS_TTL_S = 5
# What a start or takeover may take beside LIMIT_S; Milvus takes about a third of it.
_LIMIT_S_PER_COLLECTION = 0.003
_PLACES = ("active", "standby")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to one pair. ``takeovers``: of each kind; ``starts``: cold ones."""

    product: str
    collections: int
    faults: Sequence[Fault]
    takeovers: int
    starts: int
    ttl_s: int

    @property
    def limit_s(self) -> float:
        """Patience for a start or a takeover, waiting for the lease aside."""
        return LIMIT_S + self.collections * _LIMIT_S_PER_COLLECTION

    def facts(self) -> dict[str, Any]:
        """What the results say of it."""
        return {"product": self.product, "collections": self.collections, "ttl_s": self.ttl_s}


def measure(plan: Plan, work: Path) -> dict[str, Any]:
    """One pair with so many collections; ``not_loaded`` says why, if it never became active.

    Raises: BenchError, ChildError, LabError.
    """
    opened = False
    try:
        with open_group(work, plan.product, plan.ttl_s, plan.collections, limit_s=plan.limit_s) as group:
            opened = True
            return {**plan.facts(), **_figures(group, plan)}
    except LabError as error:
        if opened:
            raise
        return {**plan.facts(), "not_loaded": str(error).splitlines()[0]}


def _figures(group: Group, plan: Plan) -> dict[str, Any]:
    memory = _settled_memory(group)
    runs = []
    for fault in plan.faults:
        for _ in range(plan.takeovers):
            runs.append({"event": fault.name, **_once(group, fault, plan)})
            sys.stderr.write(f"bench: {group.name}: {plan.collections} collections: {runs[-1]}\n")
    later = _settled_memory(group)
    starts = footprint.start_up([group], plan.starts, plan.limit_s)[group.name]["all_ms"]
    sys.stderr.write(f"bench: {group.name}: {plan.collections} collections: cold starts: {starts}\n")
    return {"memory_mb": memory, "later_memory_mb": later, "runs": runs, "cold_starts_ms": starts}


def _settled_memory(group: Group) -> dict[str, Any]:
    group.make_whole()
    time.sleep(_SETTLE_S)
    return footprint.memory([group])[group.name]


def _once(group: Group, fault: Fault, plan: Plan) -> dict[str, Any]:
    active, _ = group.make_whole()
    before = group.known_holder()
    arguments = (group.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS))
    with children.ready("bench.open_loop", *arguments) as client:
        time.sleep(_AFTER_S)
        replica = group.replica_pid()
        at = time.monotonic()
        fault.inflict(group, active, replica)
        heir = group.wait_taken_over(before, 2 * plan.ttl_s + plan.limit_s)
        time.sleep(_AFTER_S)
        noted = children.told_to_stop(client, LIMIT_S)
    until = time.monotonic()
    phases = group.phases_ms(heir)
    server_id = group.known_holder().server_id
    fault.repair(group, active)
    seen = next((seen for seen, switched_to in noted["switches"] if switched_to == server_id), None)
    good = sorted(r[1] for r in noted["clients"][0]["requests"] if r[3] is None and r[2] == server_id)
    if seen is None or not good:
        raise BenchError(f"the client did not find the new active {group.name} {server_id}")
    first = good[min(bisect_right(good, seen), len(good) - 1)]
    outage_ms = Notes(noted["clients"]).judge(at, until)["outage_ms"]
    return {"activation_ms": (first - seen) * 1000, "outage_ms": outage_ms, "phases_ms": phases}


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown: a column per pair, a line per figure."""
    loaded = [one for one in results["sides"] if "not_loaded" not in one]
    columns = [_column(one) for one in loaded]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ("median / max of n, or the figure", *(_title(one) for one in loaded))
    rows = [(name, *(column.get(name, "–") for column in columns)) for name in names]
    lines = ["## Many collections: starts, takeovers, memory", "", *program.conditions(results)]
    lines += [*_conditions(results), "", *table(head, rows), ""]
    lines += [f"- {_title(one)}: {one['not_loaded']}" for one in results["sides"] if "not_loaded" in one]
    return "\n".join([*lines, *(line for one in loaded for line in _phases(one))])


def _conditions(results: dict[str, Any]) -> list[str]:
    ttls = {NAMES[one["product"]]: one["ttl_s"] for one in results["sides"]}
    return [
        "- one pair at a time, on an etcd (one member, no fsync) and a Kafka (librdkafka's mock) of its own",
        f"- session TTL: {', '.join(f'{name} {ttl_s} s' for name, ttl_s in ttls.items())}",
    ]


def _title(one: dict[str, Any]) -> str:
    return f"{NAMES[one['product']]}, {one['collections']:,}"


def _column(one: dict[str, Any]) -> dict[str, str]:
    """Name of a line -> what one pair has there."""
    return dict(_cells(one))


def _cells(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "cold start to Healthy [ms]", _spread(one["cold_starts_ms"])
    for event in dict.fromkeys(run["event"] for run in one["runs"]):
        runs = [run for run in one["runs"] if run["event"] == event]
        yield f"{event}: new ACTIVE key to first answer [ms]", _spread([run["activation_ms"] for run in runs])
        yield f"{event}: outage of a client [ms]", _spread([run["outage_ms"] for run in runs])
    for place in _PLACES:
        found = one["memory_mb"][place]
        yield f"memory of the {place}, RSS [MB]", number(found["rss"])
        yield f"memory of the {place}, without mapped files [MB]", number(found["anonymous"])
        yield f"memory of the {place}'s parent, RSS [MB]", number(found["parents_rss"])
    for place in _PLACES:
        found = one["later_memory_mb"][place]
        yield f"memory of the {place} after the takeovers, RSS [MB]", number(found["rss"])
        yield (
            f"memory of the {place} after the takeovers, without mapped files [MB]",
            number(found["anonymous"]),
        )


def _spread(values: Sequence[float]) -> str:
    return f"{number(median(values))} / {number(max(values))} of {len(values)}" if values else "–"


def _phases(one: dict[str, Any]) -> Iterator[str]:
    for event in dict.fromkeys(run["event"] for run in one["runs"]):
        phases = [run["phases_ms"] for run in one["runs"] if run["event"] == event]
        names = dict.fromkeys(name for found in phases for name in found)
        texts = []
        for name in names:
            values = [found[name] for found in phases if name in found]
            texts.append(f"{name} {median(values):.1f} / {max(values):.1f}")
        if texts:
            yield f"- phases of {_title(one)}, {event}, median / max in ms: {'; '.join(texts)}"


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    faults = [BY_NAME[name] for name in options.event or ("kill -9", "switchover")]
    for collections in options.coordd:
        yield Plan("coordd", collections, faults, options.count, options.starts, options.ttl)
    killed = [BY_NAME["kill -9"]]
    for collections in options.milvus:
        yield Plan("milvus", collections, killed, options.milvus_count, options.milvus_count, _MILVUS_TTL_S)


def _measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    sides = [measure(plan, work / f"{plan.product}-{plan.collections}") for plan in _plans(options)]
    return {"sides": sides}


def main() -> int:
    """Measure and report."""
    parser = program.new_parser("bench.activation", __doc__)
    add = parser.add_argument
    sizes: dict[str, Any] = {"type": int, "nargs": "*", "metavar": "N"}
    add("--coordd", **sizes, default=[generate.COLLECTIONS], help="collections (default 100000)")
    add("--milvus", **sizes, default=[1000, 10_000, 20_000], help="collections (1000 10000 20000)")
    add("--event", choices=list(BY_NAME), action="append", help="for coordd (default kill -9, switchover)")
    add("--count", type=int, default=5, help="takeovers of each kind (default 5)")
    add("--starts", type=int, default=3, help="cold starts (default 3)")
    add("--milvus-count", type=int, default=2, help="takeovers, and starts, of each of Milvus' (default 2)")
    add("--ttl", type=int, default=60, help="session TTL of coordd in seconds (default 60)")
    return program.run(parser, _measure, report)


if __name__ == "__main__":
    sys.exit(main())
