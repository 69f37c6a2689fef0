"""Histories made by hand: calls with the times at which they start and end."""

from collections.abc import Mapping

from tests.support.checker import HistoryChecker
from tests.support.history import Call, Kind, Outcome, Retirement, Slice

END_OF_TIME = 1 << 60


def call(
    kind: Kind,
    times: tuple[int, int],
    outcome: Outcome = Outcome.OK,
    *,
    name: str = "",
    names: Mapping[str, int] | None = None,
    first: int = 0,
    count: int = 1,
) -> Call:
    """One call; its number is made of its times, so no two of a history may have both in common."""
    number = times[0] * 10_000 + times[1]
    size = count if kind in (Kind.TIMESTAMPS, Kind.IDS) else 0
    return Call(number, 0, kind, *times, outcome, name, names or {}, first, size)


def create(start: int, end: int, outcome: Outcome = Outcome.OK, name: str = "a") -> Call:
    return call(Kind.CREATE, (start, end), outcome, name=name)


def drop(start: int, end: int, outcome: Outcome = Outcome.OK, name: str = "a") -> Call:
    return call(Kind.DROP, (start, end), outcome, name=name)


def listed(start: int, end: int, **names: int) -> Call:
    """A list; each name with the time of its creation."""
    return call(Kind.LIST, (start, end), names=names)


def stamps(start: int, end: int, first: int, count: int = 1) -> Call:
    return call(Kind.TIMESTAMPS, (start, end), first=first, count=count)


def ids(start: int, end: int, first: int, count: int = 1) -> Call:
    return call(Kind.IDS, (start, end), first=first, count=count)


def judge(*calls: Call, retired: Mapping[str, int] | None = None, slices: int = 1) -> HistoryChecker:
    """Feed them, in order of their ends, in so many slices; returns the checker if nothing is wrong."""
    checker = HistoryChecker()
    waiting = sorted(calls, key=lambda one: one.completed_ns)
    retirements = [Retirement(name, at) for name, at in (retired or {}).items()]
    size = max(len(waiting) // slices, 1)
    while waiting:
        now, waiting = waiting[:size], waiting[size:]
        cut = min((one.invoked_ns for one in waiting), default=END_OF_TIME)
        due = tuple(one for one in retirements if one.at_ns <= now[-1].completed_ns or not waiting)
        retirements = [one for one in retirements if one not in due]
        checker.feed(Slice(tuple(now), due, cut))
    checker.feed(Slice((), (), END_OF_TIME))
    return checker
