"""Blocks of timestamps and IDs that may and may not be handed out."""

import pytest

from tests.support.blocks import Ids
from tests.support.history import Call
from tests.support.linearizability import Violation
from tests.unit.judges.calls import ids, judge, stamps

GOOD: dict[str, list[Call]] = {
    "one after another": [stamps(0, 1, 10), stamps(2, 3, 11), stamps(4, 5, 20, 5), stamps(6, 7, 25)],
    "concurrent ones in any order": [stamps(0, 9, 30), stamps(1, 8, 10), stamps(2, 7, 20)],
    "touching calls are concurrent": [stamps(0, 4, 30), stamps(4, 6, 10)],
    "a slow answer": [stamps(0, 9, 5), stamps(1, 2, 10), stamps(3, 4, 20)],
    "IDs in any order": [ids(0, 1, 30, 10), ids(2, 3, 10, 20), ids(4, 5, 40), ids(6, 7, 5)],
}

BAD: dict[str, list[Call]] = {
    "back": [stamps(0, 1, 10), stamps(2, 3, 9)],
    "the same again": [stamps(0, 1, 10), stamps(2, 3, 10)],
    "into a block that was answered": [stamps(0, 1, 10, 5), stamps(2, 3, 14)],
    "the same to two at once": [stamps(0, 9, 10), stamps(1, 8, 10)],
    "blocks of two at once overlap": [stamps(0, 9, 10, 5), stamps(1, 8, 14, 3)],
    "a block of one at once around another": [stamps(0, 9, 11), stamps(1, 8, 10, 5)],
    "a slow answer overlaps": [stamps(0, 9, 10), stamps(1, 2, 10), stamps(3, 4, 20)],
    "back behind a slow one": [stamps(0, 9, 50), stamps(1, 2, 10), stamps(3, 4, 9)],
    "an ID twice": [ids(0, 1, 10), ids(2, 3, 11), ids(4, 5, 10)],
    "ID blocks overlap above": [ids(0, 1, 10, 5), ids(2, 3, 14, 5)],
    "ID blocks overlap below": [ids(0, 1, 14, 5), ids(2, 3, 10, 5)],
    "an ID block around another": [ids(0, 1, 14), ids(2, 3, 10, 10)],
}


@pytest.mark.parametrize("slices", [1, 2, 100])
@pytest.mark.parametrize("name", GOOD)
def test_what_may_be_handed_out_passes(name: str, slices: int) -> None:
    judge(*GOOD[name], slices=slices)


@pytest.mark.parametrize("slices", [1, 2, 100])
@pytest.mark.parametrize("name", BAD)
def test_what_may_not_be_handed_out_is_found(name: str, slices: int) -> None:
    with pytest.raises(Violation):
        judge(*BAD[name], slices=slices)


def test_what_is_remembered_stays_small() -> None:
    calls = [ids(2 * n, 2 * n + 1, 10 * n, 10) for n in range(1000)]
    calls += [stamps(5000 + 2 * n, 5001 + 2 * n, 10 * n) for n in range(1000)]
    checker = judge(*calls, slices=100)
    assert checker.ids.stretches == 1
    assert len(checker.timestamps._blocks) <= 1
    assert (checker.ids.answered, checker.timestamps.answered) == (1000, 1000)


def test_of_many_gaps_the_lowest_are_closed() -> None:
    remembered = Ids(most=3)
    for first in (10, 20, 30, 40, 50):
        remembered.returned(ids(first, first + 1, first))
    assert remembered.stretches == 3
    remembered.returned(ids(60, 61, 45))
    for taken in (10, 15, 20, 30, 50):
        with pytest.raises(Violation):
            remembered.returned(ids(70, 71, taken))
