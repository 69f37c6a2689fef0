"""Figures side by side."""

import pytest

from bench.comparison import Line, compared


@pytest.mark.parametrize(
    ("milvus", "coordd", "more", "verdict"),
    [
        (100.0, 120.0, True, "better"),
        (100.0, 80.0, True, "worse"),
        (100.0, 120.0, False, "worse"),
        (100.0, 80.0, False, "better"),
        (100.0, 104.0, True, "same"),
        (104.0, 100.0, True, "same"),
        (0.0, 0.0, False, "same"),
        (0.0, 1.0, False, "worse"),
    ],
)
def test_the_verdict_knows_which_way_is_better(
    milvus: float, coordd: float, *, more: bool, verdict: str
) -> None:
    assert Line("a", "ms", milvus, coordd, more).verdict == verdict


def test_the_table_names_what_is_worse() -> None:
    lines = [Line("rate", "calls/s", 100, 200, more=True), Line("p99", "ms", 2, 3), Line("failed", "1", 0, 0)]
    text = compared(lines)
    assert "| rate [calls/s] |          100 |    200 |               2 | better    |" in text
    assert "| failed [1]     |            0 |      0 |               – | same      |" in text
    assert text[-1] == "coordd is worse in 1 of 3 lines: p99."
