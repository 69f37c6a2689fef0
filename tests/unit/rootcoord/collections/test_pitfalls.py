"""Faults of Milvus 2.3.5's RootCoord that the plans do not have.

Numbered as in the list of known faults. Not here, because no plan has to do with it: 12 (a look-up at a past
time without a database), 14 (DropRole), 15 (the collection of old snapshots).
"""

import pytest

from coordd.meta.codecs import TOMBSTONE
from coordd.pb.schema_pb2 import DataType, ValueField
from coordd.rootcoord.collections import (
    existing,
    plan_alter,
    plan_create_alias,
    plan_create_partition,
    plan_drop,
    plan_drop_alias,
    plan_finish_partition,
    plan_purge,
    plan_rename,
    unfinished,
)
from coordd.rootcoord.databases import plan_drop as plan_drop_database
from tests.unit.meta.samples import (
    CREATING,
    DROPPING,
    LAYOUT,
    alias_value,
    collection,
    database,
    partition_value,
)
from tests.unit.rootcoord.collections.support import Place, a_field, create_request, pairs, request


def drop(place: Place, name: str) -> None:
    wanted = request("DropCollection", collection_name=name)
    place.commit(plan_drop(place.tables, LAYOUT, wanted, place.timestamp()).writes)


def test_pitfall_8_altered_properties_survive_a_restart() -> None:
    place = Place.holding(collection(50, "a"))
    wanted = request(
        "AlterCollection", collection_name="a", properties=pairs({"collection.ttl.seconds": "9"})
    )
    place.commit(plan_alter(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    view = place.reloaded().collections.view(50)
    assert view is not None
    assert [(pair.key, pair.value) for pair in view.info.properties] == [("collection.ttl.seconds", "9")]
    key = LAYOUT.collection(1, 50)
    assert list(place.history(key).values()) == [place.live()[key]]


def test_pitfall_9_keys_that_start_alike_stay() -> None:
    """Dropping alias `a` deletes `ab` in Milvus, and what belongs to collection 5 includes that of 50."""
    others = {
        LAYOUT.alias(1, "ab"): alias_value("ab", 50),
        LAYOUT.alias(0, "a"): alias_value("a", 50, db_id=0),
        **collection(50, "b", partitions={60: "_default"}),
    }
    place = Place.holding(
        others,
        collection(5, "a", state=DROPPING, partitions={6: "_default"}),
        {LAYOUT.alias(7, "a"): alias_value("a", 5, db_id=7)},
        {LAYOUT.alias(1, "dead"): alias_value("dead", 5)},
    )
    wanted = request("DropAlias", alias="a", db_name="music")
    place.commit(plan_drop_alias(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    place.commit_all(plan_purge(place.tables, LAYOUT, 5, place.timestamp()))
    assert {key: value for key, value in place.live().items() if "db-info" not in key} == others
    place.check()


@pytest.mark.parametrize(
    "value", [ValueField(float_data=1.5), ValueField(float_data=0), ValueField(float_data=float("nan"))]
)
def test_pitfall_10_default_values_are_compared_by_value(value: ValueField) -> None:
    place = Place.holding()
    wanted = create_request(fields=[a_field("f", DataType.Float, default_value=value)])
    made = place.create(wanted)
    assert existing(place.tables, place.define(wanted)) == made
    assert existing(place.reloaded(), place.define(wanted)) == made


def test_pitfall_11_aliases_of_a_dropped_collection_can_be_reused_at_once() -> None:
    aliases = {LAYOUT.alias(1, "x"): alias_value("x", 50), LAYOUT.alias(1, "y"): alias_value("y", 50)}
    place = Place.holding(collection(50, "a"), collection(60, "b"), aliases)
    drop(place, "a")
    wanted = request("CreateAlias", alias="x", collection_name="b")
    place.commit(plan_create_alias(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    made = place.create(create_request("y"))
    row = place.tables.resolve(1, "y")
    assert row is not None
    assert row.collection_id == made
    place.commit_all(plan_purge(place.tables, LAYOUT, 50, place.timestamp()))
    for tables in (place.tables, place.reloaded()):
        assert [(alias.name, alias.collection_id) for alias in tables.aliases] == [("x", 60)]
        row = tables.resolve(1, "y")
        assert row is not None
        assert row.collection_id == made
    place.check()


def test_pitfall_11_a_renamed_collection_is_not_hidden_by_a_dead_alias() -> None:
    place = Place.holding(
        collection(50, "a"), collection(60, "b"), {LAYOUT.alias(1, "x"): alias_value("x", 50)}
    )
    drop(place, "a")
    wanted = request("RenameCollection", oldName="b", newName="x")
    place.commit(plan_rename(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    row = place.tables.resolve(1, "x")
    assert row is not None
    assert row.collection_id == 60
    place.check()


@pytest.mark.parametrize("state", [CREATING, DROPPING])
def test_pitfall_13_unfinished_partitions_outlive_alter_and_rename(state: int) -> None:
    place = Place.holding(
        collection(50, "a"), {LAYOUT.partition(50, 60): partition_value(50, 60, "p", state)}
    )
    before = place.view(50).partitions
    assert [partition.state for partition in before] == [0, state]
    alter = request("AlterCollection", collection_name="a", properties=pairs({"k": "v"}))
    place.commit(plan_alter(place.tables, LAYOUT, alter, place.timestamp()).writes)
    rename = request("RenameCollection", oldName="a", newName="b", newDBName="music")
    place.commit(plan_rename(place.tables, LAYOUT, rename, place.timestamp()).writes)
    assert place.view(50).partitions == before
    found = unfinished(place.reloaded())
    assert (found.creating_partitions or found.dropping_partitions) == ((50, 60),)
    place.check()


def test_pitfall_19_a_dropped_collection_is_purged_though_its_database_is_gone() -> None:
    place = Place.holding(database(9, "gone"), collection(50, "a", db_id=9))
    wanted = request("DropCollection", collection_name="a", db_name="gone")
    place.commit(plan_drop(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    place.commit(plan_drop_database(place.tables, LAYOUT, "gone", place.stamp()))
    tables = place.reloaded()
    assert tables.databases.get(9) is None
    assert unfinished(tables).dropping == (50,)
    place.commit_all(plan_purge(tables, LAYOUT, 50, place.timestamp()))
    assert not [key for key in place.live() if "/50" in key]
    kv = place.etcd.at(LAYOUT.collection(9, 50))
    assert kv is not None
    assert kv.value == TOMBSTONE
    place.check()


def test_pitfall_19_a_created_partition_counts_once() -> None:
    place = Place.holding(collection(50, "a"))
    assert place.tables.collections.partition_count == 1
    wanted = request("CreatePartition", collection_name="a", partition_name="p")
    change = plan_create_partition(place.tables, LAYOUT, wanted, place.stamp(), limit=9)
    place.commit(change.writes)
    assert place.tables.collections.partition_count == 1
    place.commit(plan_finish_partition(place.tables, LAYOUT, 50, change.partition_id))
    assert place.tables.collections.partition_count == 2
