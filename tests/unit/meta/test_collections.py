"""Collections as Milvus would show them, from all forms its versions have written."""

import pytest

from coordd.meta.codecs import TOMBSTONE
from coordd.meta.tables import DamagedMetadata, Partition, RootCoordTables
from coordd.meta.tables import collections as collections_module
from coordd.meta.tables.collections import SHARED_FIELD_BYTES
from coordd.pb import etcd_meta_pb2, schema_pb2
from tests.unit.meta.samples import (
    CREATING,
    DROPPING,
    LAYOUT,
    collection,
    collection_value,
    database,
    delete,
    field_value,
    inline_collection_value,
    loaded,
    partition_value,
    put,
)


def test_modern_form() -> None:
    tables, fold = loaded(
        database(1, "default"), collection(50, "books", partitions={51: "_default", 52: "p"})
    )
    assert len(fold.quarantine) == 0
    row = tables.collections.find(1, "books")
    assert row is not None
    assert (row.collection_id, row.db_id, row.home_db_id, row.available) == (50, 1, 1, True)
    view = tables.collections.whole(50)
    assert view is not None
    assert (view.id, view.name, view.shards_num, view.available) == (50, "books", 1, True)
    assert view.row == row == tables.collections.get(50)
    assert view.partitions == (Partition(51, "_default", 51 << 18, 0), Partition(52, "p", 52 << 18, 0))
    schema = view.schema()
    assert (schema.name, schema.description) == ("books", "about books")
    assert [(field.fieldID, field.name) for field in schema.fields] == [
        (100, "id"),
        (101, "vector"),
        (0, "RowID"),
        (1, "Timestamp"),
    ]


def test_user_fields_come_by_number_then_the_system_fields() -> None:
    names = {field_id: f"f{field_id}" for field_id in (100, 101, 999, 1000, 1001)}
    tables, _ = loaded(collection(50, "wide", fields=names))
    view = tables.collections.view(50)
    assert view is not None
    assert [field.fieldID for field in view.fields] == [100, 101, 999, 1000, 1001, 0, 1]


def test_schema_is_a_new_message_each_time() -> None:
    tables, _ = loaded(collection(50, "books"))
    view = tables.collections.view(50)
    assert view is not None
    view.schema().name = "changed"
    assert view.schema().name == "books"


def test_functions_of_2_5() -> None:
    function = schema_pb2.FunctionSchema(id=100, name="bm25")
    tables, _ = loaded(collection(50, "texts"), {LAYOUT.function(50, 100): function.SerializeToString()})
    view = tables.collections.view(50)
    assert view is not None
    assert list(view.schema().functions) == [function]


def test_shards_default_to_the_number_of_channels() -> None:
    info = etcd_meta_pb2.CollectionInfo.FromString(collection_value(50, "old"))
    info.shards_num = 0
    info.virtual_channel_names.append("by-dev-rootcoord-dml_1_50v1")
    tables, _ = loaded({LAYOUT.collection(1, 50): info.SerializeToString()})
    view = tables.collections.view(50)
    assert view is not None
    assert view.shards_num == 2


