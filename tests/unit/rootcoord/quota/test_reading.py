"""Which collections' searches and queries are cooled off, and to what; figures worked out by hand."""

from typing import Any

import pytest

from coordd.rootcoord.quota.ceilings import UNLIMITED, Kind, Range
from coordd.rootcoord.quota.measures import Measures, ProxyLoad, QueryNode
from coordd.rootcoord.quota.reading import CoolOff, cool_off
from tests.unit.rootcoord.quota.support import MIB, measures, settings, whole

PROXIES = (ProxyLoad(searches=60, queries=10), ProxyLoad(searches=40, queries=0))


def cooled(found: Measures, **sections: Any) -> set[int]:
    return set(whole(cool_off(found, settings(reading=sections).reading)).collections)


def waiting(node_id: int, seconds: float, queued: int, *collections: int) -> QueryNode:
    return QueryNode(node_id, collections, waited_s=seconds, queued=queued)


BUSY = measures(
    query_nodes=(waiting(7, 2, 0, 1, 2), waiting(8, 0, 500, 3), waiting(9, 0, 0, 4)), proxies=PROXIES
)


def test_nobody_is_cooled_off_by_default() -> None:
    assert cooled(BUSY) == set()
    assert cooled(BUSY, queue={"enabled": True}) == set()


@pytest.mark.parametrize(
    ("seconds", "collections"), [(2.5, set()), (2, {1, 2}), (0.1, {1, 2}), (0, {1, 2, 3, 4})]
)
def test_long_waits(seconds: float, collections: set[int]) -> None:
    assert cooled(BUSY, queue={"enabled": True, "latency_s": seconds}) == collections
    assert cooled(BUSY, queue={"enabled": False, "latency_s": seconds}) == set()


@pytest.mark.parametrize(("nq", "collections"), [(501, set()), (500, {3}), (0, {1, 2, 3, 4})])
def test_long_queues(nq: int, collections: set[int]) -> None:
    assert cooled(BUSY, queue={"enabled": True, "nq": nq}) == collections
    assert cooled(BUSY, queue={"enabled": False, "nq": nq}) == set()


@pytest.mark.parametrize(("rate", "all_of_them"), [(2.5, True), (2.51, False), (0, True), (-1, False)])
def test_many_results(rate: float, all_of_them: bool) -> None:
    proxies = (ProxyLoad(result_bytes=2 * MIB), ProxyLoad(result_bytes=MIB / 2))
    found = measures(query_nodes=BUSY.query_nodes, proxies=proxies)
    assert cooled(found, result={"enabled": True, "max_mb_s": rate}) == (
        {1, 2, 3, 4} if all_of_them else set()
    )
    assert cooled(found, result={"enabled": False, "max_mb_s": rate}) == set()


def test_cooling_off_is_from_what_passes_now() -> None:
    found = whole(cool_off(BUSY, settings(reading={"queue": {"enabled": True, "nq": 500}}).reading))
    assert found.rates == {Kind.SEARCH: pytest.approx(90), Kind.QUERY: pytest.approx(9)}
    assert found.rate(3, Kind.SEARCH, Range(1000)) == pytest.approx(90)
    assert found.rate(1, Kind.SEARCH, Range(1000)) == 1000
    slower = whole(cool_off(BUSY, settings(reading={"cool_off_speed": 0.5}).reading))
    assert slower.rates == {Kind.SEARCH: 50, Kind.QUERY: 5}


@pytest.mark.parametrize(
    ("now", "range_", "rate"),
    [
        (90, Range(50), 50),  # never above the limit
        (90, Range(200, 120), 120),  # nor below the least
        (0, Range(50), 50),  # nothing passes: nothing to go by
        (90, Range(), UNLIMITED),  # what has no limit is not cooled off
    ],
)
def test_within_its_limits(now: float, range_: Range, rate: float) -> None:
    found = CoolOff(frozenset({1}), {Kind.SEARCH: now, Kind.QUERY: 0})
    assert found.rate(1, Kind.SEARCH, range_) == rate
