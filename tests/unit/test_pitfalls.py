"""docs/pitfalls.md: every pitfall is there, and every test that it names exists."""

import re

import pytest

from tests.support.named_tests import ROOT, is_there, named_in, rows

DOCUMENT = ROOT / "docs" / "pitfalls.md"
TEXT = DOCUMENT.read_text("utf-8")
PITFALLS = 19
NAMED_AFTER_ONE = re.compile(
    r"^ *(?:async )?(?:def|class) ((?:test_pitfall_|TestPitfall)\d\w+)", re.MULTILINE
)


def test_every_pitfall_has_a_row_with_a_test_named_after_it() -> None:
    numbered = [row for row in rows(DOCUMENT) if row[0].isdecimal()]
    assert [int(row[0]) for row in numbered] == list(range(1, PITFALLS + 1))
    for number, *_, tests in numbered:
        after = re.compile(rf"test_pitfall_{number}_|TestPitfall{number}[A-Z]")
        assert [one for one in named_in(tests) if after.search(one)], number


def test_every_test_named_after_a_pitfall_is_in_a_row() -> None:
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in NAMED_AFTER_ONE.findall(path.read_text("utf-8"))
    }
    assert len(there) > PITFALLS
    assert there <= {part for name in named_in(TEXT) for part in name.split("::")[1:]}


@pytest.mark.parametrize("name", named_in(TEXT))
def test_a_test_that_is_named_exists(name: str) -> None:
    assert is_there(name)
