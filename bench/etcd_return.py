"""``python -m bench.etcd_return``: etcd was away for ten seconds; how soon does coordd answer again?

An observer (bench.observer) commits to etcd every 2 ms. What is measured is the time from its first commit
after the outage to the first answer of coordd, and how often the ACTIVE key was written meanwhile. etcd is
away in two ways: stopped (SIGSTOP, SIGCONT), and killed and started again on its data.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_right
from pathlib import Path
from statistics import median
from typing import Any

from bench import children, program
from bench.group import Group, open_group
from bench.outage import Notes, quantile
from bench.side import ACTIVE_KEY, BenchError
from bench.table import number, table
from tests.lab.cluster import MilvusLab

_PERIOD_MS = 20
_OBSERVER_PERIOD_MS = 2
_BEFORE_S = 3.0
_AFTER_S = 3.0
_LIMIT_S = 60.0
HOW = ("SIGSTOP", "kill -9")


def once(group: Group, how: str, away_s: float) -> dict[str, Any]:
    """One outage of etcd; milliseconds. Raises: BenchError."""
    group.make_whole()
    etcd = group.lab.etcd
    # Requests outlast the outage: what is held must be answered.
    deadline_ms = str(round((away_s + 10) * 1000))
    arguments = (etcd.endpoint, ACTIVE_KEY, str(_PERIOD_MS), deadline_ms)
    with (
        children.ready("bench.open_loop", *arguments) as client,
        children.ready("bench.observer", etcd.endpoint, str(_OBSERVER_PERIOD_MS)) as observer,
    ):
        time.sleep(_BEFORE_S)
        at = time.monotonic()
        _away(group.lab, how, away_s)
        time.sleep(_AFTER_S)
        noted = children.told_to_stop(client, _LIMIT_S)
        commits = children.told_to_stop(observer, _LIMIT_S)["commits"]
    return _judge(noted, commits, at, at + away_s)


def _away(lab: MilvusLab, how: str, away_s: float) -> None:
    member = lab.etcd.member
    if how == "SIGSTOP":
        member.pause()
        time.sleep(away_s)
        member.resume()
        return
    member.kill()
    time.sleep(away_s)
    member.start()
    member.wait_healthy()


def _judge(noted: dict[str, Any], commits: list[list[float]], at: float, back: float) -> dict[str, Any]:
    acknowledged = sorted(commit[1] for commit in commits)
    first_commit = _first_after(acknowledged, back)
    requests = noted["clients"][0]["requests"]
    good = sorted(request[1] for request in requests if request[3] is None)
    errors = Notes(noted["clients"]).errors()
    return {
        "etcd_away_ms": (first_commit - at) * 1000,
        "commit_to_answer_ms": (_first_after(good, first_commit) - first_commit) * 1000,
        "role_changes": len(noted["switches"]),
        "failed": errors.total(),
        "errors": dict(errors),
        "requests": len(requests),
    }


def _first_after(moments: list[float], limit: float) -> float:
    index = bisect_right(moments, limit)
    if index == len(moments):
        raise BenchError("etcd or coordd did not come back")
    return moments[index]


def report(results: dict[str, Any]) -> str:
    """The table, in Markdown."""
    head = ("etcd away by", "n", "median [ms]", "p99 [ms]", "max [ms]", "role changes", "failed", "requests")
    rows = []
    for how, runs in results["runs"].items():
        taken = [run["commit_to_answer_ms"] for run in runs]
        figures = (median(taken), quantile(taken, 0.99), max(taken))
        sums = [sum(run[name] for run in runs) for name in ("role_changes", "failed", "requests")]
        rows.append((how, str(len(runs)), *map(number, figures), *(f"{one:,}" for one in sums)))
    title = f"## From etcd's first commit to coordd's first answer, etcd away for {results['away_s']:g} s"
    return "\n".join([title, "", *program.conditions(results), "", *table(head, rows)])


def _measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    with open_group(work / "coordd", "coordd", options.ttl, 1000) as group:
        runs = {how: [once(group, how, options.away_s) for _ in range(options.count)] for how in HOW}
    return {"away_s": options.away_s, "runs": runs}


def main() -> int:
    """Measure and report."""
    parser = program.new_parser("bench.etcd_return", __doc__)
    parser.add_argument("--count", type=int, default=5, help="outages of each kind (default 5)")
    parser.add_argument("--away-s", type=float, default=10.0, help="length of an outage (default 10)")
    parser.add_argument("--ttl", type=int, default=60, help="session TTL in seconds (default 60)")
    return program.run(parser, _measure, report)


if __name__ == "__main__":
    sys.exit(main())
