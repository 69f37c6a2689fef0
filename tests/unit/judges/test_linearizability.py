"""Histories of one database that can and cannot have happened."""

import random
from collections.abc import Iterator

import pytest

from tests.support.history import Call, Kind, Outcome
from tests.support.linearizability import Violation
from tests.unit.judges.calls import create, drop, judge, listed

OK, REFUSED, FAILED, UNKNOWN = Outcome.OK, Outcome.REFUSED, Outcome.FAILED, Outcome.UNKNOWN

GOOD: dict[str, list[Call]] = {
    "one after another": [create(0, 1), listed(2, 3, a=7), drop(4, 5), listed(6, 7)],
    "a list sees a concurrent creation": [create(0, 5), listed(1, 2, a=7), listed(3, 4, a=7)],
    "a list does not see a concurrent creation": [create(0, 5), listed(1, 2), listed(3, 4)],
    "a refusal names what is there": [create(0, 1), create(2, 3, REFUSED), listed(4, 5, a=7)],
    "of two creations one is refused": [create(0, 5, REFUSED), create(1, 6), listed(7, 8, a=7)],
    "a drop of nothing is fine": [drop(0, 1), listed(2, 3)],
    "a drop of nothing may be refused": [drop(0, 1, REFUSED), create(2, 3)],
    "an unknown creation happened": [create(0, 1, UNKNOWN), listed(2, 3, a=7)],
    "an unknown creation did not happen": [create(0, 1, UNKNOWN), listed(2, 3)],
    "an unknown creation happens late": [create(0, 1, UNKNOWN), listed(2, 3), listed(4, 5, a=7)],
    "an unknown drop happens late": [
        create(0, 1), drop(2, 3, UNKNOWN), listed(4, 5, a=7), listed(6, 7), create(8, 9),
    ],
    "two unknown creations, one before and one after a drop": [
        create(0, 1, UNKNOWN), create(0, 2, UNKNOWN), listed(3, 4, a=7), drop(5, 6), listed(7, 8, a=9),
    ],
    "a failed creation did nothing": [create(0, 1, FAILED), listed(2, 3)],
    "created anew": [create(0, 1), listed(2, 3, a=7), drop(4, 5), create(6, 7), listed(8, 9, a=8)],
    "an unknown drop and creation in between": [
        create(0, 1), listed(2, 3, a=7), drop(3, 4, UNKNOWN), create(3, 5, UNKNOWN), listed(6, 7, a=8),
    ],
    "touching calls are concurrent": [create(0, 4), listed(4, 5)],
    "other databases do not matter": [create(0, 1), create(2, 3, name="b"), listed(4, 5, a=7, b=8)],
}  # fmt: skip

BAD: dict[str, list[Call]] = {
    "an acknowledged creation is lost": [create(0, 1), listed(2, 3)],
    "an acknowledged creation is lost later": [create(0, 1), listed(2, 3, a=7), listed(4, 5)],
    "an acknowledged drop is lost": [create(0, 1), drop(2, 3), listed(4, 5, a=7)],
    "two creations succeed": [create(0, 1), create(2, 3)],
    "two concurrent creations succeed": [create(0, 5), create(1, 4)],
    "refused for nothing": [create(0, 1, REFUSED)],
    "a drop refused for nothing": [create(0, 1), drop(2, 3, REFUSED)],
    "a list goes back in time": [create(0, 9), listed(1, 2, a=7), listed(3, 4)],
    "a failed creation shows": [create(0, 1), drop(2, 3), create(4, 5, FAILED), listed(6, 7, a=7)],
    "one unknown creation, twice seen": [
        create(0, 1, UNKNOWN), listed(2, 3, a=7), drop(4, 5), listed(6, 7, a=9),
    ],
    "an unknown drop before the creation does not count": [
        drop(0, 1, UNKNOWN), drop(0, 2), create(3, 4), listed(5, 6, a=7), drop(7, 8, REFUSED), listed(9, 10),
        create(11, 12, REFUSED),
    ],
    "another database under the same name": [create(0, 1), listed(2, 3, a=7), listed(4, 5, a=8)],
    "an unknown creation must not start before it was asked": [
        create(0, 1), drop(2, 3), listed(4, 5, a=7), create(6, 7, UNKNOWN),
    ],
    "one of many databases": [create(0, 1, name="b"), create(2, 3), listed(4, 5, a=7)],
    "never created": [create(0, 1), listed(2, 3, a=7, b=8)],
}  # fmt: skip


@pytest.mark.parametrize("slices", [1, 3, 100])
@pytest.mark.parametrize("name", GOOD)
def test_what_can_have_happened_passes(name: str, slices: int) -> None:
    judge(*GOOD[name], slices=slices)


