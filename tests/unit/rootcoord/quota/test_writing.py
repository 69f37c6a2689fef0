"""How much slower collections are written to, and which not at all; figures worked out by hand."""

import math
from typing import Any

import pytest

from coordd.rootcoord.quota.ceilings import Ceilings
from coordd.rootcoord.quota.measures import Measures, Node, QueryNode
from coordd.rootcoord.quota.writing import Brake, FullDisk, Reason, brakes, full_disk
from tests.unit.rootcoord.quota.support import MIB, measures, settings, whole


def factors(found: Measures, **sections: Any) -> dict[int, Brake]:
    return whole(brakes(found, settings(writing=sections).writing))


def late(node_id: int, seconds: float | None, *collections: int) -> Node:
    return Node(node_id, collections, tick_delay_s=seconds)


def full(node_id: int, used: int, *collections: int) -> Node:
    return Node(node_id, collections, memory_bytes=1000, used_bytes=used)


def growing(node_id: int, size: int, *collections: int) -> QueryNode:
    return QueryNode(node_id, collections, memory_bytes=1000, growing_bytes=size)


# --- ticks ---


@pytest.mark.parametrize(("delay_s", "factor"), [(0, 1), (1, 0.9), (5, 0.5), (7.5, 0.25), (10, 0), (100, 0)])
def test_rates_fall_with_the_age_of_ticks(delay_s: float, factor: float) -> None:
    found = factors(measures(late(7, delay_s, 1)), ticks={"enabled": True, "max_delay_s": 10})
    assert found == {1: Brake(pytest.approx(factor), Reason.TICKS)}


def test_the_latest_of_the_nodes_of_a_collection_counts() -> None:
    query_node = QueryNode(9, (2, 3), tick_delay_s=8)
    found = factors(
        measures(late(7, 2, 1, 2), late(8, None, 1), query_nodes=(query_node,)),
        ticks={"enabled": True, "max_delay_s": 10},
    )
    assert {one: brake.factor for one, brake in found.items()} == pytest.approx({1: 0.8, 2: 0.2, 3: 0.2})


def test_the_age_of_ticks_is_not_looked_at_by_default() -> None:
    assert factors(measures(late(7, 1000, 1))) == {}


# --- memory ---


@pytest.mark.parametrize(
    ("used", "factor"), [(100, None), (850, None), (875, 0.75), (900, 0.5), (925, 0.25), (950, 0), (1000, 0)]
)
def test_rates_fall_with_the_memory_that_is_left(used: int, factor: float | None) -> None:
    expected = {} if factor is None else {1: Brake(pytest.approx(factor), Reason.MEMORY)}
    assert factors(measures(full(7, used, 1))) == expected
    query_node = QueryNode(9, (1,), memory_bytes=1000, used_bytes=used)
    assert factors(measures(query_nodes=(query_node,))) == expected


def test_data_nodes_and_query_nodes_have_levels_of_their_own() -> None:
    memory = {"data_node": {"low": 0.2, "high": 0.6}, "query_node": {"low": 0.4, "high": 0.8}}
    query_node = QueryNode(9, (2,), memory_bytes=1000, used_bytes=500)
    found = factors(measures(full(7, 500, 1), query_nodes=(query_node,)), memory=memory)
    assert {one: brake.factor for one, brake in found.items()} == pytest.approx({1: 0.25, 2: 0.75})


def test_the_fullest_of_the_nodes_of_a_collection_counts() -> None:
    found = factors(measures(full(7, 875, 1, 2), full(8, 960, 2)))
    assert found == {1: Brake(pytest.approx(0.75), Reason.MEMORY), 2: Brake(0, Reason.MEMORY)}


def test_a_node_of_unknown_memory_brakes_nobody() -> None:
    assert factors(measures(Node(7, (1,), memory_bytes=0, used_bytes=500))) == {}


def test_the_protection_of_memory_can_be_switched_off() -> None:
    assert factors(measures(full(7, 999, 1)), memory={"enabled": False}) == {}


