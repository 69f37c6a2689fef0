"""All tests: `python -m tests.halves LOG FOLDER ...`, two runs of pytest side by side.

The folders that are named only compute: their run has a lower priority and more patience, and writes to the
file LOG. The other run has all others, which mostly wait for processes. LOG's last line comes at the end,
or all of it if it tells of a failure.

Ctrl-C, SIGTERM and SIGHUP end both runs, with a moment to clean up. If this process is killed, so are they.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, NoReturn

from coordd.etcd.child import bound_to_parent

NICE: Final = ("/usr/bin/env", "nice")
PATIENCE_S: Final = 120
"""For a test of the niced run: the other one goes first where both want a core."""
CLEANUP_S: Final = 5.0
"""For both runs, once interrupted, to end their processes and remove their files."""


class Ended(Exception):
    """This process has been told to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(log: Path, computing: Sequence[str]) -> int:
    """0 if no test of either run failed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        runs = [
            pytest_run(*(f"--ignore={folder}" for folder in computing)),
            pytest_run(f"--timeout={PATIENCE_S}", *computing, before=NICE, output=output),
        ]
        try:
            failed, computing_failed = [run.wait() for run in runs]
        except Ended as ended:
            # A terminal has told all its processes of Ctrl-C, and pytest stops cleaning up if told twice.
            if ended.number != signal.SIGINT:
                for run in runs:
                    run.send_signal(signal.SIGINT)
            clean_up(runs)
            return 128 + ended.number
    said = log.read_text(errors="replace").splitlines(keepends=True)
    sys.stdout.writelines(said if computing_failed else said[-1:])
    return failed or computing_failed


def pytest_run(
    *arguments: str, before: Sequence[str] = (), output: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """A run that dies with this process."""
    command = bound_to_parent([*before, sys.executable, "-m", "pytest", *arguments])
    return subprocess.Popen(command, stdout=output, stderr=output)


def clean_up(runs: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for runs that were interrupted; one that has not ended in time is killed, with its processes."""
    limit = time.monotonic() + CLEANUP_S
    for run in runs:
        try:
            run.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()


def end(number: int, _frame: object) -> NoReturn:
    raise Ended(number)


if __name__ == "__main__":
    # SIGINT too: in the background of a shell it is ignored, and would be by both runs.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, end)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
