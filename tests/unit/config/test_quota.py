"""`quotaAndLimits`: values outside their range, and the levels that follow from two settings."""

import pytest

from coordd.config import Settings
from coordd.config.quota import QuotaAndLimitsSettings, WaterLevels
from coordd.config.schema import SCHEMA
from tests.unit.config.support import Directory


def read(directory: Directory, key: str, value: str) -> QuotaAndLimitsSettings:
    return directory.load("", etcd={f"quotaAndLimits.{key}": value}).settings.quota_and_limits


def test_the_same_names_at_several_places_are_several_settings(directory: Directory) -> None:
    text = """
        quotaAndLimits:
          dml:
            insertRate: {max: 1, collection: {max: 2, min: 3}}
            deleteRate: {max: 4, collection: {max: 5}}
            bulkLoadRate: {collection: {max: 6}}
          dql:
            searchRate: {max: 7, collection: {min: 8}}
            queryRate: {collection: {max: 9}}
    """
    settings = directory.load(text).settings.quota_and_limits
    insert, delete = settings.dml.insert, settings.dml.delete
    assert (insert.max_mb_s, insert.collection_max_mb_s, insert.collection_min_mb_s) == (1, 2, 3)
    assert (delete.max_mb_s, delete.collection_max_mb_s, delete.collection_min_mb_s) == (4, 5, 0)
    assert settings.dml.upsert == Settings().quota_and_limits.dml.upsert
    assert settings.dml.bulk_load.collection_max_mb_s == 6
    search, query = settings.dql.search, settings.dql.query
    assert (search.max_rate, search.collection_max_rate, search.collection_min_rate) == (7, -1, 8)
    assert (query.max_rate, query.collection_max_rate, query.collection_min_rate) == (-1, 9, 0)


@pytest.mark.parametrize(
    ("value", "seconds"), [("0.5", 0.5), ("0", 3), ("-1", 3), ("65535", 65535), ("65536", 3)]
)
def test_an_interval_outside_its_range_is_the_default(
    directory: Directory, value: str, seconds: float
) -> None:
    assert read(directory, "quotaCenterCollectInterval", value).collect_interval_s == seconds


@pytest.mark.parametrize(("value", "seconds"), [("10", 10), ("0", 300), ("65536", 300)])
def test_so_is_a_delay_of_ticks(directory: Directory, value: str, seconds: float) -> None:
    settings = read(directory, "limitWriting.ttProtection.maxTimeTickDelay", value)
    assert settings.writing.ticks.max_delay_s == seconds


@pytest.mark.parametrize(
    ("value", "speed"), [("0.5", 0.5), ("1", 1), ("0", 0.9), ("-0.1", 0.9), ("1.1", 0.9)]
)
def test_so_is_a_share(directory: Directory, value: str, speed: float) -> None:
    assert read(directory, "limitReading.coolOffSpeed", value).reading.cool_off_speed == speed


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        ("0.5", "0.7", WaterLevels(0.5, 0.7)),
        ("0.7", "0.7", WaterLevels(0.7, 0.7)),
        ("0.7", "0.5", WaterLevels(0.7, 0.95)),  # below the low one: the default
        ("0.97", "0.5", WaterLevels(0.97, 0.97)),  # which is below the low one, too
        ("0", "1.5", WaterLevels(0.85, 0.95)),
    ],
)
def test_levels_of_memory(directory: Directory, low: str, high: str, levels: WaterLevels) -> None:
    path = "quotaAndLimits.limitWriting.memProtection."
    values = {f"{path}queryNodeMemoryLowWaterLevel": low, f"{path}queryNodeMemoryHighWaterLevel": high}
    settings = directory.load("", etcd=values).settings.quota_and_limits.writing
    assert settings.memory.query_node.levels == levels
    assert settings.memory.data_node.levels == WaterLevels(0.85, 0.95)
    assert settings.growing.levels == WaterLevels(0.2, 0.4)


def test_what_is_left_between_two_levels() -> None:
    levels = WaterLevels(0.5, 0.75)
    assert [levels.left(level) for level in (0, 0.5, 0.5625, 0.625, 0.75, 2)] == [1, 1, 0.75, 0.5, 0, 0]
    assert [WaterLevels(0.5, 0.5).left(level) for level in (0.5, 0.6)] == [1, 0]


def test_all_of_it_takes_effect_at_once() -> None:
    of_quota = [setting for setting in SCHEMA if setting.path.startswith("quotaAndLimits.")]
    assert len(of_quota) > 40
    assert all(setting.live for setting in of_quota)
