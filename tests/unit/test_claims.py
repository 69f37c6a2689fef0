"""docs/claims.md: every claim is one of the README's, and has a test or a benchmark that exists."""

import re
from importlib.util import find_spec

import pytest

from coordd.config import Settings
from tests.support.named_tests import ROOT, is_there, named_in, rows

DOCUMENT = ROOT / "docs" / "claims.md"
TEXT = DOCUMENT.read_text("utf-8")
README = " ".join((ROOT / "README.md").read_text("utf-8").split())


def of_takeovers() -> list[str]:
    """The first column of the README's table."""
    return [row[0] for row in rows(ROOT / "README.md")]


@pytest.mark.parametrize("words", [row[0] for row in rows(DOCUMENT)])
def test_it_is_what_the_readme_says(words: str) -> None:
    assert words in README


@pytest.mark.parametrize("cells", rows(DOCUMENT), ids=lambda cells: cells[0])
def test_something_shows_it(cells: list[str]) -> None:
    for cell in cells[1:]:
        programs = re.findall(r"`python -m (bench[.\w]*)`", cell)
        assert named_in(cell) or programs
        assert [name for name in named_in(cell) if not is_there(name)] == []
        assert [name for name in programs if find_spec(name) is None] == []
        assert re.sub(r"`[^`]*`", "", cell).strip() == "", "nothing that is not checked"
        assert len(re.findall("`[^`]*`", cell)) == len(named_in(cell)) + len(programs)


def test_the_table_of_takeovers_is_whole() -> None:
    assert len(of_takeovers()) > 5
    assert [row[0] for row in rows(DOCUMENT) if len(row) == 3] == of_takeovers()


def test_times_are_those_of_the_settings() -> None:
    settings = Settings()
    failover = settings.coordd.failover
    silence_s = (failover.serve_guard_ms + failover.margin_ms) / 1000
    assert f"replaced after {silence_s:g} s without a heartbeat" in README
    assert f"the session lease ({settings.common.session_ttl_s} s as shipped)" in README
    assert "kills it after a second" in README
    assert settings.coordd.watchdog.timeout_ms == 1000
    revisions_a_day = 86_400_000 // failover.heartbeat_interval_ms
    assert f"adds {revisions_a_day:,} revisions" in (ROOT / "docs" / "operations.md").read_text("utf-8")
