"""The two clocks coordd reads, and the turns of the event loop.

Leadership is timed on CLOCK_BOOTTIME, which goes on while the machine is suspended: a guard measured on
CLOCK_MONOTONIC would still look valid after a night in suspend. Wall time is only for timestamps.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

boottime: Final[Callable[[], float]] = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since boot, suspend included (CLOCK_BOOTTIME). No function of ours: it is called twenty times for
each change of metadata."""


def unix_ms() -> int:
    """Wall-clock milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def unix_ns() -> int:
    """Wall-clock nanoseconds since 1970."""
    return time.time_ns()


async def turns(count: int) -> None:
    """Let so many turns of the event loop pass (at least 2), in which others go on. Safe to cancel."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()
    call: Callable[[], object] = partial(_over, waiter)
    for _ in range(count - 2):
        call = partial(loop.call_soon, call)
    loop.call_soon(call)
    await waiter


def _over(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
