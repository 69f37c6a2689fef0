"""Tries mutants on a copy of the project: `python -m tests.mutation.run [NAME ...]`."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coordd.etcd.child import bound_to_parent
from tests.mutation.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns("*.pyc.*")
"""Bytecode that somebody is writing will be gone."""
COPIED = ("coordd", "tests", "config", "docs", "deploy", "proto", "pyproject.toml")
LIMIT_S = 300.0
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "mutants")
TESTS_FAILED = 1
"""pytest's exit code for that; others mean that nothing was tried."""


def copy_of_project(folder: Path) -> Path:
    """The project's files in `folder`, to be changed at will."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=NOT_COPIED)
        else:
            shutil.copy(source, folder / name)
    return folder


def mutate(project: Path, mutant: Mutant) -> None:
    """Apply the mutant.

    Raises:
        ValueError: the text it replaces does not stand in the file exactly once.
    """
    path = project / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: the text stands {text.count(mutant.old)} times in {mutant.file}")
    path.write_text(text.replace(mutant.old, mutant.new))


def failing_tests(project: Path, tests: Sequence[str]) -> list[str]:
    """The tests that fail in `project`, up to the first.

    Raises:
        RuntimeError: pytest could not run them.
    """
    done = subprocess.run(
        bound_to_parent([sys.executable, "-m", "pytest", *OPTIONS, *tests]),
        cwd=project,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode not in (0, TESTS_FAILED):
        raise RuntimeError(
            f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
        )
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")]


def caught_by(mutant: Mutant) -> list[str]:
    """The first test that notices the mutant; empty if none does."""
    with tempfile.TemporaryDirectory(prefix="coordd-mutant-") as folder:
        project = copy_of_project(Path(folder))
        mutate(project, mutant)
        return failing_tests(project, mutant.tests)


def main(names: Sequence[str]) -> int:
    """Try the mutants named, or all; 1 if one survives."""
    survivors = 0
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        caught = caught_by(mutant)
        survivors += not caught
        sys.stdout.write(f"without {mutant.name}: {caught[0] if caught else 'NOBODY NOTICES'}\n")
        sys.stdout.flush()
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
