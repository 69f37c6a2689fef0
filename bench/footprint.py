"""Start-up time, and the memory of an active and a standby process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from bench import proc
from bench.side import LIMIT_S, Side, healthy, wait


def start_up(sides: Sequence[Side], count: int, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Side -> milliseconds from the start of a lone process to Healthy, ``count`` times in turn.

    Raises: BenchError when one takes longer than ``limit_s``.
    """
    taken: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(count):
        for side in sides:
            side.end_all()
            began = time.monotonic()
            address = side.start().address
            wait(f"{side.name} is Healthy", lambda address=address: healthy(address), limit_s)
            taken[side.name].append((time.monotonic() - began) * 1000)
    return {
        name: {"median_ms": median(values), "max_ms": max(values), "all_ms": values}
        for name, values in taken.items()
    }


def memory(sides: Sequence[Side]) -> dict[str, Any]:
    """Side -> "active" and "standby" -> megabytes."""
    found = {}
    for side in sides:
        active, standby = side.pair()
        found[side.name] = {
            "active": proc.service_mb(active.process.pid),
            "standby": proc.service_mb(standby.process.pid),
        }
    return found
