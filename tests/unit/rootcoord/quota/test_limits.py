"""The limits of collections as a whole: denials, their order, and what holds whatever the figures are."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.quota.bit_by_bit import AT_ONCE
from coordd.rootcoord.quota.ceilings import READS, UNLIMITED, WRITES, Kind, ceilings
from coordd.rootcoord.quota.limits import CollectionLimits, Judgement, judge
from coordd.rootcoord.quota.measures import DataSide, Measures, Node, ProxyLoad, QueryNode
from coordd.rootcoord.quota.state import QuotaState, changes
from coordd.rootcoord.quota.writing import Reason
from tests.unit.rootcoord.quota.support import MIB, measures, settings, whole

RATES = {
    "dml": {
        "enabled": True,
        "insert": {"collection_max_mb_s": 8, "collection_min_mb_s": 1},
        "upsert": {"collection_max_mb_s": 4},
        "bulk_load": {"collection_max_mb_s": 2},
    },
    "dql": {"enabled": True, "search": {"collection_max_rate": 1000}},
}
SLOW = {"ticks": {"enabled": True, "max_delay_s": 10}}


def told(judgement: Judgement) -> dict[int, CollectionLimits]:
    """The collections that have limits."""
    found = {one: judgement.of(one) for one in judgement.collections()}
    return {one: limits for one, limits in found.items() if limits.limited}


def rates(limits: CollectionLimits) -> dict[str, float]:
    """In MiB where they are bytes."""
    return {
        kind.name: rate / MIB if kind in WRITES and rate < UNLIMITED else rate
        for kind, rate in limits.rates.items()
    }


def late(seconds: float, *collections: int) -> Node:
    return Node(7, collections, tick_delay_s=seconds)


# --- without trouble ---


def test_by_default_nobody_has_a_limit() -> None:
    assert told(whole(judge(measures(late(0, 1, 2)), settings()))) == {}


def test_all_that_nodes_work_for_get_the_limits_of_the_settings() -> None:
    found = told(whole(judge(measures(Node(7, (1,)), query_nodes=(QueryNode(9, (2,)),)), settings(**RATES))))
    assert set(found) == {1, 2}
    for limits in found.values():
        assert rates(limits) == {
            "INSERT": 8,
            "UPSERT": 4,
            "DELETE": math.inf,
            "BULK_LOAD": 2,
            "SEARCH": 1000,
            "QUERY": math.inf,
        }
        assert (limits.writing_denied, limits.reading_denied) == (None, None)


def test_properties_give_one_collection_a_limit_and_only_while_a_node_works_for_it() -> None:
    own = {one: ceilings(settings(), {"collection.deleteRate.max.mb": "3"}) for one in (1, 99)}
    found = told(whole(judge(measures(Node(7, (1, 2))), settings(), own)))
    assert set(found) == {1}
    assert rates(found[1])["DELETE"] == 3
    assert rates(found[1])["INSERT"] == math.inf


# --- slower ---


def test_factors_slow_down_what_has_a_limit_but_bulk_inserts() -> None:
    found = told(whole(judge(measures(late(7.5, 1)), settings(**RATES, writing=SLOW))))
    assert rates(found[1]) == pytest.approx(
        {"INSERT": 2, "UPSERT": 1, "DELETE": math.inf, "BULK_LOAD": 2, "SEARCH": 1000, "QUERY": math.inf}
    )


def test_no_slower_than_the_least_rate() -> None:
    found = told(whole(judge(measures(late(9.5, 1)), settings(**RATES, writing=SLOW))))
    assert rates(found[1])["INSERT"] == 1
    assert rates(found[1])["UPSERT"] == pytest.approx(0.2)


def test_searches_are_cooled_off() -> None:
    found = measures(
        query_nodes=(QueryNode(9, (1,), queued=10),), proxies=(ProxyLoad(searches=100, queries=50),)
    )
    limits = told(whole(judge(found, settings(**RATES, reading={"queue": {"enabled": True, "nq": 10}}))))[1]
    assert (limits.rates[Kind.SEARCH], limits.rates[Kind.QUERY]) == (pytest.approx(90), math.inf)


# --- denied ---


def nothing_is(kinds: tuple[Kind, ...], limits: CollectionLimits) -> bool:
    return all(limits.rates[kind] == 0 for kind in kinds)


@pytest.mark.parametrize("sections", [{}, RATES])
def test_writing_is_denied_by_force(sections: dict[str, Any]) -> None:
    found = told(
        whole(judge(measures(late(100, 1, 2)), settings(**sections, writing={"force_deny": True, **SLOW})))
    )
    assert set(found) == {1, 2}
    assert all(nothing_is(WRITES, limits) for limits in found.values())
    assert {limits.writing_denied for limits in found.values()} == {Reason.FORCE_DENY}
    assert {limits.reading_denied for limits in found.values()} == {None}
    assert found[1].rates[Kind.SEARCH] == (1000 if sections else math.inf)


def test_reading_is_denied_by_force() -> None:
    node = QueryNode(9, (1, 2), queued=10)
    found = told(whole(judge(measures(query_nodes=(node,)), settings(reading={"force_deny": True}))))
    assert set(found) == {1, 2}
    assert nothing_is(READS, found[1])
    assert (found[1].writing_denied, found[1].reading_denied) == (None, Reason.FORCE_DENY)
    assert found[1].rates[Kind.INSERT] == math.inf


def test_a_factor_of_zero_denies_the_collections_of_the_node_whatever_the_least_rate() -> None:
    found = told(whole(judge(measures(late(10, 1), Node(8, (2,))), settings(**RATES, writing=SLOW))))
    assert found[1].writing_denied is Reason.TICKS
    assert nothing_is(WRITES, found[1])
    assert found[2].writing_denied is None
    assert rates(found[2])["INSERT"] == 8


def test_what_has_no_limit_is_denied_as_well() -> None:
    node = Node(7, (1,), memory_bytes=100, used_bytes=96)
    found = told(whole(judge(measures(node, Node(8, (2,))), settings())))
    assert set(found) == {1}
    assert found[1].writing_denied is Reason.MEMORY


def test_a_collection_that_has_used_up_its_quota() -> None:
    disk = {"quota_per_collection_mb": 5}
    own = {3: ceilings(settings(), {"collection.diskProtection.diskQuota.mb": "1"})}
    sizes = {1: 4 * MIB, 2: 5 * MIB, 3: 2 * MIB}
    found = whole(judge(measures(Node(7, (1,)), sizes=sizes), settings(writing={"disk": disk}), own))
    limits = told(found)
    assert set(limits) == {2, 3}  # no node works for them, but somebody may write to them
    assert {one.writing_denied for one in limits.values()} == {Reason.DISK}


def test_a_full_disk_denies_all() -> None:
    found = measures(Node(7, (1, 2)), total=5 * MIB, sizes={})
    limits = told(whole(judge(found, settings(writing={"disk": {"quota_mb": 5}}))))
    assert {one: limit.writing_denied for one, limit in limits.items()} == {1: Reason.DISK, 2: Reason.DISK}
    assert limits[1].reading_denied is None


def test_pitfall_a_full_disk_is_not_undone_by_a_least_rate() -> None:
    """Milvus 2.3 raises the denied rate to the least one as soon as another factor is looked at."""
    found = measures(late(1, 1), total=5 * MIB, sizes={})
    writing = {"disk": {"quota_mb": 5}, **SLOW}
    limits = told(whole(judge(found, settings(**RATES, writing=writing))))[1]
    assert limits.writing_denied is Reason.DISK
    assert nothing_is(WRITES, limits)


# --- what is told of a round ---


def test_the_state_after_a_round() -> None:
    found = measures(
        Node(7, (1, 2), memory_bytes=100, used_bytes=99, tick_delay_s=1.5),
        Node(8, (3,), memory_bytes=100, used_bytes=90),
        query_nodes=(QueryNode(9, (3,), tick_delay_s=0.5),),
        sizes={4: 7 * MIB},
    )
    state = whole(
        QuotaState.of(whole(judge(found, settings(writing={"disk": {"quota_per_collection_mb": 7}}))))
    )
    assert state.denied == {Reason.MEMORY: 2, Reason.DISK: 1}
    assert state.slowed == pytest.approx({1: 1, 2: 1, 3: 0.5})
    assert state.tick_delays_s == {("datanode", 7): 1.5, ("querynode", 9): 0.5}


def test_force_and_a_full_disk_are_counted_by_the_collections_they_concern() -> None:
    found = measures(Node(7, (1, 2, 3)), total=9, sizes={})
    sections = {"force_deny": True, "disk": {"quota_mb": 9 / MIB}}
    assert whole(QuotaState.of(whole(judge(found, settings(writing=sections))))).denied == {
        Reason.FORCE_DENY: 3,
        Reason.DISK: 3,
    }


def test_changes_are_told_once() -> None:
    full = whole(QuotaState.of(whole(judge(measures(Node(7, (1,), 100, 99)), settings()))))
    fine = whole(QuotaState.of(whole(judge(measures(Node(7, (1,), 100, 9)), settings()))))
    assert list(changes(None, fine)) == list(changes(full, full)) == []
    begun = [{"because_of": "MEMORY", "collections": 1}]
    assert list(changes(None, full)) == list(changes(fine, full)) == begun
    assert list(changes(full, fine)) == [{"because_of": "MEMORY", "collections": 0}]


# --- whatever the figures are ---

IDS = st.lists(st.integers(1, 4), max_size=3, unique=True).map(tuple)
AMOUNTS = st.integers(0, 1000)
DELAYS = st.none() | st.floats(0, 1e6)
DATA_NODES = st.builds(Node, st.integers(1, 9), IDS, AMOUNTS, AMOUNTS, DELAYS)
QUERY_NODES = st.builds(
    QueryNode, st.integers(1, 9), IDS, AMOUNTS, AMOUNTS, DELAYS, AMOUNTS, AMOUNTS, st.floats(0, 100)
)
LOADS = st.builds(ProxyLoad, *[st.floats(0, 1e9)] * 3)
SIZES = st.none() | st.dictionaries(st.integers(1, 6), st.integers(0, 10 * MIB), max_size=4)
MEASURES = st.builds(
    Measures,
    st.builds(DataSide, st.lists(DATA_NODES, max_size=3).map(tuple), st.integers(0, 20 * MIB), SIZES),
    st.lists(QUERY_NODES, max_size=3).map(tuple),
    st.lists(LOADS, max_size=2).map(tuple),
)
RATE = st.floats(-1, 10)
SHARE = st.floats(-0.5, 1.5)
SWITCH = st.booleans()
BYTE_RATE = st.fixed_dictionaries(
    {"max_mb_s": RATE, "collection_max_mb_s": RATE, "collection_min_mb_s": RATE}
)
CALL_RATE = st.fixed_dictionaries(
    {"max_rate": RATE, "collection_max_rate": RATE, "collection_min_rate": RATE}
)
SETTINGS = st.fixed_dictionaries(
    {
        "dml": st.fixed_dictionaries({"enabled": SWITCH, "insert": BYTE_RATE, "delete": BYTE_RATE}),
        "dql": st.fixed_dictionaries({"enabled": SWITCH, "search": CALL_RATE, "query": CALL_RATE}),
        "writing": st.fixed_dictionaries(
            {
                "force_deny": SWITCH,
                "ticks": st.fixed_dictionaries({"enabled": SWITCH, "max_delay_s": RATE}),
                "memory": st.fixed_dictionaries(
                    {
                        "enabled": SWITCH,
                        "data_node": st.fixed_dictionaries({"low": SHARE}),
                        "query_node": st.fixed_dictionaries({"high": SHARE}),
                    }
                ),
                "growing": st.fixed_dictionaries({"enabled": SWITCH, "low": SHARE, "high": SHARE}),
                "disk": st.fixed_dictionaries({"quota_mb": RATE, "quota_per_collection_mb": RATE}),
            }
        ),
        "reading": st.fixed_dictionaries(
            {
                "force_deny": SWITCH,
                "queue": st.fixed_dictionaries({"enabled": SWITCH, "nq": st.integers(-1, 900)}),
                "result": st.fixed_dictionaries({"enabled": SWITCH, "max_mb_s": RATE}),
            }
        ),
    }
)
PROPERTIES = st.dictionaries(
    st.sampled_from(
        ["collection.insertRate.max.mb", "collection.insertRate.min.mb", "collection.searchRate.max.vps"]
    ),
    RATE.map(str),
)


@given(MEASURES, SETTINGS, st.dictionaries(st.integers(1, 6), PROPERTIES, max_size=2))
def test_rules_that_always_hold(
    found: Measures, sections: dict[str, Any], properties: Mapping[int, Mapping[str, str]]
) -> None:
    given_ = settings(**sections)
    own = {one: ceilings(given_, said) for one, said in properties.items()}
    judgement = whole(judge(found, given_, own))
    candidates, served = list(judgement.collections()), whole(found.collections())
    assert len(set(candidates)) == len(candidates)
    for one in range(1, 7):
        limits = judgement.of(one)
        ranges = own.get(one, judgement.usual).rates
        for kind, rate in limits.rates.items():
            denied = limits.writing_denied if kind in WRITES else limits.reading_denied
            assert (rate == 0) if denied is not None else (ranges[kind].least <= rate <= ranges[kind].most)
            if ranges[kind].most == UNLIMITED:
                assert denied is not None or rate == UNLIMITED
        # Nobody is forgotten: who has a limit and a node that works for it, or is full, is told of.
        if limits.limited and one in served | set(judgement.full.collections):
            assert one in candidates
    assert set(candidates) <= served | set(judgement.full.collections)
    by_kind: dict[Any, CollectionLimits] = {}
    for one in range(1, 7):
        assert by_kind.setdefault(judgement.alike(one), judgement.of(one)) == judgement.of(one)
    whole(QuotaState.of(judgement))


@given(st.floats(0, 1e5), st.floats(0, 1e5))
def test_the_later_the_ticks_the_slower(one: float, other: float) -> None:
    def rate(delay_s: float) -> float:
        return (
            whole(judge(measures(late(delay_s, 1)), settings(**RATES, writing=SLOW))).of(1).rates[Kind.UPSERT]
        )

    assert (rate(one) <= rate(other)) == (min(one, 10) >= min(other, 10)) or math.isclose(
        rate(one), rate(other)
    )


class Seen(tuple[int, ...]):
    """Collections of a node; counts how many were looked at, of all nodes."""

    looks: ClassVar[list[int]] = []

    def __iter__(self) -> Iterator[int]:
        for one in super().__iter__():
            self.looks.append(one)
            yield one


def test_of_many_collections_few_are_looked_at_without_a_pause() -> None:
    ids = Seen(range(5 * AT_ONCE))
    found = measures(
        Node(7, ids, 100, 99, 8.0),
        query_nodes=(QueryNode(9, ids, 100, 99, 9.0, queued=600),),
        sizes=dict.fromkeys(ids, 7 * MIB),
    )
    sections = {"ticks": {"enabled": True, "max_delay_s": 10}, "disk": {"quota_per_collection_mb": 7}}
    work = judge(found, settings(writing=sections, reading={"queue": {"enabled": True, "nq": 10}}))
    Seen.looks.clear()
    most, pauses = 0, 0
    while True:
        before = len(Seen.looks)
        try:
            next(work)
        except StopIteration as end:
            judgement: Judgement = end.value
            break
        pauses += 1
        most = max(most, len(Seen.looks) - before)
    assert most == AT_ONCE
    assert pauses == 5 * (2 + 4 + 1 + 1), "served, brakes, full disks, queues"
    assert len(list(judgement.collections())) == 5 * AT_ONCE
    pauses = sum(1 for _ in QuotaState.of(judgement))
    assert pauses == 5, "brakes; of full disks the number is enough"
