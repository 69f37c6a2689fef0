"""Run the simulation: any number of seeds, or one seed with its transcript."""

import argparse
import sys
import time
from collections.abc import Sequence

from .runs import run_chunks
from .test_planted_bugs import BUGS
from .world import run_seed, transcript_of

SHOWN = 50
TOLD_EVERY_S = 60.0
"""Where no terminal shows the progress: a run that is broken off has said how far it came."""


def main(words: Sequence[str] | None = None) -> int:
    """Exit status 0 if every promise held in every run."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed only")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happens")
    parser.add_argument("--bug", choices=BUGS, help="with --seed: plant this bug, see test_planted_bugs.py")
    parser.add_argument("--runs", type=int, default=10_000, help="how many seeds to run (default 10000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use (default 1)")
    arguments = parser.parse_args(words)
    if arguments.seed is not None:
        return run_one(arguments.seed, arguments.bug, trace=arguments.trace)
    return run_many(arguments.start, arguments.runs, arguments.jobs)


def run_one(seed: int, bug: str | None = None, *, trace: bool) -> int:
    """One seed; the transcript if it fails or is asked for."""
    parts, bias = (BUGS[bug].parts, BUGS[bug].bias) if bug else (None, None)
    failure = run_seed(seed, parts, bias)
    if failure is not None:
        print(failure)
    elif trace:
        print(transcript_of(seed, parts, bias))
    print(f"seed {seed}: {'FAILED' if failure is not None else 'ok'}")
    return 0 if failure is None else 1


def run_many(start: int, runs: int, jobs: int) -> int:
    """Many seeds; the shortest transcript of those that failed, and their numbers."""
    began, done = time.monotonic(), 0
    told_at = began
    failures: list[int] = []
    for count, failed in run_chunks(start, runs, jobs):
        done += count
        failures += failed
        if sys.stderr.isatty():
            print(f"\r{done} of {runs} runs, {len(failures)} failed ", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - told_at > TOLD_EVERY_S:
            told_at = time.monotonic()
            print(f"{done} of {runs} runs, {len(failures)} failed: {failures[:SHOWN]}", flush=True)
    elapsed_s = time.monotonic() - began
    if failures:
        print(min((transcript_of(seed) for seed in failures[:SHOWN]), key=len))
        print(f"failing seeds: {', '.join(map(str, failures[:SHOWN]))}")
        print(f"replay: python -m tests.simulation --seed {failures[0]} --trace")
    print(f"{done} runs from seed {start}, {len(failures)} failed, {elapsed_s:.1f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
