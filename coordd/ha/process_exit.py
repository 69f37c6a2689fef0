"""Waiting for the end of a process on this machine, which need not be a child.

A pidfd names one process for good, whoever gets its pid later. It becomes readable when the process has
ended, reaped or not; by then the kernel has taken its memory apart and closed its sockets. The life lock
(`coordd.ha.life_lock`) of a replica is lost before that, so whichever comes first counts.

Source: pidfd_open(2).
"""

import asyncio
import os
import select
from typing import Any

from coordd.clock import boottime
from coordd.ha import life_lock
from coordd.ha.evidence import Evidence, pid_was_reused
from coordd.ha.procfs import start_ticks as found_start_ticks
from coordd.log import get_logger

log = get_logger("coordd.ha.process_exit")


async def wait_exited(pid: int, start_ticks: int) -> Evidence | None:
    """Wait until the process `pid`, started at `start_ticks` (see `procfs.start_ticks`), has ended.

    With `start_ticks` 0 only an end that is seen to happen counts: what is gone already may be a mistake.

    Safe to cancel; nothing stays open then.

    Returns:
        None at once when nothing can be found out in this way.
    """
    if pid <= 0:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        return _without_pidfd(pid, start_ticks, error)
    try:
        # Read after opening: if the start is the recorded one, so is the process behind the pidfd.
        reused = pid_was_reused(start_ticks, found_start_ticks(pid))
        if not start_ticks and _is_readable(pidfd):
            return None
        if not reused:
            return await _ended(pid, pidfd)
    finally:
        os.close(pidfd)
    return _exited()


async def _ended(pid: int, pidfd: int) -> Evidence:
    """Wait for the first sign that the process behind `pidfd` ends or has ended."""
    loop = asyncio.get_running_loop()
    exited: asyncio.Future[None] = loop.create_future()
    loop.add_reader(pidfd, lambda: None if exited.done() else exited.set_result(None))
    lost = asyncio.create_task(life_lock.wait_released(pid), name=f"life lock of {pid}")
    either: set[asyncio.Future[Any]] = {lost, exited}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        # As long as the process is there, so is its pid, and what was found by the pid is its own.
        if lost.done() and (noticed_at := lost.result()) is not None:
            return Evidence("life lock lost", noticed_at=noticed_at, confirmed_at=boottime())
        await exited
        return _exited()
    finally:
        loop.remove_reader(pidfd)
        lost.cancel()


def _without_pidfd(pid: int, start_ticks: int, error: OSError) -> Evidence | None:
    """What it means that a pidfd cannot be had."""
    nobody = isinstance(error, ProcessLookupError)
    # A thread of another process may have the pid by now; it gets no pidfd.
    if (nobody and start_ticks) or pid_was_reused(start_ticks, found_start_ticks(pid)):
        return _exited()
    if not nobody:
        log.warning("cannot watch the active replica's process", pid=pid, error=str(error))
    return None


def _exited() -> Evidence:
    now = boottime()
    return Evidence("process exited", noticed_at=now, confirmed_at=now)


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
