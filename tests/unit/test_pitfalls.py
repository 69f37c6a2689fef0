"""docs/pitfalls.md: every pitfall is there, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "pitfalls.md"
PITFALLS = 19


def rows() -> dict[int, list[str]]:
    """The cells of the numbered rows."""
    lines = DOCUMENT.read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {int(row[0]): row for row in cells if row[0].isdecimal()}


def named() -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", DOCUMENT.read_text("utf-8"))


@cache
def names_in(path: Path) -> frozenset[str]:
    """`test_x`, `TestX` and `TestX::test_x` of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            functions = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
            found |= {f"{node.name}::{one.name}" for one in functions}
    return frozenset(found)


def test_every_pitfall_has_a_row_with_a_test_named_after_it() -> None:
    assert list(rows()) == list(range(1, PITFALLS + 1))
    for number, row in rows().items():
        tests = re.findall(r"`(tests/[^`]+)`", row[-1])
        after = re.compile(rf"test_pitfall_{number}_|TestPitfall{number}[A-Z]")
        assert [one for one in tests if after.search(one)], number


@pytest.mark.parametrize("name", named())
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).is_file()
    assert test in names_in(ROOT / path)
