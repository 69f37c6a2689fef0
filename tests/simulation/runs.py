"""Many seeds, in one process or in several."""

import gc
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .world import run_seed

CHUNK = 500
COLLECT_EVERY = 20
"""Runs between two collections of garbage: to look for it at all times takes a sixth of the time."""


def run_chunks(start: int, runs: int, jobs: int) -> Iterator[tuple[int, list[int]]]:
    """Run `runs` seeds from `start` on `jobs` cores; yields for each chunk how many ran and which failed."""
    if jobs == 1:
        yield from map(run_range, chunks(start, runs))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_range, chunks(start, runs))


def chunks(start: int, runs: int) -> list[range]:
    """The seeds of `runs` runs from `start`, in pieces that a process takes at a time."""
    return [range(first, min(first + CHUNK, start + runs)) for first in range(start, start + runs, CHUNK)]


def run_range(seeds: range) -> tuple[int, list[int]]:
    """Run some seeds; how many, and those that failed."""
    failed: list[int] = []
    gc.disable()
    try:
        for number, seed in enumerate(seeds, 1):
            if run_seed(seed) is not None:
                failed.append(seed)
            if number % COLLECT_EVERY == 0:
                gc.collect()
    finally:
        gc.enable()
    return len(seeds), failed
