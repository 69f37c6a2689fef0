"""The life lock of real processes, ended in real ways."""

import asyncio
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordd.clock import boottime
from coordd.ha import life_lock
from coordd.ha.life_lock import NAME, SIZE, take_life_lock, wait_released
from tests.support.etcd import eventually

HOLDER = """
import sys
from coordd.ha.life_lock import take_life_lock
print("held" if take_life_lock() else "none", flush=True)
sys.stdin.readline()
"""
OTHER_THREAD = """
import sys, threading
from coordd.ha.life_lock import take_life_lock
locks, ready, leave = [], threading.Event(), threading.Event()
def hold():
    locks.append(take_life_lock())
    ready.set()
    leave.wait()
thread = threading.Thread(target=hold)
thread.start()
ready.wait()
print("held" if locks[0] else "none", flush=True)
sys.stdin.readline()
leave.set()
thread.join()
print("ended", flush=True)
sys.stdin.readline()
"""


OBSERVER = """
import asyncio, sys
from coordd.ha.life_lock import take_life_lock, wait_released
async def main():
    watching = asyncio.create_task(wait_released(int(input())))
    await asyncio.sleep(0.3)
    assert not watching.done()
    print("watching" if take_life_lock() else "none", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
print("held", flush=True)
asyncio.run(main())
"""


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stdin.close()


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    with process(HOLDER) as child:
        yield child


async def watching(pid: int, count: int = 1) -> list[asyncio.Task[float | None]]:
    """Observers that have had time to begin."""
    tasks = [asyncio.create_task(wait_released(pid)) for _ in range(count)]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in tasks)
    return tasks


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_an_end_by_signal_is_told_to_every_observer(
    holder: subprocess.Popen[str], number: signal.Signals
) -> None:
    tasks = await watching(holder.pid, 3)
    before = boottime()
    holder.send_signal(number)
    async with asyncio.timeout(10):
        noticed = await asyncio.gather(*tasks)
    assert all(at is not None and before <= at <= boottime() for at in noticed)


async def test_a_clean_end_is_told_too(holder: subprocess.Popen[str]) -> None:
    [task] = await watching(holder.pid)
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    async with asyncio.timeout(10):
        assert await task is not None


async def test_a_process_that_only_stands_still_has_its_lock(holder: subprocess.Popen[str]) -> None:
    [task] = await watching(holder.pid)
    holder.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2 * life_lock.TURN_S)
    assert not task.done()
    holder.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.1)
    assert not task.done()
    holder.kill()
    async with asyncio.timeout(10):
        assert await task is not None


async def test_an_observer_that_dies_takes_nothing_from_the_others(holder: subprocess.Popen[str]) -> None:
    with process(OBSERVER) as observer:
        assert observer.stdin is not None
        assert observer.stdout is not None
        observer.stdin.write(f"{holder.pid}\n")
        observer.stdin.flush()
        assert observer.stdout.readline() == "watching\n"
        [task] = await watching(holder.pid)
        observer.kill()
        observer.wait()
        await asyncio.sleep(0.2)
        assert not task.done()
    holder.kill()
    async with asyncio.timeout(10):
        assert await task is not None


async def test_the_lock_belongs_to_the_thread_that_took_it() -> None:
    with process(OTHER_THREAD) as child:
        [task] = await watching(child.pid)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n")
        child.stdin.flush()
        assert child.stdout.readline() == "ended\n"
        async with asyncio.timeout(10):
            assert await task is not None
        assert child.poll() is None


async def test_who_has_lost_interest_leaves_the_lock_alone(holder: subprocess.Popen[str]) -> None:
    first, second = await watching(holder.pid, 2)
    first.cancel()
    await asyncio.wait([first], timeout=1)
    assert first.cancelled()
    await asyncio.sleep(2 * life_lock.TURN_S)
    holder.kill()
    async with asyncio.timeout(10):
        assert await second is not None


async def test_an_observer_is_not_taken_for_the_process_that_it_observes(
    holder: subprocess.Popen[str],
) -> None:
    """Its descriptors show the lock of the other, too, and for a moment even after that has ended."""
    with process(OBSERVER) as observer:
        assert observer.stdin is not None
        assert observer.stdout is not None
        observer.stdin.write(f"{holder.pid}\n")
        observer.stdin.flush()
        assert observer.stdout.readline() == "watching\n"
        [task] = await watching(observer.pid)
        holder.kill()
        await asyncio.sleep(0.3)
        assert not task.done()
        observer.kill()
        async with asyncio.timeout(10):
            assert await task is not None


async def test_a_process_without_a_lock_tells_nothing() -> None:
    with process('print("held", flush=True); input()') as child:
        assert await wait_released(child.pid) is None
        child.kill()
        child.wait()
        assert await wait_released(child.pid) is None, "a pid that nobody has"


@pytest.mark.parametrize("content", [b"", b"coordd-life 1 of 1, another machine, another libc\n"])
async def test_a_lock_of_another_kind_is_not_touched(content: bytes) -> None:
    descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, SIZE)
        with mmap.mmap(descriptor, SIZE) as memory:
            memory[: len(content)] = content
            assert await wait_released(os.getpid()) is None
            assert memory[:] == content.ljust(SIZE, b"\0")
    finally:
        os.close(descriptor)


async def test_memory_that_is_too_short_tells_nothing() -> None:
    descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC)
    try:
        assert await wait_released(os.getpid()) is None
    finally:
        os.close(descriptor)


async def test_without_libcs_locks_a_replica_runs_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_name: str, _flags: int = 0) -> int:
        raise PermissionError(1, "not here")

    monkeypatch.setattr(os, "memfd_create", refused)
    assert not take_life_lock()


async def test_nothing_stays_open_when_interest_is_lost(holder: subprocess.Popen[str]) -> None:
    [task] = await watching(holder.pid)
    task.cancel()
    await asyncio.wait([task], timeout=1)
    await eventually(lambda: not any(NAME in str(link) for link in _open()), 10)


def _open() -> Iterator[Path]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield link.readlink()
        except OSError:
            continue