@pytest.mark.parametrize("slices", [1, 3, 100])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_have_happened_is_found(name: str, slices: int) -> None:
    with pytest.raises(Violation):
        judge(*BAD[name], slices=slices)


def test_the_explanation_tells_the_story() -> None:
    with pytest.raises(Violation, match=r"database a: #.*ListDatabases.*a absent\n(.*\n)*.*CreateDatabase a"):
        judge(*BAD["an acknowledged creation is lost"])


def test_a_dropped_database_is_forgotten_once_it_is_retired() -> None:
    checker = judge(create(0, 1), drop(2, 3), listed(4, 5), retired={"a": 3}, slices=3)
    assert (checker.databases, checker.remembered_databases) == (0, 0)


def test_a_retired_database_does_not_come_back() -> None:
    with pytest.raises(Violation, match="never created, or dropped for good"):
        judge(create(0, 1), drop(2, 3), listed(6, 7, a=7), retired={"a": 3}, slices=3)


def test_a_retired_database_comes_back_as_often_as_creations_are_unknown() -> None:
    calls = [create(0, 1, UNKNOWN), drop(2, 3), listed(6, 7, a=7), listed(8, 9, a=7)]
    checker = judge(*calls, retired={"a": 3}, slices=4)
    assert (checker.databases, checker.remembered_databases) == (0, 1)
    with pytest.raises(Violation, match="came back 2 times"):
        judge(*calls, listed(10, 11, a=8), retired={"a": 3}, slices=5)


def test_many_unknown_writes_cost_little() -> None:
    """Polynomial, not exponential: they are counted, not told apart."""
    unknown = [one(2 * n, 2 * n + 1, UNKNOWN) for n in range(0, 60, 2) for one in (create, drop)]
    calls = [*(one for one in unknown), *(listed(200 + 2 * n, 201 + 2 * n) for n in range(50))]
    assert judge(*_apart(calls)).widest < 100


def test_it_agrees_with_trying_all_orders() -> None:
    """Random small histories, most of them wrong."""
    chance = random.Random(4)
    verdicts = {True: 0, False: 0}
    for _ in range(1500):
        calls = list(_random_calls(chance))
        possible = _some_order_explains(calls)
        verdicts[possible] += 1
        if possible:
            judge(*calls, slices=chance.choice((1, 2, 9)))
        else:
            with pytest.raises(Violation):
                judge(*calls, slices=chance.choice((1, 2, 9)))
    assert min(verdicts.values()) > 200, verdicts


def _apart(calls: list[Call]) -> list[Call]:
    return list({call.number: call for call in calls}.values())


def _random_calls(chance: random.Random) -> Iterator[Call]:
    times = chance.sample(range(40), 12)
    yield create(-2, -1, UNKNOWN)  # so that the database is known to the judge from the beginning
    for start, end in zip(times[::2], times[1::2], strict=True):
        span = (min(start, end), max(start, end))
        kind = chance.choice((create, drop, listed, listed))
        if kind is listed:
            yield listed(*span, **({"a": chance.choice((7, 7, 8))} if chance.random() < 0.5 else {}))
        else:
            yield kind(*span, chance.choice((OK, OK, REFUSED, UNKNOWN, FAILED)))


def _some_order_explains(calls: list[Call]) -> bool:
    """Wing and Gong without any cleverness."""
    waiting = [one for one in calls if one.outcome is not FAILED]
    return _explains(waiting, None)


def _explains(waiting: list[Call], created: int | None) -> bool:
    """`created`: None is absent, 0 is present since a time that nobody has told."""
    if all(one.outcome is UNKNOWN for one in waiting):
        return True
    first_end = min(one.completed_ns for one in waiting if one.outcome is not UNKNOWN)
    for one in waiting:
        if one.invoked_ns > first_end:
            continue
        rest = [other for other in waiting if other is not one]
        for after in _results(one, created):
            if _explains(rest, after):
                return True
    return False


def _results(one: Call, created: int | None) -> Iterator[int | None]:
    present = created is not None
    if one.kind is Kind.LIST:
        if (one.names.get("a") is not None) != present:
            return
        if present and created not in (0, one.names["a"]):
            return
        yield one.names.get("a")
    elif one.outcome is UNKNOWN:
        yield (0 if not present else created) if one.kind is Kind.CREATE else None
    elif one.outcome is REFUSED:
        if present == (one.kind is Kind.CREATE):
            yield created
    elif one.kind is Kind.DROP:
        yield None
    elif not present:
        yield 0
