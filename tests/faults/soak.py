"""Thousands of failovers: the troubles of `test_history.py`, for as long as one likes, judged all the while.

    python -m tests.faults.soak --failovers 1000 --seconds 3600 --members 3

Ends after that many terms or seconds, whichever comes first, or when it is interrupted, with one line that is
the verdict. Exit status 0 if every promise was kept.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from coordd import log
from tests.faults.stage import Stage, stage
from tests.faults.troubles import Troubles
from tests.support.history import WRITES, Kind, Outcome
from tests.support.linearizability import Violation

PROGRESS_EVERY_S = 10.0


def main(words: Sequence[str] | None = None) -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--failovers", type=int, default=1000, help="terms of leadership (default 1000)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long in any case")
    parser.add_argument("--seed", type=int, default=0, help="of troubles and clients (default: a new one)")
    parser.add_argument("--members", type=int, default=3, help="etcd members (default 3)")
    parser.add_argument("--replicas", type=int, default=3, help="rootcoords (default 3)")
    parser.add_argument("--ttl", type=int, default=0, help="session TTL, seconds (default: 3 or 30)")
    parser.add_argument("--only", default="", help="troubles to draw from, with commas (default: all)")
    log.configure(level="error", stream=sys.stderr)
    return asyncio.run(soak(parser.parse_args(words)))


async def soak(wanted: argparse.Namespace) -> int:
    """Run and judge. Returns the exit status."""
    seed = wanted.seed or random.SystemRandom().randrange(1, 1 << 32)
    draw = random.Random(seed)
    ttl_s, crash_detection = wanted.ttl or draw.choice((3, 30)), draw.random() < 0.8
    group = f"{wanted.members} etcd members, {wanted.replicas} replicas, TTL {ttl_s} s"
    group += "" if crash_detection else ", crash detection off"
    print(f"seed {seed}: {group}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="coordd-soak-", ignore_cleanup_errors=True) as folder:
        failure = ""
        try:
            async with stage(
                Path(folder), members=wanted.members, replicas=wanted.replicas, seed=seed, ttl_s=ttl_s,
                crash_detection=crash_detection,
            ) as scene:  # fmt: skip
                troubles = Troubles(scene, seed, [name for name in wanted.only.split(",") if name])
                await _run(scene, troubles, wanted, began)
        except* (Violation, AssertionError, TimeoutError) as group:
            failure = _told(group)
    if failure:
        print(f"{failure}\nFAILED after {time.monotonic() - began:.0f} s, seed {seed}", flush=True)
        return 1
    print(f"{_progress(scene, began)}\ntroubles: {dict(troubles.done)}\nwritten: {dict(scene.audit.written)}")
    print(f"OK: {scene.audit.terms} terms, no promise broken, seed {seed}", flush=True)
    return 0


async def _run(scene: Stage, troubles: Troubles, wanted: argparse.Namespace, began: float) -> None:
    told_at, interrupted = began, asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _interrupt, interrupted, number)
    while scene.audit.terms < wanted.failovers and time.monotonic() - began < wanted.seconds:
        if interrupted.is_set():
            break
        await troubles.one()
        await scene.wait_served(time.monotonic_ns())
        if time.monotonic() - told_at > PROGRESS_EVERY_S:
            told_at = time.monotonic()
            print(_progress(scene, began), flush=True)


def _interrupt(interrupted: asyncio.Event, number: signal.Signals) -> None:
    print(f"{number.name}: judging what there is", flush=True)
    interrupted.set()


def _progress(scene: Stage, began: float) -> str:
    checker = scene.checker
    memory_mb = psutil.Process().memory_info().rss / 1e6
    return (
        f"{time.monotonic() - began:6.0f} s  {scene.audit.terms} terms {dict(scene.audit.began)}"
        f"  {scene.history.calls} calls, {checker.count(Outcome.OK)} ok,"
        f" {checker.count(Outcome.UNKNOWN, WRITES)} writes unknown,"
        f" {checker.count(Outcome.OK, [Kind.CREATE])} databases created;"
        f" breadth {checker.widest}, {checker.databases}+{checker.remembered_databases} names,"
        f" {checker.ids.stretches} ID stretches, {memory_mb:.0f} MB"
    )


def _told(group: BaseExceptionGroup) -> str:
    """Every single error with its notes."""
    return "\n".join("".join(traceback.format_exception(one)) for one in _leaves(group))


def _leaves(group: BaseException) -> Iterator[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        for one in group.exceptions:
            for leaf in _leaves(one):
                for note in getattr(group, "__notes__", ()):
                    leaf.add_note(note)
                yield leaf
    else:
        yield group


if __name__ == "__main__":
    sys.exit(main())
