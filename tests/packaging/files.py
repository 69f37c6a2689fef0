"""Where the shipped files are, tools to read them, and processes run from them."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from coordd.etcd.child import bound_to_parent

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "Dockerfile"
MILVUS_COMMAND = ROOT / "deploy" / "docker" / "milvus"
HEALTHCHECK = ROOT / "deploy" / "docker" / "healthcheck"
UNIT = ROOT / "deploy" / "systemd" / "coordd@.service"
BIN = Path(sys.executable).parent
COORDD = BIN / "coordd"

T = TypeVar("T")


def tool(name: str) -> str:
    """A program of the `test` extra: beside the interpreter, else on PATH; absent is an error, not a skip."""
    beside = BIN / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    assert found, f"{name} is not installed: pip install '.[test]'"
    return found


def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors and merge keys resolved."""
    return yaml.safe_load(COMPOSE.read_text("utf-8"))


def coordinators() -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml that are coordd, by their name."""
    return {name: service for name, service in compose()["services"].items() if "build" in service}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as (instruction, rest), line continuations joined, comments dropped."""
    lines = [line for line in DOCKERFILE.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name.upper(), rest) for name, rest in split]


def clean_env(**more: str) -> dict[str, str]:
    """An environment that no setting of the machine leaks into; the venv's programs are on PATH."""
    return {"PATH": f"{BIN}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", **more}


def run(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 15
) -> subprocess.CompletedProcess[str]:
    """Run to its end in `cwd`; output as text."""
    return subprocess.run(
        list(map(os.fspath, argv)),
        cwd=cwd,
        env=dict(clean_env() if env is None else env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@contextlib.contextmanager
def running(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep it running in `cwd` inside the block; it is killed at the end if it has not ended by itself."""
    program = shutil.which(argv[0], path=env["PATH"])
    assert program, f"{argv[0]} is not on PATH"
    command = bound_to_parent([program, *map(os.fspath, argv[1:])])
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def poll(
    check: Callable[[], T],
    what: str,
    *,
    process: subprocess.Popen[bytes] | None = None,
    log: Path | None = None,
    limit_s: float = 20.0,
) -> T:
    """Call `check()` until it returns something true, and return that.

    Gives up after `limit_s`, or at once when `process` has ended; `log` is shown then.
    """
    limit = time.monotonic() + limit_s
    while True:
        result = check()
        if result:
            return result
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > limit:
            end = log.read_text(errors="replace")[-3000:] if log else ""
            raise AssertionError(f"{'ended' if ended else f'not within {limit_s} s'}: {what}\n{end}")
        time.sleep(0.05)
