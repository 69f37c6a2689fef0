"""Aliases made, dropped, altered. Texts were recorded from Milvus 2.3.5."""

import pytest

from coordd.etcd import Put
from coordd.pb import etcd_meta_pb2
from coordd.rootcoord.collections import plan_alter_alias, plan_create_alias, plan_drop_alias
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import (
    CREATING,
    DROPPING,
    LAYOUT,
    alias_value,
    collection,
    collection_value,
    oldest_alias_value,
)
from tests.unit.rootcoord.collections.support import Place, request

PLANS = {"CreateAlias": plan_create_alias, "AlterAlias": plan_alter_alias}


def put(place: Place, method: str, alias: str, name: str, db_name: str = "") -> tuple[str, ...]:
    """CreateAlias or AlterAlias; returns what proxies are to forget."""
    wanted = request(method, alias=alias, collection_name=name, db_name=db_name)
    change = PLANS[method](place.tables, LAYOUT, wanted, place.timestamp())
    place.commit(change.writes)
    assert (change.db_name, change.collection_id) == (db_name or "default", 0)
    return change.names


def drop(place: Place, alias: str, db_name: str = "") -> None:
    wanted = request("DropAlias", alias=alias, db_name=db_name)
    change = plan_drop_alias(place.tables, LAYOUT, wanted, place.timestamp())
    place.commit(change.writes)
    assert (change.db_name, change.names) == (db_name or "default", (alias,))


def target(place: Place, alias: str, db_id: int = 1) -> int | None:
    found = place.tables.aliases.get(db_id, alias)
    return None if found is None else found.collection_id


def refusal(place: Place, method: str, alias: str, name: str, db_name: str = "") -> tuple[int, str]:
    with pytest.raises(MilvusError) as caught:
        put(place, method, alias, name, db_name)
    status = caught.value.to_status()
    assert status.reason == status.detail
    return status.code, status.reason


def full() -> Place:
    return Place.holding(
        collection(50, "a"),
        collection(60, "b"),
        collection(70, "making", state=CREATING),
        collection(80, "dying", state=DROPPING),
        collection(90, "m", db_id=7),
        {LAYOUT.alias(1, "x"): alias_value("x", 50)},
    )


def test_it_comes_leads_elsewhere_and_goes() -> None:
    place = full()
    assert put(place, "CreateAlias", "y", "a") == ("y", "a")
    ts = place.clock << 18
    key = LAYOUT.alias(1, "y")
    value = etcd_meta_pb2.AliasInfo(
        alias_name="y", collection_id=50, created_time=ts, db_id=1
    ).SerializeToString()
    assert place.transactions[-1] == (Put(key, value), Put(LAYOUT.snapshot(key, ts), value))
    assert put(place, "AlterAlias", "y", "b") == ("y",)
    assert target(place, "y") == 60
    place.check()
    drop(place, "y")
    assert target(place, "y") is None
    place.check()
    count = len(place.transactions)
    drop(place, "y")
    assert len(place.transactions) == count


def test_databases_are_apart() -> None:
    place = full()
    put(place, "CreateAlias", "x", "m", "music")
    assert (target(place, "x"), target(place, "x", 7)) == (50, 90)
    drop(place, "x", "music")
    assert (target(place, "x"), target(place, "x", 7)) == (50, None)
    place.check()


def test_the_same_again_needs_no_write() -> None:
    place = full()
    put(place, "CreateAlias", "x", "a")
    assert not place.transactions


def test_altering_to_the_same_is_written_again() -> None:
    place = full()
    put(place, "AlterAlias", "x", "a")
    assert len(place.transactions) == 1