class TestLegacyForms:
    def test_a_collection_from_before_databases_is_in_the_default_one(self) -> None:
        tables, _ = loaded(database(1, "default"), collection(50, "old", db_id=0))
        for db_id in (0, 1):
            row = tables.collections.find(db_id, "old")
            assert row is not None
            assert (row.db_id, row.home_db_id) == (0, 1)
            assert tables.collections.in_db(db_id) == [row]
        assert tables.collections.keys_of(50) == ("by-dev/meta/root-coord/collection/50",)

    def test_inline_fields_and_partitions_keep_their_order(self) -> None:
        tables, _ = loaded({LAYOUT.collection(0, 50): inline_collection_value(50, "oldest")})
        view = tables.collections.whole(50)
        assert view is not None
        assert [field.fieldID for field in view.fields] == [0, 1, 100]
        assert view.partitions == (Partition(51, "_default", 1 << 18, 0), Partition(52, "second", 2 << 18, 0))
        assert tables.collections.partition_count == 2

    def test_inline_form_needs_both_fields_and_partitions(self) -> None:
        info = etcd_meta_pb2.CollectionInfo.FromString(inline_collection_value(50, "half"))
        del info.schema.fields[:]
        keys = {LAYOUT.collection(0, 50): info.SerializeToString()}
        keys |= {
            LAYOUT.field(50, 100): field_value(100, "id"),
            LAYOUT.partition(50, 59): partition_value(50, 59, "p"),
        }
        tables, _ = loaded(keys)
        view = tables.collections.view(50)
        assert view is not None
        assert [field.fieldID for field in view.fields] == [100]
        assert [partition.id for partition in view.partitions] == [59]

    def test_the_modern_key_wins_over_the_legacy_one(self) -> None:
        tables, fold = loaded(
            collection(50, "modern"), {LAYOUT.collection(0, 50): collection_value(50, "legacy", db_id=0)}
        )
        assert tables.collections.find(1, "legacy") is None
        assert tables.collections.find(1, "modern") is not None
        assert len(tables.collections) == 1
        fold.apply_commit(2, [put(LAYOUT.collection(1, 50), TOMBSTONE, 2)])
        assert tables.collections.find(1, "legacy") is not None


class TestStates:
    def test_only_created_ones_are_found_by_name(self) -> None:
        tables, _ = loaded(collection(50, "a", state=CREATING), collection(60, "b", state=DROPPING))
        assert tables.collections.find(1, "a") is None
        assert tables.collections.in_db(1) == []
        assert [row.name for row in tables.collections.in_db(1, available_only=False)] == ["a", "b"]
        assert [row.collection_id for row in tables.collections.holders(1, "b")] == [60]
        assert tables.collections.get(50) is not None
        assert tables.collections.view(60) is not None

    def test_a_name_can_be_used_again_while_its_collection_is_dropped(self) -> None:
        tables, fold = loaded(
            collection(50, "a", state=DROPPING), collection(60, "a"), collection(70, "a", state=DROPPING)
        )
        row = tables.collections.find(1, "a")
        assert row is not None
        assert row.collection_id == 60
        assert {holder.collection_id for holder in tables.collections.holders(1, "a")} == {50, 60, 70}
        fold.apply_commit(2, [put(LAYOUT.collection(1, 60), TOMBSTONE, 2)])
        assert tables.collections.find(1, "a") is None
        fold.apply_commit(3, [delete(LAYOUT.collection(1, 50), 3), delete(LAYOUT.collection(1, 70), 3)])
        assert tables.collections.holders(1, "a") == ()

    def test_counts(self) -> None:
        tables, fold = loaded(
            collection(50, "a", partitions={51: "x", 52: "y"}),
            collection(60, "b", partitions={61: "x"}),
            collection(70, "c", state=CREATING),
        )
        collections = tables.collections
        assert (len(collections), collections.available_count, collections.partition_count) == (3, 2, 3)
        dropping = partition_value(50, 52, "y", state=DROPPING)
        fold.apply_commit(2, [put(LAYOUT.partition(50, 52), dropping, 2)])
        assert collections.partition_count == 2
        fold.apply_commit(3, [put(LAYOUT.collection(1, 50), collection_value(50, "a", state=DROPPING), 3)])
        assert (len(collections), collections.available_count, collections.partition_count) == (3, 1, 1)
        fold.apply_commit(4, [put(LAYOUT.collection(1, 70), collection_value(70, "c"), 4)])
        assert (collections.available_count, collections.partition_count) == (2, 2)
        view = collections.view(50)
        assert view is not None
        assert [partition.id for partition in view.available_partitions] == [51]


