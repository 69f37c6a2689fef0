"""AlterCollection, AlterCollectionField and RenameCollection. Texts were recorded from Milvus 2.3.5."""

import pytest

from coordd.etcd import Put
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.tables import DamagedMetadata
from coordd.pb import etcd_meta_pb2
from coordd.rootcoord.collections import plan_alter, plan_alter_field, plan_rename
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import (
    CREATING,
    DROPPING,
    LAYOUT,
    alias_value,
    collection,
    collection_value,
    inline_collection_value,
)
from tests.unit.rootcoord.collections.support import Place, create_request, pairs, request


def alter(place: Place, name: str, db_name: str = "", **properties: str) -> tuple[int, str, tuple[str, ...]]:
    wanted = request("AlterCollection", collection_name=name, db_name=db_name, properties=pairs(properties))
    wanted.base.Clear()  # the type is not checked
    change = plan_alter(place.tables, LAYOUT, wanted, place.timestamp())
    place.commit(change.writes)
    return change.collection_id, change.db_name, change.names


def rename(
    place: Place, old: str, new: str, db_name: str = "", new_db: str = ""
) -> tuple[int, tuple[str, ...]]:
    wanted = request("RenameCollection", oldName=old, newName=new, db_name=db_name, newDBName=new_db)
    change = plan_rename(place.tables, LAYOUT, wanted, place.timestamp())
    place.commit(change.writes)
    assert change.db_name == (db_name or "default")
    return change.collection_id, change.names


def properties(place: Place, collection_id: int) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in place.view(collection_id).info.properties]


class TestAlter:
    def test_properties_are_merged(self) -> None:
        place = Place.holding()
        made = place.create(create_request(properties=pairs({"a": "1", "b": "2"})))
        assert alter(place, "books", b="3", c="4") == (made, "default", ("books",))
        assert properties(place, made) == [("a", "1"), ("b", "3"), ("c", "4")]
        place.check()

    def test_through_an_alias_the_collection_is_what_is_forgotten(self) -> None:
        place = Place.holding(
            collection(50, "a", db_id=7), {LAYOUT.alias(7, "x"): alias_value("x", 50, db_id=7)}
        )
        assert alter(place, "x", "music", k="v") == (50, "music", ("a",))

    def test_no_change_is_not_written(self) -> None:
        place = Place.holding()
        made = place.create(create_request(properties=pairs({"a": "1", "b": "2"})))
        count = len(place.transactions)
        assert alter(place, "books", a="1")[0] == made
        assert len(place.transactions) == count

    def test_an_old_collection_stays_where_and_what_it_is(self) -> None:
        place = Place.holding(
            {LAYOUT.collection(0, 50): inline_collection_value(50, "old")},
            {LAYOUT.collection(0, 60): collection_value(60, "older", db_id=0)},
        )
        for collection_id, name in ((50, "old"), (60, "older")):
            before = place.view(collection_id).info
            alter(place, name, k="v")
            after = place.view(collection_id).info
            assert place.tables.collections.keys_of(collection_id) == (LAYOUT.collection(0, collection_id),)
            assert properties(place, collection_id) == [("k", "v")]
            del after.properties[:]
            assert after == before
        place.check()

    @pytest.mark.parametrize(
        ("name", "given", "text"),
        [
            ("", {}, "alter collection failed, collection name does not exists"),
            ("no", {}, "only support alter collection properties, but collection properties is empty"),
        ],
    )
    def test_incomplete_requests(self, name: str, given: dict[str, str], text: str) -> None:
        with pytest.raises(MilvusError) as caught:
            alter(Place.holding(), name, **given)
        assert (caught.value.code, caught.value.message) == (65535, text)

    def test_what_is_not_there(self) -> None:
        place = Place.holding(
            collection(50, "making", state=CREATING), collection(60, "dying", state=DROPPING)
        )
        with pytest.raises(MilvusError) as caught:
            alter(place, "no", "music", k="v")
        status = caught.value.to_status()
        text = f"timestamp = {place.clock << 18}: collection not found[database=7][collection=no]"
        assert (status.code, status.reason, status.detail) == (100, text, text)
        for name in ("making", "dying"):
            with pytest.raises(MilvusError, match=rf"^{name}: collection not found\[collection=default\]$"):
                alter(place, name, k="v")
        with pytest.raises(MilvusError, match=r"^database:nowhere not found$") as caught:
            alter(place, "no", "nowhere", k="v")
        assert caught.value.code == 65535


