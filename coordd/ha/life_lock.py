"""A sign of life that ends with a process at once: a lock which the kernel gives up before anything else.

A killed process first has its memory taken apart, 0.1 to 0.2 ms per MB; only then are its sockets closed and
its pidfd readable. Its robust mutexes are released before that. So every replica holds one for its life, in
memory that others on the same machine can map, and who waits for it learns of a crash within a fraction of a
millisecond, however much metadata the replica had loaded.

The owner is the thread that runs the event loop: when it has ended, nothing can be decided or answered any
more. The memory is a memfd, found among the descriptors of the process. Whatever is missing (another libc,
no /proc, another user) leaves observers with the pidfd.

Source: pthread_mutexattr_setrobust(3), memfd_create(2); do_exit in Linux' kernel/exit.c for the order.
"""

import asyncio
import ctypes
import errno
import mmap
import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from coordd.clock import boottime
from coordd.log import get_logger

log = get_logger("coordd.ha.life_lock")

NAME = "coordd-life"
SIZE = 4096
MUTEX_AT = 256
"""Offset of the mutex, after the label."""
TURN_S = 0.5
"""How long an observer's thread outlives the interest in it."""
_PTHREAD_PROCESS_SHARED = 1
_PTHREAD_MUTEX_ROBUST = 1


def take_life_lock() -> bool:
    """Make and hold the lock of this process, in the thread that runs the event loop, until the process ends.

    To be called once. False: this system has no such lock.
    """
    try:
        descriptor = os.memfd_create(NAME, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, SIZE)
        memory = mmap.mmap(descriptor, SIZE)
        _Mutex(memory).make()
        memory.write(_label(os.getpid()))
    except (OSError, AttributeError) as error:
        log.debug("no lock that ends with the process", error=str(error))
        return False
    # Never unmapped: the kernel releases only what is still there when the process ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(memory))
    return True


async def wait_released(pid: int) -> float | None:
    """Wait until the process `pid` has lost its lock; returns when that was noticed (CLOCK_BOOTTIME).

    Whether the pid is the right one is the caller's concern. Safe to cancel.

    Returns:
        None when nothing can be found out in this way.
    """
    waiter = _Waiter(asyncio.get_running_loop())
    if not waiter.start(pid):
        return None
    try:
        return await waiter.released
    finally:
        waiter.unwanted.set()


class _Waiter:
    """A thread that waits for a mutex, and the future that it tells."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.released: asyncio.Future[float | None] = loop.create_future()
        self.unwanted = threading.Event()
        self._loop = loop

    def start(self, pid: int) -> bool:
        """Begin, unless the process has no lock, or there can be no more threads."""
        memory = _memory_of(pid)
        if memory is None:
            return False
        thread = threading.Thread(
            target=self._wait, args=(_Mutex(memory),), name=f"life of {pid}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            return False
        return True

    def _wait(self, mutex: "_Mutex") -> None:
        noticed_at = boottime() if mutex.wait_lost(self.unwanted) else None
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._tell, noticed_at)

    def _tell(self, noticed_at: float | None) -> None:
        if not self.released.done():
            self.released.set_result(noticed_at)


def _memory_of(pid: int) -> mmap.mmap | None:
    """The memory with the lock of another process."""
    folder = Path(f"/proc/{pid}/fd")
    with suppress(OSError, ValueError):
        for link in folder.iterdir():
            if link.readlink().name.split(" ")[0] != f"memfd:{NAME}":
                continue
            descriptor = os.open(link, os.O_RDWR | os.O_CLOEXEC)
            try:
                memory = mmap.mmap(descriptor, SIZE)
            finally:
                os.close(descriptor)
            # An observer has the locks of others among its own descriptors.
            if memory.readline() == _label(pid):
                return memory
            memory.close()
    return None


def _label(pid: int) -> bytes:
    """Whose lock it is, and what both sides must agree on, since the mutex is libc's own structure."""
    return f"{NAME} 1 of {pid}, {platform.machine()}, {_libc_version()}\n".encode()


def _libc_version() -> str:
    """`glibc 2.36`, or that it is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "libc"
    except (ValueError, OSError):
        return "libc"


class _Mutex:
    """A robust mutex of pthreads in shared memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory  # keeps the address good
        self._address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(memory, MUTEX_AT)))
        self._libc = ctypes.CDLL(None)

    def make(self) -> None:
        """Initialise and lock it. Raises: OSError."""
        attributes = ctypes.create_string_buffer(64)
        self._call("pthread_mutexattr_init", attributes)
        self._call("pthread_mutexattr_setpshared", attributes, _PTHREAD_PROCESS_SHARED)
        self._call("pthread_mutexattr_setrobust", attributes, _PTHREAD_MUTEX_ROBUST)
        self._call("pthread_mutex_init", self._address, attributes)
        self._call("pthread_mutex_lock", self._address)

    def wait_lost(self, unwanted: threading.Event) -> bool:
        """Block until the owner's thread has ended; False if that cannot be told, or is `unwanted`."""
        code = errno.ETIMEDOUT
        while code == errno.ETIMEDOUT and not unwanted.is_set():
            until = _Timespec.of(time.time() + TURN_S)
            code = self._libc.pthread_mutex_timedlock(self._address, ctypes.byref(until))
        if code in (0, errno.EOWNERDEAD):
            # Not made consistent before: all others who wait are told ENOTRECOVERABLE.
            self._libc.pthread_mutex_unlock(self._address)
        return code in (errno.EOWNERDEAD, errno.ENOTRECOVERABLE)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._libc, name)(*arguments)
        if code:
            raise OSError(code, f"{name}: {os.strerror(code)}")


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))

    @classmethod
    def of(cls, seconds: float) -> "_Timespec":
        whole = int(seconds)
        return cls(whole, int((seconds - whole) * 1e9))