def test_refusals_of_create() -> None:
    place = full()
    assert refusal(place, "CreateAlias", "y", "a", "no") == (800, "database not found[database=no]")
    for name in ("b", "making"):
        text = f"alias and collection name conflict[database=default][alias={name}]"
        assert refusal(place, "CreateAlias", name, "a") == (1601, text)
    for name in ("no", "x", "making", "dying"):
        text = f"collection not found[database=default][collection={name}]"
        assert refusal(place, "CreateAlias", "y", name) == (100, text)
    text = "x is alias to another collection: a: alias already exist[database=default][alias=x]"
    assert refusal(place, "CreateAlias", "x", "b") == (1602, text)
    assert refusal(place, "CreateAlias", "x", "dying") == (1602, text)
    assert refusal(place, "CreateAlias", "x", "no")[0] == 100


def test_refusals_of_alter() -> None:
    place = full()
    assert refusal(place, "AlterAlias", "x", "a", "no") == (800, "database not found[database=no]")
    text = "alias and collection name conflict[database=default][alias=b]"
    assert refusal(place, "AlterAlias", "b", "no") == (1601, text)
    for name in ("no", "x", "making", "dying"):
        assert refusal(place, "AlterAlias", "x", name) == (100, f"collection not found[collection={name}]")
    text = "alias not found[database=default][alias=y]"
    assert refusal(place, "AlterAlias", "y", "a") == (1600, text)


def test_refusals_of_drop() -> None:
    with pytest.raises(MilvusError, match=r"^database:no not found$"):
        drop(full(), "x", "no")


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("", "collection alias should not be empty: invalid parameter"),
        (
            "a//b",
            "Invalid collection alias: a//b.  collection alias can only contain numbers, letters and"
            " underscores: invalid parameter",
        ),
    ],
)
def test_names_that_no_key_can_carry(alias: str, text: str) -> None:
    place = full()
    assert refusal(place, "CreateAlias", alias, "a") == (1100, text)
    assert refusal(place, "AlterAlias", alias, "a")[0] == 1600
    drop(place, alias)
    assert not place.transactions


def test_the_name_of_a_dropped_collection_can_be_an_alias() -> None:
    place = full()
    put(place, "CreateAlias", "dying", "a")
    assert target(place, "dying") == 50
    place.check()


class TestOldForms:
    def test_a_write_replaces_them(self) -> None:
        place = Place.holding(
            collection(50, "a"),
            collection(60, "b"),
            {
                LAYOUT.oldest_alias("x"): oldest_alias_value("x", 50),
                LAYOUT.alias(0, "x"): alias_value("x", 50, db_id=0),
                LAYOUT.alias(0, "x2"): alias_value("x2", 50, db_id=0),
            },
        )
        put(place, "AlterAlias", "x", "b")
        assert place.tables.aliases.keys_of(1, "x") == (LAYOUT.alias(1, "x"),)
        assert (target(place, "x"), target(place, "x2")) == (60, 50)
        place.check()

    def test_a_drop_takes_all(self) -> None:
        place = Place.holding(
            collection(50, "a"),
            {
                LAYOUT.oldest_alias("x"): oldest_alias_value("x", 50),
                LAYOUT.alias(0, "x"): alias_value("x", 50, db_id=0),
                LAYOUT.alias(1, "x"): alias_value("x", 50),
            },
        )
        drop(place, "x")
        assert place.tables.aliases.keys_of(1, "x") == ()
        assert place.reloaded().aliases.get(1, "x") is None
        place.check()

    def test_an_old_collection_gets_an_old_key(self) -> None:
        place = Place.holding({LAYOUT.collection(0, 50): collection_value(50, "old", db_id=0)})
        put(place, "CreateAlias", "x", "old")
        assert place.tables.aliases.keys_of(1, "x") == (LAYOUT.alias(0, "x"),)
        kv = place.etcd.at(LAYOUT.alias(0, "x"))
        assert kv is not None
        assert etcd_meta_pb2.AliasInfo.FromString(kv.value).db_id == 0
        drop(place, "x")
        put(place, "CreateAlias", "x", "old")
        assert target(place, "x") == 50
        place.check()
