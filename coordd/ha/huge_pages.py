"""A process that dies quickly: its memory in huge pages.

When a process is killed the kernel takes its memory apart before it closes its sockets, page by page: 0.2 ms
per MB of small pages. So long do clients wait for answers on their connections, and observers without the
life lock (`coordd.ha.life_lock`) for a sign. In pages of 2 MB it is a fraction of that. Python's own memory
cannot be asked for in that form, so what is there is collapsed into it, now and then, with MADV_COLLAPSE
(Linux 6.1; older kernels refuse, and all is as it was). No content changes, and hardly any size: collapsing
fills holes with memory, so what has many is left as it is.

Source: madvise(2); the kernel's admin guide on pagemap. With 320 MB: 66 ms from kill -9 to the end of the
process before, 20 ms after.
"""

import asyncio
import ctypes
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

HUGE_PAGE = 2 << 20
MADV_COLLAPSE = 25
FIRST_S = 3.0
"""After the start: the imports and a first load are over on a small cluster."""
AGAIN_S = 60.0
"""What was collapsed before is skipped quickly."""
FULL = 7 / 8
"""Share of a huge page that has to be there: the rest is added to it."""
PAUSE_S = 0.005
"""Between two pages, which take a few milliseconds each: memory cannot be mapped meanwhile."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY = 8  # bytes for each page in the pagemap; little-endian, so the last one holds the flags
_IS_THERE = 0x40  # this flag or the one above it: swapped, present


async def keep_in_huge_pages() -> None:
    """Collapse the memory of this process for as long as it runs; ends if the kernel cannot."""
    ending = threading.Event()
    pause_s = FIRST_S
    try:
        while True:
            await asyncio.sleep(pause_s)
            if not await asyncio.to_thread(collapse, ending):
                return
            pause_s = AGAIN_S
    finally:
        ending.set()  # the end of the process waits for the thread


def collapse(ending: threading.Event) -> bool:
    """Collapse what can be, until `ending`; takes milliseconds per page. False: this kernel cannot."""
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    refused = collapsed = 0
    for address in huge_page_addresses(Path("/proc/self/maps").read_text().splitlines()):
        if not is_full(_pagemap(address)):
            continue
        # Some memory is refused on kernels that can, such as the stacks of threads.
        if madvise(address, HUGE_PAGE, MADV_COLLAPSE):
            refused += 1
            continue
        collapsed += 1
        if ending.wait(PAUSE_S):
            break
    return collapsed > 0 or not refused


def is_full(pagemap: bytes) -> bool:
    """Whether hardly anything of a huge page is missing. `pagemap`: what /proc/<pid>/pagemap says of its
    small pages; empty if the kernel does not tell, and then nothing counts as missing.
    """
    flags = pagemap[_ENTRY - 1 :: _ENTRY]
    return sum(flag >= _IS_THERE for flag in flags) >= FULL * len(flags)


def _pagemap(address: int) -> bytes:
    try:
        with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
            return os.pread(pagemap.fileno(), HUGE_PAGE // _PAGE * _ENTRY, address // _PAGE * _ENTRY)
    except OSError:
        return b""


def huge_page_addresses(maps: Iterable[str]) -> Iterator[int]:
    """Where a whole huge page of private, writable, anonymous memory lies; `maps` is /proc/<pid>/maps."""
    for line in maps:
        span, permissions, _offset, _device, inode, *name = line.split(maxsplit=5)
        if permissions != "rw-p" or inode != "0" or (name and name[0] != "[heap]"):
            continue
        start, end = (int(address, 16) for address in span.split("-"))
        yield from range(-(-start // HUGE_PAGE) * HUGE_PAGE, end - HUGE_PAGE + 1, HUGE_PAGE)
