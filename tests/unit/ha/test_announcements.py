"""The lines of a term: every fact is a key."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from coordd import log
from coordd.ha.announcements import Announcements
from coordd.ha.election_events import TermCause
from coordd.ha.history import TermEnd, TermRecord

SAY = Announcements("rootcoord", "RootCoord", 14, "by-dev/meta/session/rootcoord")
TERM = TermRecord(
    "rootcoord", 421, 14, "a:1", "h", TermCause.CRASH, 12, 1000, {"detect": 0.4, "fence": 2.125, "serve": 1.0}
)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The log as JSON lines; afterwards logging is as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger(log.ROOT_LOGGER).level
    root.handlers = []
    stream = io.StringIO()
    log.configure(stream=stream, json_lines=True)
    yield stream
    root.handlers, root.level = before[0], before[1]
    logging.getLogger(log.ROOT_LOGGER).setLevel(before[2])


def test_a_term_that_began(lines: io.StringIO) -> None:
    SAY.term_began(TERM)
    line = json.loads(lines.getvalue())
    assert "term began" in line.values()
    facts = {"role": "rootcoord", "epoch": 421, "cause": "crash", "predecessor": 12}
    lengths = {"detect_s": 0.0004, "fence_s": 0.002125, "serve_s": 0.001}
    assert line == line | facts | lengths
    assert "activate_s" not in line


def test_a_term_that_ended(lines: io.StringIO) -> None:
    SAY.term_ended(TERM.ended(TermEnd.HANDED_OVER, 3500))
    line = json.loads(lines.getvalue())
    assert "term ended" in line.values()
    assert line == line | {"role": "rootcoord", "epoch": 421, "end": "handed over", "lasted_s": 2.5}
