"""What documents say of the bench: commands that its programs take, where tables come from, ratios."""

import argparse
import contextlib
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCHMARKS = ROOT / "docs" / "benchmarks.md"
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md", ROOT / "README.md"])
pytestmark = [
    # runpy says so of what another test has imported.
    pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning"),
    # All of coordd is imported, with the first of them.
    pytest.mark.timeout(60),
]


class Taken(Exception):
    """The program knows its arguments; it goes no further."""


def commands(path: Path) -> Iterator[str]:
    """Every `python -m bench…` that is to be typed, without what is put in by make."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    if path.name == "Makefile":
        yield from re.findall(r"python -m (bench.*)", re.sub(r"\$\(\w+\)", "x", text))
    else:
        yield from re.findall(r"python -m (bench[^`\n]*)", text)


def begin(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Run a program until it has read its arguments."""
    real = argparse.ArgumentParser.parse_args

    def parse(parser: Any, arguments: Sequence[str] | None = None, namespace: Any = None) -> None:
        real(parser, arguments, namespace)
        raise Taken

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    module, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def help_of(monkeypatch: pytest.MonkeyPatch, module: str) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit, match=r"^0$"):
        begin(monkeypatch, f"{module} --help")
    return shown.getvalue()


@pytest.mark.parametrize(
    "command", sorted({command for path in [*DOCUMENTS, ROOT / "Makefile"] for command in commands(path)})
)
def test_a_command_is_taken(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    if command == "bench.generate":
        command += " 127.0.0.1:1"  # what it cannot do without
    with pytest.raises(Taken):
        begin(monkeypatch, command)


def test_options_are_those_of_the_program_named_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options by themselves (`--rounds`), and what is said to be run with others."""
    module, found = "", 0
    for span in re.findall(r"`([^`\n]+)`", BENCHMARKS.read_text("utf-8")):
        if named := re.match(r"python -m (bench\S*)", span):
            module = named[1]
        elif span.startswith("--"):
            known = re.findall(r"(?<!\S)\[?(--[\w-]+)", help_of(monkeypatch, module))
            assert set(re.findall(r"--[\w-]+", span)) <= set(known), (module, span)
            found += 1
    assert found > 4


def test_each_table_of_figures_says_what_was_measured_when() -> None:
    """Between it and the one before."""
    _, *parts = re.split(r"(?:^\|.*\n)+", BENCHMARKS.read_text("utf-8"), flags=re.MULTILINE)
    before_tables = parts[:-1]
    assert len(before_tables) > 6
    for text in before_tables:
        assert re.search(r"2\d{3}-\d\d-\d\d,\s+commit [0-9a-f]{7}\b", text), text


def test_ratios_in_the_readme_are_those_of_the_tables() -> None:
    """Of the rates: the smallest and the largest of a method, in all tables."""
    rates: dict[str, list[float]] = {}
    for method, ratio in re.findall(
        r"^\| (\w+),[^|]* rate \[calls/s\] *\|[^|]*\|[^|]*\| *([\d.]+) \|",
        BENCHMARKS.read_text("utf-8"),
        re.MULTILINE,
    ):
        rates.setdefault(method, []).append(float(ratio))
    readme = (ROOT / "README.md").read_text("utf-8")
    said = re.findall(r"\b([A-Z]\w+) (\d+\.\d)(?: to (\d+\.\d))?(?=[,\n])", readme)
    assert {"CreateCollection", "CreatePartition", "DropCollection"} <= {method for method, *_ in said}
    for method, low, high in said:
        assert (low, high or low) == (f"{min(rates[method]):.1f}", f"{max(rates[method]):.1f}"), method


def test_the_takeover_in_the_readme_is_that_of_the_table() -> None:
    """Of the medians after `kill -9`, coordd's in tens of milliseconds, Milvus' in seconds."""
    medians_ms = {
        product: float(median.replace(",", ""))
        for product, median in re.findall(
            r"^\| kill -9 *\| (coordd|Milvus)[^|]*\|[^|]*\| *([\d.,]+) \|",
            BENCHMARKS.read_text("utf-8"),
            re.MULTILINE,
        )
    }
    readme = (ROOT / "README.md").read_text("utf-8")
    (said,) = re.findall(r"a takeover in (\d+) ms against (\d+) s;", readme)
    assert said == (str(round(medians_ms["coordd"], -1))[:-2], str(round(medians_ms["Milvus"] / 1000)))