class TestConsistencyLevel:
    """Set by a property in Milvus 2.5."""

    @pytest.mark.parametrize(
        ("value", "level"), [("Strong", 0), ("Session", 1), ("Customized", 4), ("0", 0), ("3", 3)]
    )
    def test_by_name_or_number(self, value: str, level: int) -> None:
        place = Place.holding()
        made = place.create(create_request(properties=pairs({"a": "1"}), consistency_level=2))
        alter(place, "books", consistency_level=value)
        assert place.view(made).info.consistency_level == level
        assert properties(place, made) == [("a", "1"), ("consistency_level", value)]
        place.check()

    @pytest.mark.parametrize("value", ["", "strong", "5", "-1", "00", "2.0"])
    def test_other_values_change_the_property_only(self, value: str) -> None:
        place = Place.holding()
        made = place.create(create_request(consistency_level=2))
        alter(place, "books", consistency_level=value)
        assert place.view(made).info.consistency_level == 2
        assert properties(place, made) == [("consistency_level", value)]

    def test_it_is_set_though_the_property_is_there(self) -> None:
        place = Place.holding()
        level = pairs({"consistency_level": "Strong"})
        made = place.create(create_request(properties=level, consistency_level=2))
        alter(place, "books", consistency_level="Strong")
        assert place.view(made).info.consistency_level == 0
        count = len(place.transactions)
        alter(place, "books", consistency_level="Strong")
        assert len(place.transactions) == count

    def test_it_stays_when_the_property_is_deleted(self) -> None:
        place = Place.holding()
        made = place.create(create_request(consistency_level=2))
        alter(place, "books", consistency_level="Session")
        wanted = request("AlterCollection", collection_name="books", delete_keys=["consistency_level"])
        place.commit(plan_alter(place.tables, LAYOUT, wanted, place.timestamp()).writes)
        assert place.view(made).info.consistency_level == 1
        assert properties(place, made) == []


class TestDeleteKeys:
    """Of Milvus 2.5."""

    def delete(self, place: Place, name: str, *keys: str) -> int:
        wanted = request("AlterCollection", collection_name=name, delete_keys=keys)
        change = plan_alter(place.tables, LAYOUT, wanted, place.timestamp())
        place.commit(change.writes)
        return change.collection_id

    def test_they_go_and_the_others_stay(self) -> None:
        place = Place.holding()
        made = place.create(create_request(properties=pairs({"a": "1", "b": "2", "c": "3"})))
        assert self.delete(place, "books", "b", "z") == made
        assert properties(place, made) == [("a", "1"), ("c", "3")]
        count = len(place.transactions)
        assert self.delete(place, "books", "b") == made
        assert len(place.transactions) == count, "there is nothing to delete"
        assert self.delete(place, "books", "a", "c") == made
        assert properties(place, made) == []
        place.check()

    def test_not_together_with_properties(self) -> None:
        wanted = request(
            "AlterCollection", collection_name="a", properties=pairs({"k": "v"}), delete_keys=["l"]
        )
        place = Place.holding(collection(50, "a"))
        with pytest.raises(MilvusError) as caught:
            plan_alter(place.tables, LAYOUT, wanted, place.timestamp())
        assert caught.value.message == "can not provide properties and deletekeys at the same time"


