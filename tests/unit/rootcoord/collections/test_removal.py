"""Dropping collections, and what a new term finds unfinished."""

import pytest

from coordd.meta.codecs import TOMBSTONE
from coordd.rootcoord.collections import Unfinished, plan_drop, plan_purge, unfinished
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import (
    CREATING,
    DROPPING,
    LAYOUT,
    alias_value,
    collection,
    inline_collection_value,
    oldest_alias_value,
    partition_value,
)
from tests.unit.rootcoord.collections.support import BASE, Place, request


def drop(place: Place, name: str, db_name: str = "") -> tuple[int, tuple[str, ...]]:
    """Mark; returns ID and names that proxies are to forget."""
    wanted = request("DropCollection", collection_name=name, db_name=db_name)
    change = plan_drop(place.tables, LAYOUT, wanted, place.timestamp())
    place.commit(change.writes)
    assert change.db_name == (db_name or "default")
    return change.collection_id, change.names


def purge(place: Place, collection_id: int) -> int:
    """Returns the number of transactions."""
    steps = tuple(plan_purge(place.tables, LAYOUT, collection_id, place.timestamp()))
    place.commit_all(steps)
    return len(steps)


def test_marked_then_purged() -> None:
    place = Place.holding(
        collection(50, "a"),
        {LAYOUT.alias(1, "x"): alias_value("x", 50), LAYOUT.alias(1, "y"): alias_value("y", 50)},
    )
    assert drop(place, "a") == (50, ("x", "y", "a"))
    assert place.tables.resolve(1, "a") is None
    assert place.view(50).row.state == DROPPING
    place.check()
    assert purge(place, 50) == 1
    assert place.live() == BASE
    assert {
        key for write in place.transactions[-1] if (key := write.key).startswith(LAYOUT.root_coord_prefix)
    } == {
        *collection(50, "a"),
        LAYOUT.alias(1, "x"),
        LAYOUT.alias(1, "y"),
    }
    place.check()


def test_only_the_state_is_changed() -> None:
    place = Place.holding(collection(50, "a"))
    before = place.view(50).info
    drop(place, "a")
    after = place.view(50).info
    after.state = before.state
    assert after == before


def test_what_does_not_exist_is_dropped_already() -> None:
    place = Place.holding(collection(50, "making", state=CREATING), collection(60, "dying", state=DROPPING))
    for name in ("", "no", "making", "dying"):
        assert drop(place, name) == (0, (name,) if name else ()), "proxies forget the name all the same"
    assert drop(place, "making", "music") == (0, ("making",))
    assert drop(place, "making", "no_such_database") == (0, ("making",))
    assert not place.transactions


@pytest.mark.parametrize("db_name", ["", "default"])
def test_an_alias_is_refused(db_name: str) -> None:
    place = Place.holding(collection(50, "a"), {LAYOUT.alias(1, "x"): alias_value("x", 50)})
    with pytest.raises(MilvusError, match=r"^cannot drop the collection via alias = x$"):
        drop(place, "x", db_name)


def test_the_collections_own_key_goes_last() -> None:
    partitions = {100 + i: f"p{i}" for i in range(150)}
    place = Place.holding(collection(50, "a", state=DROPPING, partitions=partitions))
    steps = tuple(plan_purge(place.tables, LAYOUT, 50, place.timestamp()))
    assert len(steps) == 3
    assert steps[-1][-2].key == LAYOUT.collection(1, 50)
    for number, step in enumerate(steps):
        assert len(tuple(plan_purge(place.tables, LAYOUT, 50, place.timestamp()))) == len(steps) - number
        assert unfinished(place.tables).dropping == (50,)
        place.commit(step)
    assert unfinished(place.tables).dropping == ()
    assert place.live() == BASE
    place.check()


def test_all_forms_are_purged() -> None:
    """Legacy next to modern keys, parts that nobody reads, values that do not decode."""
    place = Place.holding(
        collection(50, "a", state=DROPPING),
        {
            LAYOUT.collection(0, 50): inline_collection_value(50, "a"),
            LAYOUT.field(50, 107): b"\xff",
            LAYOUT.alias(1, "x"): alias_value("x", 50),
            LAYOUT.alias(0, "x"): alias_value("x", 50, db_id=0),
            LAYOUT.oldest_alias("x"): oldest_alias_value("x", 50),
        },
    )
    purge(place, 50)
    assert place.live() == BASE
    assert place.tables.collections.damaged_keys(50) == frozenset()


def test_an_inline_collection() -> None:
    key = LAYOUT.collection(0, 50)
    junk = {LAYOUT.partition(50, 51): partition_value(50, 51, "_default")}
    place = Place.holding({key: inline_collection_value(50, "old")}, junk)
    assert drop(place, "old") == (50, ("old",))
    assert place.view(50).info.partitionNames == ["_default", "second"]
    assert len(place.view(50).fields) == 3
    purge(place, 50)
    assert place.live() == BASE
    kv = place.etcd.at(key)
    assert kv is not None
    assert kv.value == TOMBSTONE
    place.check()


def test_what_is_available_is_not_purged() -> None:
    place = Place.holding(collection(50, "a"))
    with pytest.raises(ValueError, match="not to be purged"):
        plan_purge(place.tables, LAYOUT, 50, place.timestamp())


def test_what_is_unfinished() -> None:
    place = Place.holding(
        collection(90, "fine", partitions={91: "_default"}),
        collection(80, "making", state=CREATING),
        collection(70, "dying", state=DROPPING, db_id=7),
        collection(60, "dying", state=DROPPING, db_id=12345),
        collection(50, "parts", partitions={51: "_default"}),
        {
            LAYOUT.partition(50, 53): partition_value(50, 53, "p", CREATING),
            LAYOUT.partition(50, 52): partition_value(50, 52, "q", DROPPING),
            LAYOUT.partition(50, 54): partition_value(50, 54, "p", CREATING),
            LAYOUT.partition(70, 73): partition_value(70, 73, "p", CREATING),
            LAYOUT.partition(40, 41): partition_value(40, 41, "of nothing", CREATING),
        },
    )
    expected = Unfinished(
        creating=(80,),
        dropping=(60, 70),
        creating_partitions=((50, 53), (50, 54)),
        dropping_partitions=((50, 52),),
    )
    assert unfinished(place.tables) == unfinished(place.reloaded()) == expected
