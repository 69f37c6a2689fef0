"""Documents that name tests: what is named, and whether it is there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def rows(document: Path) -> list[list[str]]:
    """The cells of all rows of its tables, heads and rules left out."""
    cells: list[list[str]] = []
    head = True
    for line in document.read_text("utf-8").splitlines():
        if not line.startswith("|"):
            head = True
        elif re.fullmatch(r"[|:\s-]+", line):
            head = False
        elif not head:
            cells.append([cell.strip() for cell in line.strip("|").split("|")])
    return cells


def named_in(text: str) -> list[str]:
    """`tests/….py::test_x` or `tests/….py::TestX::test_x`, as they are written in Markdown."""
    return re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", text)


def is_there(name: str) -> bool:
    """Whether such a test exists."""
    path, _, test = name.partition("::")
    return (ROOT / path).is_file() and test in _names_in(ROOT / path)


@cache
def _names_in(path: Path) -> frozenset[str]:
    """`test_x`, `TestX` and `TestX::test_x` of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}::{one.name}" for one in functions}
    return frozenset(found)
