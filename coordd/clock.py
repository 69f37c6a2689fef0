"""The two clocks coordd reads.

Leadership is timed on CLOCK_BOOTTIME, which goes on while the machine is suspended: a guard measured on
CLOCK_MONOTONIC would still look valid after a night in suspend. Wall time is only for timestamps.
"""

import time


def boottime() -> float:
    """Seconds since boot, suspend included (CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def unix_ms() -> int:
    """Wall-clock milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def unix_ns() -> int:
    """Wall-clock nanoseconds since 1970."""
    return time.time_ns()
