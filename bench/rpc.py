"""Rates, latencies and CPU time of calls to the active rootcoord, in rounds that take turns.

Server and client each have one CPU, so that a rate is that of one core on either side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench import children, proc
from bench.outage import quantile
from bench.requests import measured
from bench.side import BenchError, Side

CONNECTIONS = 4
WARM_UP_S = 0.2
_OTHER_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: ``rate_s`` and ``latency_s`` per round, method and side."""

    rounds: int = 3
    rate_s: float = 1.0
    latency_s: float = 0.5
    streams: int = 64


@dataclass(frozen=True, slots=True)
class Cpus:
    """Where server and client run; the same lists where there is one CPU only."""

    server: list[int]
    client: list[int]


def choose_cpus() -> Cpus:
    """The last CPU for the server, the first for the client."""
    cpus = sorted(os.sched_getaffinity(0))
    return Cpus(server=cpus[-1:], client=cpus[:1])


def measure(sides: Sequence[Side], plan: Plan) -> dict[str, Any]:
    """Method -> side -> figures, and ``ceiling``: those of the client against a server that does nothing."""
    cpus = choose_cpus()
    targets = {side.name: side.target() for side in sides}
    for side in sides:
        side.pin(cpus.server)
    try:
        rounds: dict[str, dict[str, list[dict[str, Any]]]] = {
            method: {side.name: [] for side in sides} for method in measured()
        }
        for _ in range(plan.rounds):
            for method, kept in rounds.items():
                for side in sides:
                    kept[side.name].append(_round(targets[side.name], method, cpus, plan))
    finally:
        for side in sides:
            side.unpin()
    methods = {
        method: {name: _summary(found) for name, found in kept.items()} for method, kept in rounds.items()
    }
    return {"methods": methods, "ceiling": _ceiling(cpus, plan)}


def _round(target: dict[str, Any], method: str, cpus: Cpus, plan: Plan) -> dict[str, Any]:
    job = {**target, "method": method, "cpus": cpus.client, "warm_up_s": WARM_UP_S}
    many = {"connections": CONNECTIONS, "streams": plan.streams, "seconds": plan.rate_s}
    one = {"connections": 1, "streams": 1, "seconds": plan.latency_s}
    limit_s = plan.rate_s + plan.latency_s + _OTHER_LIMIT_S
    found = {
        "rate": children.run("bench.closed_loop", {**job, **many}, limit_s),
        "latency": children.run("bench.closed_loop", {**job, **one}, limit_s),
    }
    taken = found["latency"].pop("latencies_us")
    found["latency"]["p50_us"] = quantile(taken, 0.50)
    found["latency"]["p99_us"] = quantile(taken, 0.99)
    return found


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; CPU time over all calls together."""
    rates = [one["rate"] for one in rounds]
    latencies = [one["latency"] for one in rounds]
    calls = sum(one["calls"] for one in rates)
    return {
        "rate_per_s": median(one["calls"] / one["wall_s"] for one in rates),
        "p50_us": median(one["p50_us"] for one in latencies),
        "p99_us": median(one["p99_us"] for one in latencies),
        "server_cpu_ms_per_1000": sum(one["server_cpu_s"] for one in rates) * 1e6 / calls,
        "client_busy": median(one["client_cpu_s"] / one["wall_s"] for one in rates),
        "server_busy": median(one["server_cpu_s"] / one["wall_s"] for one in rates),
        "others_busy": median(one["others_cpu_s"] / one["wall_s"] for one in rates),
        "failed": sum(one["failed"] for one in rates + latencies),
        "rounds": rounds,
    }


def _ceiling(cpus: Cpus, plan: Plan) -> dict[str, Any]:
    with children.started("bench.trivial_server") as server:
        if server.stdout is None:
            raise BenchError("the trivial server has no output")
        port = int(server.stdout.readline())
        proc.pin(server.pid, cpus.server)
        target = {"address": f"127.0.0.1:{port}", "server_id": 1, "pid": server.pid}
        return _summary([_round(target, "AllocID", cpus, plan)])
