"""Collapsing the memory of a real process."""

import subprocess
import sys

import pytest

CHILD = """
from pathlib import Path
from threading import Event
from coordd.ha.huge_pages import collapse
kept = [bytes(1000) for _ in range(60_000)]

def huge_kb():
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1])

before = huge_kb()
print(int(collapse(Event())), huge_kb() - before, sum(map(len, kept)), int(collapse(Event())))
"""


@pytest.mark.timeout(60)
def test_memory_moves_into_huge_pages_and_keeps_its_content() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    able, gained_kb, size, again = map(int, done.stdout.split())
    assert size == 60_000_000
    assert able == again
    if not able:
        pytest.skip("this kernel cannot collapse memory")
    assert gained_kb > 20_000


HOLES = """
import mmap
from pathlib import Path
from threading import Event
from coordd.ha.huge_pages import HUGE_PAGE, collapse

def rss_kb():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])

collapse(Event())
sparse = mmap.mmap(-1, 32 * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, len(sparse), 2 * mmap.PAGESIZE):
    sparse[at] = 1
before = rss_kb()
collapse(Event())
print(rss_kb() - before, before)
"""


@pytest.mark.timeout(60)
def test_memory_full_of_holes_does_not_grow() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    grown_kb, before_kb = map(int, done.stdout.split())
    assert before_kb > 32_000
    assert grown_kb < 16_000, "all of the holes are 32 MB"
