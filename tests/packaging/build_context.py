"""What .dockerignore lets into the build: the part of its rules that the file uses."""

import fnmatch
import functools
from pathlib import Path

from tests.packaging.files import ROOT


@functools.cache
def _rules() -> tuple[tuple[bool, str], ...]:
    """(whether what matches is let in, pattern), in order; the last that matches decides."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return tuple((line.startswith("!"), line.removeprefix("!")) for line in kept)


def in_context(path: str) -> bool:
    """Whether `path` (relative, a file or a folder) is part of the build context."""
    parts = Path(path).parts
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    let_in = True
    for allows, pattern in _rules():
        if any(_matches(prefix, pattern) for prefix in prefixes):
            let_in = allows
    return let_in


def _matches(path: str, pattern: str) -> bool:
    """As Go's filepath.Match for each component; a leading `**/` stands for any depth."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern.removeprefix("**/"))
    names, patterns = path.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


def context_files() -> list[str]:
    """Every file of the work tree that is part of the build context, in order."""
    tops = sorted({pattern.partition("/")[0] for allows, pattern in _rules() if allows})
    found = []
    for top in tops:
        start = ROOT / top
        paths = start.rglob("*") if start.is_dir() else [start]
        found += [path.relative_to(ROOT).as_posix() for path in paths if path.is_file()]
    return sorted(path for path in found if in_context(path))