class TestChanges:
    def test_rename_and_move_to_another_database_in_any_order_of_events(self) -> None:
        moved = put(LAYOUT.collection(2, 50), collection_value(50, "new", db_id=2), 5)
        left = put(LAYOUT.collection(1, 50), TOMBSTONE, 5)
        for events in ([moved, left], [left, moved]):
            tables, fold = loaded(collection(50, "old"))
            fold.apply_commit(5, events)
            assert tables.collections.find(1, "old") is None
            assert tables.collections.in_db(1) == []
            row = tables.collections.find(2, "new")
            assert row is not None
            assert row.collection_id == 50
            view = tables.collections.whole(50)
            assert view is not None
            assert len(view.fields) == 4

    def test_drop_leaves_nothing_behind(self) -> None:
        keys = collection(50, "books")
        tables, fold = loaded(keys)
        for revision, key in enumerate(sorted(keys), start=2):
            fold.apply_commit(revision, [put(key, TOMBSTONE, revision)])
        assert tables.collections.get(50) is None
        assert list(tables.collections) == []
        assert tables.collections._records == {}
        assert (len(tables.collections), tables.collections.partition_count) == (0, 0)

    def test_parts_may_come_first(self) -> None:
        keys = collection(50, "books")
        tables, fold = loaded({key: value for key, value in keys.items() if "collection-info" not in key})
        assert tables.collections.get(50) is None
        assert tables.collections.view(50) is None
        fold.apply_commit(2, [put(LAYOUT.collection(1, 50), keys[LAYOUT.collection(1, 50)], 2)])
        assert tables.collections.whole(50) is not None
        assert tables.collections.partition_count == 1

    def test_a_view_does_not_change_and_the_generation_tells_of_news(self) -> None:
        tables, fold = loaded(collection(50, "books"))
        view, generation = tables.collections.view(50), tables.generation
        assert tables.generation == generation
        fold.apply_commit(2, [put(LAYOUT.partition(50, 59), partition_value(50, 59, "late"), 2)])
        assert view is not None
        assert len(view.partitions) == 1
        assert tables.generation > generation


class TestSharedFields:
    def values(self, tables: RootCoordTables, field_id: int) -> list[bytes]:
        return [record.fields[field_id] for record in tables.collections._records.values()]

    def test_equal_values_are_kept_once(self) -> None:
        tables, _ = loaded(collection(50, "books"), collection(60, "other"))
        for field_id in (0, 1, 100, 101):
            one, other = self.values(tables, field_id)
            assert one is other

    def test_those_of_old_schemas_make_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(collections_module, "SHARED_FIELDS_MAX", 2)
        keys = [LAYOUT.field(collection_id, 100) for collection_id in range(50, 56)]
        values = [field_value(100, name) for name in ("a", "b", "c", "c", "a", "a")]
        tables, _ = loaded(dict(zip(keys, values, strict=True)))
        kept = self.values(tables, 100)
        assert kept == values
        assert kept[2] is kept[3]
        assert kept[4] is kept[5]
        assert kept[0] is not kept[4]
        assert len(tables.collections._shared_fields) <= 2

    def test_very_long_values_are_not_remembered(self) -> None:
        long = field_value(100, "n" * SHARED_FIELD_BYTES)
        tables, _ = loaded({LAYOUT.field(50, 100): long})
        assert self.values(tables, 100) == [long]
        assert not tables.collections._shared_fields


