"""The generated metadata is what a coordinator expects to find."""

from bench.generate import FIRST_ID, KEYS_PER_COLLECTION, metadata
from coordd.meta.codecs import decode_time_ns
from coordd.rootcoord.tso import LOGICAL_BITS, NS_PER_MS
from tests.unit.meta.samples import LAYOUT, loaded


def test_each_collection_is_whole() -> None:
    keys = dict(metadata(3))
    tables, _ = loaded(keys)
    assert len(keys) == 3 * KEYS_PER_COLLECTION + 2
    assert len(tables.collections) == tables.collections.available_count == 3
    for number, row in enumerate(sorted(tables.collections, key=lambda row: row.collection_id)):
        view = tables.collections.whole(row.collection_id)
        assert view.name == f"generated_{number}"
        names = {field.fieldID: field.name for field in view.fields}
        assert names == {0: "RowID", 1: "Timestamp", 100: "pk", 101: "vector", 102: "title"}
        assert [partition.name for partition in view.partitions] == ["_default"]


def test_the_saved_windows_end_above_everything_generated() -> None:
    keys = dict(metadata(3))
    for key in (LAYOUT.timestamp, LAYOUT.id_window):
        assert decode_time_ns(key, keys[key]) // NS_PER_MS > (FIRST_ID + 30) >> LOGICAL_BITS


def test_snapshots_repeat_every_key() -> None:
    keys = dict(metadata(2, snapshots=True))
    plain = {key: value for key, value in keys.items() if key.startswith(LAYOUT.root_coord_prefix)}
    history = {found: value for key, value in keys.items() if (found := LAYOUT.parse_snapshot(key))}
    assert plain == {key: value for (key, _), value in history.items()}
    assert len(plain) == 2 * KEYS_PER_COLLECTION
    assert {timestamp for _, timestamp in history} == {FIRST_ID, FIRST_ID + 10}