class TestAlterField:
    """Of Milvus 2.5."""

    def alter(
        self, place: Place, name: str, field: str, given: dict[str, str] | None = None, *gone: str
    ) -> tuple[int, str, tuple[str, ...]]:
        wanted = request(
            "AlterCollectionField",
            collection_name=name,
            field_name=field,
            properties=pairs(given or {}),
            delete_keys=gone,
        )
        change = plan_alter_field(place.tables, LAYOUT, wanted, place.timestamp())
        place.commit(change.writes)
        return change.collection_id, change.db_name, change.names

    def params(self, place: Place, collection_id: int, field: str) -> list[tuple[str, str]]:
        (found,) = (one for one in place.view(collection_id).fields if one.name == field)
        return [(pair.key, pair.value) for pair in found.type_params]

    def test_set_and_deleted(self) -> None:
        place = Place.holding()
        made = place.create(create_request())
        before = place.view(made)
        assert self.alter(place, "books", "vector", {"mmap.enabled": "true"}) == (made, "default", ("books",))
        assert self.params(place, made, "vector") == [("dim", "8"), ("mmap.enabled", "true")]
        self.alter(place, "books", "vector", {"mmap.enabled": "false", "x": "y"}, "x", "nothing")
        assert self.params(place, made, "vector") == [("dim", "8"), ("mmap.enabled", "false")]
        self.alter(place, "books", "vector", None, "mmap.enabled")
        after = place.view(made)
        assert (after.fields, after.info, after.partitions) == (before.fields, before.info, before.partitions)
        place.check()

    def test_no_change_is_not_written(self) -> None:
        place = Place.holding()
        made = place.create(create_request())
        count = len(place.transactions)
        assert self.alter(place, "books", "vector", {"dim": "8"}, "nothing")[0] == made
        assert len(place.transactions) == count

    def test_through_an_alias(self) -> None:
        place = Place.holding(collection(50, "a"), {LAYOUT.alias(1, "x"): alias_value("x", 50)})
        assert self.alter(place, "x", "id", {"k": "v"}) == (50, "default", ("a",))
        assert self.params(place, 50, "id") == [("k", "v")]

    def test_of_an_old_collection_lies_in_the_collections_key(self) -> None:
        place = Place.holding({LAYOUT.collection(0, 50): inline_collection_value(50, "old")})
        assert self.alter(place, "old", "id", {"k": "v"})[0] == 50
        assert self.params(place, 50, "id") == [("k", "v")]
        assert [partition.name for partition in place.view(50).partitions] == ["_default", "second"]
        assert place.tables.collections.part_keys(50) == ()
        place.check()

    @pytest.mark.parametrize(
        ("name", "field", "given", "text"),
        [
            ("", "id", {"k": "v"}, "alter collection field failed, collection name does not exists"),
            ("a", "", {"k": "v"}, "alter collection field failed, filed name does not exists"),
            (
                *("a", "id", {}),
                "The field properties to alter and keys to delete must not be empty at the same time",
            ),
        ],
    )
    def test_incomplete_requests(self, name: str, field: str, given: dict[str, str], text: str) -> None:
        with pytest.raises(MilvusError) as caught:
            self.alter(Place.holding(collection(50, "a")), name, field, given)
        assert (caught.value.code, caught.value.message) == (65535, text)

    def test_what_is_not_there(self) -> None:
        place = Place.holding(collection(50, "a"))
        with pytest.raises(MilvusError) as caught:
            self.alter(place, "a", "no", {"k": "v"})
        assert caught.value.to_status().code == 1100
        assert caught.value.message == "field no does not exist in collection: invalid parameter"
        with pytest.raises(MilvusError, match=r"collection not found\[database=1\]\[collection=no\]$"):
            self.alter(place, "no", "id", {"k": "v"})

    def test_not_while_a_field_cannot_be_read(self) -> None:
        place = Place.holding(collection(50, "a"), {LAYOUT.field(50, 101): b"\xff\xff"})
        with pytest.raises(DamagedMetadata):
            self.alter(place, "a", "id", {"k": "v"})


