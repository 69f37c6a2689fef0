"""``python -m bench.failover``: a client's outages when leadership passes, with coordd and with Milvus.

Clients (bench.open_loop) follow the ACTIVE key and send AllocTimestamp every 5 ms each, whatever comes back.
Meanwhile one event after the other strikes the active replica of a pair, and the pair is made whole. A series
goes on until there were enough events, and after planned ones (switchover, SIGTERM) enough requests, too.

Results go to a JSON file, of which any number make the table and the plot:

    python -m bench.failover --product coordd --json coordd.json
    python -m bench.failover --product milvus --ttl 30 --count 3 --json milvus.json
    python -m bench.failover --report coordd.json milvus.json --plot docs/failover.png
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, failover_report, proc
from bench.faults import BY_NAME, FAULTS, Fault
from bench.group import Group, open_group
from bench.outage import Notes, quantile
from bench.program import run_or_report, when_and_where
from bench.side import ACTIVE_KEY, LIMIT_S, BenchError

PERIOD_MS = 5
DEADLINE_MS = 1000
PLANNED_REQUESTS = 100_000
# How long the clients go on before the next event, at least, and at most.
_PAUSE_S = (2.0, 3.0)
# How long they go on after the new active is Healthy until the event counts as over.
_SETTLE_S = 0.5
_OUTPUT_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. ``requests``: at least so many in a series of planned events."""

    count: int
    slow_count: int
    requests: int
    clients: int
    ttl_s: int


def series(group: Group, fault: Fault, plan: Plan) -> dict[str, Any]:
    """One kind of event, again and again. Raises: BenchError, NoAnswersError."""
    group.make_whole()
    clients = plan.clients if fault.planned else 1
    arguments = (group.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS), str(clients))
    events: list[dict[str, Any]] = []
    busy = proc.busy_s()
    with children.started("bench.open_loop", *arguments) as client:
        if client.stdout is None or client.stdout.readline() != "ready\n":
            raise BenchError(f"the clients got no answer from {group.name}")
        began = time.monotonic()
        moments = random.Random(1)
        while _more(fault, plan, len(events), (time.monotonic() - began) * clients * 1000 / PERIOD_MS):
            time.sleep(moments.uniform(*_PAUSE_S))
            events.append(_strike(group, fault, plan))
            sys.stderr.write(f"\rbench: {group.name}: {fault.name}: {len(events)} ")
        seconds = time.monotonic() - began
        output, _ = client.communicate("stop\n", timeout=_OUTPUT_LIMIT_S)
    sys.stderr.write("\n")
    load = (proc.busy_s() - busy) / seconds
    return {**_summary(events, json.loads(output)), "clients": clients, "seconds": seconds, "load": load}


def _more(fault: Fault, plan: Plan, events: int, requests: float) -> bool:
    wanted = plan.count if fault.fast else plan.slow_count
    return events < wanted or (fault.planned and requests < plan.requests)


def _strike(group: Group, fault: Fault, plan: Plan) -> dict[str, Any]:
    """One event and the repair; returns when it was, and what the new active says of its takeover."""
    before = group.known_holder()
    active, standby = group.pair_of_running()
    replica, heirs_pid = group.replica_pid(), proc.service_pid(standby.process.pid)
    waited_s = proc.cpu_wait_s(heirs_pid)
    at = time.monotonic()
    fault.inflict(group, active, replica)
    heir = group.wait_taken_over(before, 2 * plan.ttl_s + LIMIT_S)
    waited_ms = (proc.cpu_wait_s(heirs_pid) - waited_s) * 1000
    time.sleep(_SETTLE_S)
    facts = {"phases_ms": group.phases_ms(heir), "cpu_wait_ms": waited_ms}
    event = {"at": at, "until": time.monotonic(), "facts": facts}
    fault.repair(group, active)
    return event


