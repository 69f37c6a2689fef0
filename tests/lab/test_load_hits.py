"""The judge of what searches find under load: whatever is wrong is seen."""

import pytest

from tests.lab.load_hits import distance, judge_hits, neighbours

ROWS = 300
GOOD = [(20, 0.0), (19, 1.0), (21, 1.0)]


def judged(hits: list[tuple[int, float]], there: set[int]) -> str:
    return judge_hits(20, hits, there, ROWS)


def test_neighbours_differ_by_one_in_one_digit() -> None:
    assert {one for one in neighbours(20) if one < ROWS} == {4, 19, 21, 36, 276}
    assert 15 not in neighbours(16), "a carry changes two digits"
    assert min(distance(20, one) for one in range(ROWS) if one != 20) == 1.0


def test_any_of_the_neighbours_will_do() -> None:
    assert judged(GOOD, {4, 19, 21, 36}) == ""
    assert judged([(20, 0.0), (36, 1.0), (4, 1.0)], {4, 19, 21, 36}) == ""


def test_a_row_that_need_not_be_there_may_be() -> None:
    assert judged(GOOD, {36}) == ""
    assert judged([(20, 0.0), (36, 1.0), (22, 4.0)], {36}) == ""


@pytest.mark.parametrize(
    "hits",
    [
        [(20, 0.0), (19, 1.0), (22, 4.0)],
        [(19, 1.0), (21, 1.0), (36, 1.0)],
        [(20, 0.0), (20, 0.0), (19, 1.0)],
        [(20, 0.0), (19, 1.0)],
        [(20, 0.0), (19, 1.0), (21, 2.0)],
        [(19, 1.0), (20, 0.0), (21, 1.0)],
        [(20, 0.0), (19, 1.0), (20 + 16**3, 1.0)],
        [],
    ],
    ids=["a neighbour is missing", "it is missing itself", "twice", "too few", "a wrong distance",
         "the order", "a row that was never inserted", "nothing"],
)  # fmt: skip
def test_what_is_wrong_is_seen(hits: list[tuple[int, float]]) -> None:
    assert judged(hits, {19, 21, 36}) != ""