# --- growing segments ---


@pytest.mark.parametrize(
    ("size", "factor"),
    [(100, None), (200, None), (250, 0.75), (290, 0.55), (300, 0.5), (390, 0.5), (999, 0.5)],
)
def test_growing_segments_slow_down_to_the_least_ratio(size: int, factor: float | None) -> None:
    expected = {} if factor is None else {1: Brake(pytest.approx(factor), Reason.MEMORY)}
    assert factors(measures(query_nodes=(growing(9, size, 1),)), growing={"enabled": True}) == expected


def test_the_ratio_and_the_levels_can_be_set() -> None:
    section = {"enabled": True, "min_rate_ratio": 0.1, "low": 0.5, "high": 0.7}
    found = factors(measures(query_nodes=(growing(9, 640, 1), growing(8, 699, 2))), growing=section)
    assert {one: brake.factor for one, brake in found.items()} == pytest.approx({1: 0.3, 2: 0.1})


def test_growing_segments_are_not_looked_at_by_default() -> None:
    assert factors(measures(query_nodes=(growing(9, 999, 1),))) == {}


# --- together ---


def test_the_least_of_all_factors_counts_and_says_why() -> None:
    found = factors(
        measures(
            Node(7, (1,), memory_bytes=1000, used_bytes=900, tick_delay_s=2),
            Node(8, (2,), memory_bytes=1000, used_bytes=900, tick_delay_s=6),
        ),
        ticks={"enabled": True, "max_delay_s": 10},
    )
    assert found == {1: Brake(pytest.approx(0.5), Reason.MEMORY), 2: Brake(pytest.approx(0.4), Reason.TICKS)}


def test_of_two_reasons_to_deny_ticks_are_named() -> None:
    node = Node(7, (1,), memory_bytes=1000, used_bytes=1000, tick_delay_s=20)
    assert factors(measures(node), ticks={"enabled": True, "max_delay_s": 10}) == {1: Brake(0, Reason.TICKS)}


# --- the disk ---


def of(quotas: dict[int, float], usual: float = math.inf) -> tuple[Ceilings, dict[int, Ceilings]]:
    return Ceilings({}, usual), {one: Ceilings({}, quota) for one, quota in quotas.items()}


def test_collections_that_have_used_up_their_quota() -> None:
    data = measures(sizes={1: 99, 2: 100, 3: 101}, total=300).data
    found = whole(full_disk(data, settings().writing, *of(dict.fromkeys((1, 2, 3), 100.0))))
    assert found == FullDisk(all_full=False, collections=frozenset({2, 3}))


def test_a_quota_of_its_own_counts_instead_of_the_usual_one() -> None:
    data = measures(sizes={1: 99, 2: 100, 3: 101}, total=300).data
    own = {1: 99.0, 3: math.inf, 4: 1.0}
    for usual, full in ((100.0, {1, 2}), (math.inf, {1}), (0.0, {1, 2})):
        found = whole(full_disk(data, settings().writing, *of(own, usual)))
        assert found.collections == full


@pytest.mark.parametrize(("total", "all_full"), [(4 * MIB - 1, False), (4 * MIB, True)])
def test_the_quota_of_all_collections(total: int, all_full: bool) -> None:
    disk = {"quota_mb": 4}
    found = whole(
        full_disk(measures(total=total, sizes={}).data, settings(writing={"disk": disk}).writing, *of({}))
    )
    assert found == FullDisk(all_full, frozenset())


def test_nothing_is_full_while_nothing_is_known_or_asked_for() -> None:
    section = {"quota_mb": 1}
    unknown = measures(total=9 * MIB, sizes=None).data
    assert whole(full_disk(unknown, settings(writing={"disk": section}).writing, *of({}))) == FullDisk()
    known = measures(total=9 * MIB, sizes={1: 9 * MIB}).data
    off = settings(writing={"disk": {**section, "enabled": False}}).writing
    assert whole(full_disk(known, off, *of({1: 1}))) == FullDisk()