def _summary(events: list[dict[str, Any]], noted: dict[str, Any]) -> dict[str, Any]:
    notes = Notes(noted["clients"])
    runs = [_run(notes, noted["switches"], **event) for event in events]
    outages = [run["outage_ms"] for run in runs]
    errors = notes.errors()
    return {
        "n": len(runs),
        "outage_ms": {"median": median(outages), "p99": quantile(outages, 0.99), "max": max(outages)},
        "slowest_answer_ms": max(run["slowest_answer_ms"] for run in runs),
        "late_ms": {name: f(run["late_ms"] - PERIOD_MS for run in runs) for name, f in _SHORT.items()},
        "phases_ms": _phases(runs),
        "requests": notes.total,
        "failed": errors.total(),
        "errors": dict(errors),
        "failed_outside": errors.total() - sum(run["failed"] for run in runs),
        "quiet_ms": {name: f(run["quiet_ms"] for run in runs) for name, f in _SHORT.items()},
        "cpu_wait_ms": {name: f(run["cpu_wait_ms"] for run in runs) for name, f in _SHORT.items()},
        "backwards": notes.backwards,
        "switches": len(noted["switches"]),
        "runs": runs,
    }


_SHORT = {"median": median, "max": max}


def _run(
    notes: Notes, switches: Sequence[tuple[float, int]], at: float, until: float, facts: dict[str, Any]
) -> dict[str, Any]:
    """What was noticed of one event.

    ``quiet_ms``: the longest pause in the second before it. Milliseconds after it: ``lost_ms`` until the
    first request failed, ``key_ms`` until the clients saw the new ACTIVE key, ``answered_ms`` until the new
    active's first answer.
    """
    seen, server_id = next((one for one in switches if one[0] > at and one[1]), (until, 0))
    moments = {
        "lost_ms": notes.first_failure(at),
        "key_ms": seen,
        "answered_ms": notes.first_answer(server_id),
    }
    return {
        "quiet_ms": notes.judge(at - 1, at)["outage_ms"],
        **notes.judge(at, until),
        **{name: (moment - at) * 1000 for name, moment in moments.items() if moment is not None},
        **facts,
    }


def _phases(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for run in runs for name in run["phases_ms"])
    found = {}
    for name in names:
        values = [run["phases_ms"][name] for run in runs if name in run["phases_ms"]]
        found[name] = {"median": median(values), "p99": quantile(values, 0.99), "max": max(values)}
    return found


def measure(product: str, faults: Sequence[Fault], plan: Plan, collections: int) -> Iterator[dict[str, Any]]:
    """All series of a product, one after the other. Those behind gates get a pair of their own."""
    for gated in (False, True):
        chosen = [fault for fault in faults if fault.gated is gated and product in fault.products]
        if not chosen:
            continue
        with (
            tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as work,
            open_group(Path(work) / product, product, plan.ttl_s, collections, gated=gated) as group,
        ):
            for fault in chosen:
                facts = {"product": product, "event": fault.name, "ttl_s": plan.ttl_s}
                yield {**facts, **series(group, fault, plan)}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--product", choices=("coordd", "milvus"), default="coordd")
    add("--event", choices=list(BY_NAME), action="append", help="this only (repeatable)")
    add("--count", type=int, default=100, help="events of each fast kind (default 100)")
    add("--slow-count", type=int, default=20, help="events of each slow kind (default 20)")
    add(
        "--requests",
        type=int,
        default=PLANNED_REQUESTS,
        help="with planned events, at least (default 100000)",
    )
    add("--clients", type=int, default=1, help="with planned events (default 1)")
    add("--ttl", type=int, default=60, help="session TTL in seconds (default 60)")
    add("--collections", type=int, default=1000, help="in the metadata (default 1000)")
    add("--json", type=Path, metavar="FILE", help="write the results to this file")
    add("--report", type=Path, nargs="+", metavar="FILE", help="measure nothing, report these results")
    add("--plot", type=Path, metavar="FILE", help="draw the results, as PNG")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report what was measured."""
    options = _arguments(argv)

    def report(results: list[dict[str, Any]]) -> None:
        print(failover_report.markdown(results))
        if options.plot:
            from bench.plot import draw  # noqa: PLC0415 - needs the extra `bench`

            draw(results, options.plot)

    return run_or_report(options.report, lambda: _measured(options), report)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    plan = Plan(options.count, options.slow_count, options.requests, options.clients, options.ttl)
    faults = [BY_NAME[name] for name in options.event] if options.event else list(FAULTS)
    results: dict[str, Any] = {
        **when_and_where(),
        "collections": options.collections,
        "series": [],
    }
    for one in measure(options.product, faults, plan, options.collections):
        sys.stderr.write(f"bench: {failover_report.brief(one)}\n")
        results["series"].append(one)
        # Each time: what has been measured in an hour must not be lost in the last minute.
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
    return results


if __name__ == "__main__":
    sys.exit(main())
