"""The limits of a collection by settings and properties, worked out by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.quota.ceilings import PROPERTIES, Ceilings, Kind, Range, ceilings
from tests.unit.rootcoord.quota.support import MIB, settings

NO_LIMIT = Range()


def dml(**rates: Any) -> Any:
    return settings(dml={"enabled": True, **rates})


def test_the_defaults_limit_nothing() -> None:
    found = ceilings(settings())
    assert not found.limited
    assert found == Ceilings(dict.fromkeys(found.rates, NO_LIMIT), math.inf)
    assert set(found.rates) == set(Kind)


def test_rates_of_writing_are_in_mebibytes() -> None:
    found = ceilings(dml(insert={"collection_max_mb_s": 2, "collection_min_mb_s": 0.5}))
    assert found.rates[Kind.INSERT] == Range(2 * MIB, MIB / 2)
    assert found.rates[Kind.UPSERT] == NO_LIMIT
    assert found.limited


def test_rates_of_reading_are_not() -> None:
    found = ceilings(
        settings(dql={"enabled": True, "search": {"collection_max_rate": 7}, "query": {"max_rate": 5}})
    )
    assert (found.rates[Kind.SEARCH], found.rates[Kind.QUERY]) == (Range(7), Range(5))


def test_without_a_limit_for_each_collection_that_of_all_holds_for_each() -> None:
    rates = {"max_mb_s": 3, "collection_max_mb_s": -1}
    found = ceilings(dml(insert=rates, bulk_load=rates, delete={"max_mb_s": 3, "collection_max_mb_s": 0}))
    assert found.rates[Kind.INSERT] == found.rates[Kind.BULK_LOAD] == Range(3 * MIB)
    assert found.rates[Kind.DELETE] == Range(0)


def test_rates_that_are_not_enabled_do_not_count() -> None:
    rates = {"insert": {"collection_max_mb_s": 2, "collection_min_mb_s": 1}}
    assert not ceilings(settings(dml={"enabled": False, **rates})).limited
    assert not ceilings(settings(dql={"enabled": False, "search": {"max_rate": 1}})).limited


@pytest.mark.parametrize("least", [-1, 3])
def test_a_least_rate_that_cannot_be_is_none(least: float) -> None:
    found = ceilings(dml(insert={"collection_max_mb_s": 2, "collection_min_mb_s": least}))
    assert found.rates[Kind.INSERT] == Range(2 * MIB, 0)


def test_properties_come_first_and_count_in_any_case() -> None:
    properties = {
        "collection.insertRate.max.mb": "4",
        "collection.insertRate.min.mb": "1.5",
        "collection.upsertRate.max.mb": "5",
        "collection.deleteRate.max.mb": "6",
        "collection.bulkLoadRate.max.mb": "7",
        "collection.searchRate.max.vps": "8",
        "collection.queryRate.max.qps": "9",
        "collection.queryRate.min.qps": "2",
        "collection.diskProtection.diskQuota.mb": "10",
        "collection.ttl.seconds": "11",
    }
    expected = Ceilings(
        {
            Kind.INSERT: Range(4 * MIB, 1.5 * MIB),
            Kind.UPSERT: Range(5 * MIB),
            Kind.DELETE: Range(6 * MIB),
            Kind.BULK_LOAD: Range(7 * MIB),
            Kind.SEARCH: Range(8),
            Kind.QUERY: Range(9, 2),
        },
        10 * MIB,
    )
    assert ceilings(settings(), properties) == expected
    assert ceilings(dml(insert={"collection_max_mb_s": 2}), properties) == expected


@pytest.mark.parametrize("text", ["-1", "", "much", "1_0", " 5", "nan", "0x"])
def test_a_property_that_is_no_rate_is_as_if_absent(text: str) -> None:
    found = ceilings(
        dml(insert={"collection_max_mb_s": 2}),
        {"collection.insertRate.max.mb": text, "collection.diskProtection.diskQuota.mb": text},
    )
    assert (found.rates[Kind.INSERT], found.disk_bytes) == (Range(2 * MIB), math.inf)


def test_quotas_of_the_disk() -> None:
    def quota(total: float, each: float, **properties: str) -> float:
        disk = {"quota_mb": total, "quota_per_collection_mb": each}
        return ceilings(settings(writing={"disk": disk}), properties).disk_bytes

    assert quota(-1, -1) == math.inf
    assert quota(-1, 3) == 3 * MIB
    assert quota(5, -1) == quota(5, 0) == 5 * MIB
    assert quota(5, 3, **{"collection.diskProtection.diskQuota.mb": "0"}) == 0


@given(
    st.dictionaries(st.sampled_from(sorted(PROPERTIES)), st.text(max_size=8) | st.floats().map(str)),
    st.floats(-2, 9),
)
def test_whatever_is_said_a_range_is_a_range(properties: dict[str, str], most: float) -> None:
    found = ceilings(dml(insert={"collection_max_mb_s": most, "collection_min_mb_s": 2}), properties)
    assert all(0 <= one.least <= one.most for one in found.rates.values())
    assert found.disk_bytes >= 0
