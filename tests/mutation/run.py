"""Tries mutants on a copy of the project: `python -m tests.mutation.run [NAME ...]`."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordd.etcd.child import bound_to_parent
from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns("*.pyc.*")
"""Bytecode that somebody is writing will be gone."""
COPIED = ("coordd", "tests", "config", "docs", "deploy", "proto", "pyproject.toml")
TEST_LIMIT_S = 40
"""For each test, niced or not: a mutant may make one wait for ever, and pytest says where."""
LIMIT_S = 150.0
"""For all tests of a mutant, and for pytest itself."""
TRIES = 3
LONGEST_S = TRIES * 2 * LIMIT_S
OPTIONS = ("-x", "-q", f"--timeout={TEST_LIMIT_S}", "--cache-clear", "--hypothesis-profile", "mutants")
LAST_FAILED = Path(".pytest_cache", "v", "cache", "lastfailed")
"""Where pytest writes the tests that failed: the keys of an object, in JSON."""
TESTS_FAILED = 1
"""pytest's exit code for that; others mean that nothing was tried."""


class Unnoticed(Exception):
    """No test was seen to fail because of the mutant."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first test that failed in a run, and the run's output."""

    test: str
    output: str

    def __str__(self) -> str:
        timed_out = "from pytest-timeout" in self.output
        return f"{self.test} (by its time limit)" if timed_out else self.test


def copy_of_project(folder: Path) -> Path:
    """The project's files in `folder`, to be changed at will."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=NOT_COPIED)
        else:
            shutil.copy(source, folder / name)
    return folder


@contextlib.contextmanager
def mutated(project: Path, mutant: Mutant) -> Iterator[None]:
    """Apply the mutant, inside the block.

    Raises:
        ValueError: the text it replaces does not stand in the file exactly once.
    """
    path = project / mutant.file
    text, was = path.read_text(), path.stat()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: the text stands {text.count(mutant.old)} times in {mutant.file}")
    path.write_text(text.replace(mutant.old, mutant.new))
    # Bytecode is known by its source's size and time in seconds: another time for each.
    os.utime(path, (0, 0))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def first_failure(project: Path, tests: Sequence[str]) -> Failure | None:
    """Run the tests in `project`, up to the first that fails; None if all pass.

    Raises:
        RuntimeError: pytest could not run them.
        Unnoticed: they did not end within LIMIT_S, which no time limit of a test explains.
    """
    try:
        done = subprocess.run(
            bound_to_parent([sys.executable, "-m", "pytest", *OPTIONS, *tests]),
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        raise Unnoticed(f"{' '.join(tests)}: no end within {LIMIT_S:.0f} s\n{output[-3000:]}") from late
    if done.returncode == 0:
        return None
    if done.returncode != TESTS_FAILED:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return Failure(next(iter(json.loads((project / LAST_FAILED).read_text()))), done.stdout)


def noticed_by(mutant: Mutant, project: Path) -> Failure:
    """The first test that fails in `project` with the mutant, and passes without it.

    One that fails without it as well shows nothing; if the machine was busy for a moment, another try helps.

    Raises:
        Unnoticed: there is none.
    """
    anyway = None
    for _ in range(TRIES):
        with mutated(project, mutant):
            failure = first_failure(project, mutant.tests)
        if failure is None:
            raise Unnoticed("all tests pass")
        anyway = first_failure(project, [failure.test])
        if anyway is None:
            return failure
    raise Unnoticed(f"{anyway} fails without it, too\n{anyway.output[-3000:]}")


def trial(mutant: Mutant) -> Failure:
    """`noticed_by` in a new copy of the project."""
    with tempfile.TemporaryDirectory(prefix="coordd-mutant-") as folder:
        return noticed_by(mutant, copy_of_project(Path(folder)))


def main(names: Sequence[str]) -> int:
    """Try the mutants named, or all; 1 if one survives."""
    survivors = 0
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        try:
            said = str(trial(mutant))
        except Unnoticed as why:
            survivors += 1
            said = f"NOBODY NOTICES: {why}"
        sys.stdout.write(f"without {mutant.name}: {said}\n")
        sys.stdout.flush()
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
