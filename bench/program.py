"""What the programs of the bench have in common: options, how they end, the report, the file of results."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import proc
from bench.children import ChildError
from bench.outage import NoAnswersError
from bench.side import BenchError
from coordd.log import configure
from tests.lab.install import LabError

# The exit code of a process that SIGINT has ended, as shells have it.
_INTERRUPTED = 130


def new_parser(module: str, doc: str) -> argparse.ArgumentParser:
    """The parser of ``python -m module``, described by the first line of its docstring."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=doc.splitlines()[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    return made


def run(
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace, Path], dict[str, Any]],
    report: Callable[[dict[str, Any]], str],
    argv: Sequence[str] | None = None,
    *,
    failed: Callable[[dict[str, Any]], bool] = lambda _results: False,
) -> int:
    """Measure in a folder of its own, print the report, write the file; returns the exit code.

    The report and the file get what was measured, and when, where, by which command and how long.
    ``failed``: whether what was measured must not be.
    """
    options = parser.parse_args(argv)
    results: dict[str, Any] = {
        "command": f"{parser.prog} {shlex.join(sys.argv[1:] if argv is None else argv)}".rstrip(),
        **when_and_where(),
        "options": {name: value for name, value in vars(options).items() if name != "json"},
    }

    def work() -> int:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="coordd-bench-", ignore_cleanup_errors=True) as folder:
            results.update(measure(options, Path(folder)))
        results["seconds"] = time.monotonic() - began
        print(report(results))
        if options.json:
            options.json.write_text(json.dumps(results, indent=1))
        return int(failed(results))

    return exit_code(work)


def run_or_report(
    files: Sequence[Path] | None,
    measure: Callable[[], dict[str, Any]],
    report: Callable[[list[dict[str, Any]]], None],
) -> int:
    """Report what was measured in earlier runs, by these files, or else now; returns the exit code."""

    def work() -> int:
        report([json.loads(path.read_text()) for path in files] if files else [measure()])
        return 0

    return exit_code(work)


def exit_code(work: Callable[[], int]) -> int:
    """That of ``work``, or another if it could not be done. SIGTERM ends it as Ctrl-C does."""
    configure(level="error", stream=sys.stderr)
    # Ends like Ctrl-C does, with all processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except (BenchError, ChildError, LabError, NoAnswersError) as error:
        sys.stderr.write("\n".join([f"bench: {error}", *getattr(error, "__notes__", []), ""]))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted\n")
        return _INTERRUPTED


def when_and_where() -> dict[str, Any]:
    """The time and the commit, and the machine, of a measurement."""
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return {"when": f"{when}, commit {_commit()}", "machine": proc.machine()}


def _commit() -> str:
    """What is measured, with "-dirty" if it is not quite that; "unknown" if git does not say."""
    if shutil.which("git") is None:
        return "unknown"
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def conditions(results: dict[str, Any]) -> list[str]:
    """How a report begins: what was run, when, for how long, and on what."""
    return [
        f"- command: `{results['command']}`, {results['when']}, {results['seconds']:.0f} s",
        f"- machine: {results['machine']}",
    ]
