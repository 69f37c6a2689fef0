"""Sizes: one thing per file, one thought per function, so that each fits in a head.

Aim at 400 lines and 40 lines; the limits here are where it must be taken apart.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import coordd

PACKAGE = Path(coordd.__file__).parent
MAX_MODULE_LINES = 700
MAX_FUNCTION_LINES = 70


def modules() -> list[Path]:
    """Everything in coordd/ that a person wrote."""
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines from its `def` to its end) of each function, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_fit_in_a_head() -> None:
    sizes = {str(path): len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert len(sizes) > 10
    assert {path: size for path, size in sizes.items() if size > MAX_MODULE_LINES} == {}


def test_functions_fit_in_a_head() -> None:
    sizes = {f"{path}:{name}": size for path in modules() for name, size in functions(path)}
    assert len(sizes) > 100
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}
