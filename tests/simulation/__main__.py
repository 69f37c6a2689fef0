"""Run the simulation: any number of seeds, or one seed with its transcript."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .world import run_seed, transcript_of

CHUNK = 500


def main(words: Sequence[str] | None = None) -> int:
    """Exit status 0 if every promise held in every run."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument("--runs", type=int, default=10_000, help="how many seeds to run (default 10000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use (default 1)")
    arguments = parser.parse_args(words)
    if arguments.seed is not None:
        return run_one(arguments.seed, trace=arguments.trace)
    return run_many(arguments.start, arguments.runs, arguments.jobs)


def run_one(seed: int, *, trace: bool) -> int:
    """One seed; the transcript if it fails or is asked for."""
    failure = run_seed(seed)
    if failure is not None:
        print(failure)
    elif trace:
        print(transcript_of(seed))
    print(f"seed {seed}: {'FAILED' if failure is not None else 'ok'}")
    return 0 if failure is None else 1


def run_many(start: int, runs: int, jobs: int) -> int:
    """Many seeds; the shortest transcript of those that failed, and all their numbers."""
    began, done, failures = time.monotonic(), 0, []
    for count, failed in chunks(start, runs, jobs):
        done += count
        failures += failed
        if sys.stderr.isatty():
            print(f"\r{done} of {runs} runs, {len(failures)} failed", end="", file=sys.stderr)
    elapsed = time.monotonic() - began
    if failures:
        print(min((transcript_of(seed) for seed in failures[:50]), key=len))
        print(f"failing seeds: {', '.join(map(str, failures[:50]))}")
        print(f"replay: python -m tests.simulation --seed {failures[0]} --trace")
    print(f"{done} runs from seed {start}, {len(failures)} failed, {elapsed:.1f} s")
    return 1 if failures else 0


def chunks(start: int, runs: int, jobs: int) -> Iterator[tuple[int, list[int]]]:
    """Results of the seeds in chunks: how many ran, which failed."""
    ranges = [range(first, min(first + CHUNK, start + runs)) for first in range(start, start + runs, CHUNK)]
    if jobs == 1:
        yield from map(run_range, ranges)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_range, ranges)


def run_range(seeds: range) -> tuple[int, list[int]]:
    """Run some seeds; how many, and those that failed."""
    return len(seeds), [seed for seed in seeds if run_seed(seed) is not None]


if __name__ == "__main__":
    sys.exit(main())