class TestRename:
    def test_within_a_database(self) -> None:
        place = Place.holding(collection(50, "a"))
        assert rename(place, "a", "b") == (50, ("a",))
        assert place.tables.resolve(1, "a") is None
        assert place.view(50).name == "b"
        assert place.tables.collections.keys_of(50) == (LAYOUT.collection(1, 50),)
        place.check()
        assert rename(place, "b", "a") == (50, ("b",))

    def test_into_another_database_in_one_transaction(self) -> None:
        place = Place.holding(collection(50, "a"))
        rename(place, "a", "b", "default", "music")
        (writes,) = place.transactions
        ts = place.clock << 18
        old, new = LAYOUT.collection(1, 50), LAYOUT.collection(7, 50)
        assert {write.key for write in writes} == {
            *(old, LAYOUT.snapshot(old, ts)),
            *(new, LAYOUT.snapshot(new, ts)),
        }
        values = {write.key: write.value for write in writes if isinstance(write, Put)}
        assert values[old] == TOMBSTONE
        info = etcd_meta_pb2.CollectionInfo.FromString(values[new])
        assert (info.db_id, info.schema.name) == (7, "b")
        row = place.tables.collections.find(7, "b")
        assert row is not None
        place.check()
        rename(place, "b", "a", "music", "default")
        assert place.view(50).row.home_db_id == 1
        place.check()

    def test_the_target_is_the_source_if_not_named(self) -> None:
        place = Place.holding(collection(50, "a", db_id=7))
        rename(place, "a", "b", "music")
        assert place.tables.collections.find(7, "b") is not None

    def test_a_collection_from_before_databases_moves_into_the_default_one(self) -> None:
        place = Place.holding(
            {LAYOUT.collection(0, 50): inline_collection_value(50, "old")},
            {LAYOUT.alias(0, "x"): alias_value("x", 50, db_id=0)},
        )
        before = place.view(50)
        rename(place, "old", "new")
        after = place.view(50)
        assert place.tables.collections.keys_of(50) == (LAYOUT.collection(1, 50),)
        assert (after.name, after.info.db_id) == ("new", 1)
        assert (after.fields, after.partitions) == (before.fields, before.partitions)
        row = place.tables.resolve(1, "x")
        assert row is not None
        assert row.collection_id == 50
        place.check()

    @pytest.mark.parametrize(
        ("old", "new", "db_name", "new_db", "text"),
        [
            ("a", "b", "", "no", "target database:no not found"),
            ("a", "b", "no", "", "target database:no not found"),
            ("x", "x2", "", "", "unsupported use an alias to rename collection, alias:x"),
            ("x", "a", "", "", "unsupported use an alias to rename collection, alias:x"),
            (
                "a",
                "a",
                "",
                "",
                "duplicated new collection name default:a with other collection name or alias",
            ),
            (
                "a",
                "x",
                "",
                "",
                "duplicated new collection name default:x with other collection name or alias",
            ),
            (
                "no",
                "b",
                "",
                "",
                "duplicated new collection name default:b with other collection name or alias",
            ),
            (
                "a",
                "m",
                "",
                "music",
                "duplicated new collection name music:m with other collection name or alias",
            ),
            (
                *("a", "c", "", "music"),
                "fail to rename db name, must drop all aliases of this collection before rename",
            ),
            ("a", "c", "no", "music", "database:no not found"),
        ],
    )
    def test_refusals(self, old: str, new: str, db_name: str, new_db: str, text: str) -> None:
        place = Place.holding(
            collection(50, "a"),
            collection(60, "b"),
            collection(70, "m", db_id=7),
            {LAYOUT.alias(1, "x"): alias_value("x", 50)},
        )
        with pytest.raises(MilvusError) as caught:
            rename(place, old, new, db_name, new_db)
        assert (caught.value.code, caught.value.message) == (65535, text)

    def test_what_is_not_there(self) -> None:
        place = Place.holding(collection(60, "dying", state=DROPPING))
        with pytest.raises(MilvusError) as caught:
            rename(place, "no", "new")
        text = f"timestamp = {place.clock << 18}: collection not found[database=1][collection=no]"
        assert (caught.value.code, caught.value.message) == (100, text)
        with pytest.raises(MilvusError, match=r"^dying: collection not found\[collection=default\]$"):
            rename(place, "dying", "new")

    def test_no_name_is_refused(self) -> None:
        with pytest.raises(MilvusError, match=r"^collection name should not be empty: invalid parameter$"):
            rename(Place.holding(collection(50, "a")), "a", "")

    def test_the_name_of_a_dropped_one_is_free(self) -> None:
        place = Place.holding(collection(50, "a"), collection(60, "dying", state=DROPPING))
        rename(place, "a", "dying")
        row = place.tables.collections.find(1, "dying")
        assert row is not None
        assert row.collection_id == 50
        place.check()
