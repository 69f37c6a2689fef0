"""How long a direct client is without answers when the active process of a pair ends.

The client (bench.open_loop) follows the ACTIVE key. The outage is the longest time between two good answers
around the event. The signal comes at a random moment of the active's keep-alive round, the same for both
sides.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench import children
from bench.outage import NoAnswersError, Notes
from bench.side import ACTIVE_KEY, LIMIT_S, BenchError, Side, healthy, wait

PERIOD_MS = 5
DEADLINE_MS = 1000
SIGNALS = (signal.SIGTERM, signal.SIGKILL)
# How long the client goes on after the new active is Healthy.
_SETTLE_S = 1.0


def measure(sides: Sequence[Side], count: int, ttl_s: int) -> dict[str, Any]:
    """Signal name -> side -> figures, from ``count`` takeovers each, the sides in turn."""
    moments = random.Random(1)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {
        number.name: {side.name: [] for side in sides} for number in SIGNALS
    }
    for number in SIGNALS:
        for _ in range(count):
            wait_s = moments.uniform(0, ttl_s / 3)
            for side in sides:
                found[number.name][side.name].append(_once(side, number, wait_s, ttl_s))
    return {name: {side: _summary(kept) for side, kept in by_side.items()} for name, by_side in found.items()}


def _once(side: Side, number: signal.Signals, wait_s: float, ttl_s: int) -> dict[str, Any]:
    active, standby = side.pair()
    before = side.holder()
    arguments = (side.lab.etcd.endpoint, ACTIVE_KEY, str(PERIOD_MS), str(DEADLINE_MS))
    with children.ready("bench.open_loop", *arguments) as client:
        time.sleep(0.2 + wait_s)
        at = time.monotonic()
        active.process.signal(number)
        wait(
            f"{side.name}: the standby takes over after {number.name}",
            lambda: side.holder() not in (None, before) and healthy(standby.address),
            2 * ttl_s + LIMIT_S,
        )
        time.sleep(_SETTLE_S)
        exited = not active.process.alive()
        noted = children.told_to_stop(client, LIMIT_S)
    active.process.kill()
    return {**_judge(noted, at), "exited": exited}


def _judge(result: dict[str, Any], at: float) -> dict[str, Any]:
    """Outage in ms, and the failed requests, from what the client noted; ``at`` is when the signal went."""
    notes = Notes(result["clients"])
    try:
        found = notes.judge(at, time.monotonic())
    except NoAnswersError as error:
        raise BenchError(str(error)) from error
    late_ms = found.pop("late_ms") - PERIOD_MS
    return {**found, "requests": notes.total, "backwards": notes.backwards, "client_late_ms": late_ms}


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "outage_ms_median": median(run["outage_ms"] for run in runs),
        "outage_ms_max": max(run["outage_ms"] for run in runs),
        "failed_median": median(run["failed"] for run in runs),
        "failed_max": max(run["failed"] for run in runs),
        "backwards": sum(run["backwards"] for run in runs),
        "exited": sum(run["exited"] for run in runs),
        "runs": runs,
    }
