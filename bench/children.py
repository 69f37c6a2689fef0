"""The bench's own child processes: run from the project's folder, end with this process."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordd.etcd.child import bound_to_parent

PROJECT = Path(__file__).resolve().parents[1]
# Of a job, in a message.
_SHOWN = 300


class ChildError(Exception):
    """A child failed; the message holds what it wrote."""


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return bound_to_parent([sys.executable, "-m", module, *arguments])


def run(module: str, spec: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Run a module with a job on its standard input; returns its result. Raises: ChildError."""
    what = f"{module} {spec}"[:_SHOWN]
    try:
        done = subprocess.run(
            _command(module, ()),
            input=json.dumps(spec),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=PROJECT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ChildError(f"{what}: no result within {timeout_s} s") from None
    if done.returncode != 0:
        raise ChildError(f"{what}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running module with pipes to its input and output; killed at the end if it still runs."""
    with subprocess.Popen(
        _command(module, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def ready(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running module that has said that it is ready, and goes on until it is told to stop.

    Raises: ChildError.
    """
    with started(module, *arguments) as child:
        if child.stdout is None or child.stdout.readline() != "ready\n":
            raise ChildError(f"{module} {shlex.join(arguments)} is not ready")
        yield child


def told_to_stop(child: subprocess.Popen[str], limit_s: float) -> dict[str, Any]:
    """End such a module; returns its result."""
    result: dict[str, Any] = json.loads(child.communicate("stop\n", timeout=limit_s)[0])
    return result