class TestDamage:
    BAD = b"\xff\xff"

    def test_a_damaged_part_is_missing_and_named(self) -> None:
        key = LAYOUT.field(50, 101)
        tables, fold = loaded(collection(50, "books"), {key: self.BAD})
        view = tables.collections.view(50)
        assert view is not None
        assert [field.fieldID for field in view.fields] == [100, 0, 1]
        assert view.damaged == tables.collections.damaged_keys(50) == {key}
        with pytest.raises(DamagedMetadata, match=key):
            tables.collections.whole(50)
        fold.apply_commit(2, [put(key, field_value(101, "vector"), 2)])
        assert tables.collections.damaged_keys(50) == frozenset()
        assert tables.collections.whole(50) is not None

    def test_a_part_that_goes_bad_is_no_longer_served(self) -> None:
        key = LAYOUT.partition(50, 51)
        tables, fold = loaded(collection(50, "books"))
        fold.apply_commit(2, [put(key, self.BAD, 2)])
        view = tables.collections.view(50)
        assert view is not None
        assert view.partitions == ()
        assert tables.collections.partition_count == 0
        fold.apply_commit(3, [delete(key, 3)])
        assert tables.collections.damaged_keys(50) == frozenset()

    def test_a_damaged_collection_key_is_remembered_by_id_only(self) -> None:
        key = LAYOUT.collection(1, 50)
        tables, fold = loaded(collection(50, "books"), collection(60, "other"))
        fold.apply_commit(2, [put(key, self.BAD, 2)])
        assert tables.collections.find(1, "books") is None
        assert [row.collection_id for row in tables.collections.in_db(1)] == [60]
        assert tables.collections.damaged_keys(50) == {key}
        with pytest.raises(DamagedMetadata):
            tables.collections.whole(50)
        fold.apply_commit(3, [put(key, collection_value(50, "books"), 3)])
        assert tables.collections.whole(50) is not None

    def test_damage_disappears_with_the_last_key(self) -> None:
        key = LAYOUT.field(50, 101)
        tables, fold = loaded({key: self.BAD})
        assert tables.collections.damaged_keys(50) == {key}
        fold.apply_commit(2, [delete(key, 2)])
        assert tables.collections._records == {}

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (LAYOUT.collection(1, 50), collection_value(51, "books")),
            (LAYOUT.collection(1, 50), collection_value(50, "")),
            (LAYOUT.collection(1, 50), b""),
            (LAYOUT.partition(50, 51), partition_value(50, 52, "p")),
            (LAYOUT.partition(50, 51), partition_value(49, 51, "p")),
            (LAYOUT.partition(50, 51), partition_value(50, 51, "")),
            (LAYOUT.field(50, 0), b""),
            (LAYOUT.field(50, 100), field_value(101, "f")),
            (LAYOUT.function(50, 100), b""),
            (LAYOUT.field_prefix + "50", field_value(100, "f")),
            (LAYOUT.partition_prefix + "50/51/52", partition_value(50, 51, "p")),
            (LAYOUT.collection_prefix + "0/50", collection_value(50, "books", db_id=0)),
            (LAYOUT.old_collection_prefix + "x", collection_value(50, "books", db_id=0)),
        ],
    )
    def test_what_is_not_what_its_key_says_is_quarantined(self, key: str, value: bytes) -> None:
        tables, fold = loaded({key: value})
        assert key in fold.quarantine
        assert len(tables.collections) == 0

    def test_unequal_inline_arrays(self) -> None:
        info = etcd_meta_pb2.CollectionInfo.FromString(inline_collection_value(50, "old"))
        info.partitionNames.pop()
        key = LAYOUT.collection(0, 50)
        _, fold = loaded({key: info.SerializeToString()})
        assert key in fold.quarantine

    def test_equal_bytes_of_another_system_field_are_still_checked(self) -> None:
        value = field_value(0, "RowID")
        _, fold = loaded({LAYOUT.field(50, 0): value, LAYOUT.field(50, 1): value, LAYOUT.field(60, 0): value})
        assert {bad.key for bad in fold.quarantine} == {LAYOUT.field(50, 1)}


def test_the_users_of_a_channel_are_counted_in_any_state_and_once() -> None:
    def stored(collection_id: int, state: int, *channels: str) -> bytes:
        info = etcd_meta_pb2.CollectionInfo.FromString(collection_value(collection_id, "c", state=state))
        del info.physical_channel_names[:]
        info.physical_channel_names.extend(channels)
        return info.SerializeToString()

    tables, fold = loaded(
        {
            LAYOUT.collection(1, 50): stored(50, 0, "a", "b"),
            LAYOUT.collection(1, 60): stored(60, DROPPING, "b", "b"),
        },
        {LAYOUT.collection(0, 50): stored(50, 0, "c")},  # the modern form wins
    )
    assert tables.collections.channel_uses == {"a": 1, "b": 2}
    row = tables.collections.get(50)
    assert row is not None
    assert row.physical_channels == ("a", "b")
    fold.apply_commit(9, [put(LAYOUT.collection(1, 50), TOMBSTONE, 9)])
    assert tables.collections.channel_uses == {"b": 1, "c": 1}
    fold.apply_commit(10, [put(LAYOUT.collection(1, 60), stored(60, CREATING), 10)])
    assert tables.collections.channel_uses == {"c": 1}
