"""Histories: planned writes put into a dict, read back at every time."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import Delete, KeyValue, Put
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.layout import MAX_TS
from coordd.meta.snapshot import history_of, plan_delete, plan_put, value_at, values_at
from coordd.meta.transaction import Write
from tests.unit.meta.samples import LAYOUT, key_value

KEY = LAYOUT.alias(1, "a")
SNAPSHOTS = "by-dev/meta/snapshots/root-coord/database/aliases/1/a_ts"


def carry_out(store: dict[str, bytes], writes: Iterable[Write]) -> None:
    for write in writes:
        if isinstance(write, Put):
            store[write.key] = write.value
        else:
            store.pop(write.key, None)


def kvs(store: Mapping[str, bytes]) -> list[KeyValue]:
    return [key_value(key, store[key]) for key in sorted(store)]


def test_a_write_goes_to_both_copies() -> None:
    assert plan_put(LAYOUT, KEY, b"v", 7) == (Put(KEY, b"v"), Put(SNAPSHOTS + "7", b"v"))


def test_without_a_time_there_is_no_history() -> None:
    assert plan_put(LAYOUT, KEY, b"v", 0) == (Put(KEY, b"v"),)
    assert plan_delete(LAYOUT, KEY, 0) == (Delete(KEY),)


def test_a_deletion_marks_both_copies() -> None:
    mark = bytes.fromhex("E29BBC")
    assert plan_delete(LAYOUT, KEY, 9) == (Put(KEY, mark), Put(SNAPSHOTS + "9", mark))


def test_what_cannot_be_a_value_with_a_history_is_refused() -> None:
    with pytest.raises(ValueError, match="mark of a deletion"):
        plan_put(LAYOUT, KEY, TOMBSTONE, 7)
    with pytest.raises(ValueError, match="does not lie below"):
        plan_put(LAYOUT, "by-dev/kv/gid/timestamp", b"v", 7)


def test_histories_of_keys_that_start_alike_are_kept_apart() -> None:
    other = LAYOUT.alias(1, "a_ts5")
    store: dict[str, bytes] = {}
    carry_out(store, plan_put(LAYOUT, KEY, b"mine", 7))
    carry_out(store, plan_put(LAYOUT, other, b"other", 9))
    assert history_of(LAYOUT, KEY, kvs(store)) == {7: b"mine"}
    assert history_of(LAYOUT, other, kvs(store)) == {9: b"other"}
    assert values_at(LAYOUT, kvs(store), 8) == {KEY: b"mine"}
    assert values_at(LAYOUT, kvs(store), 9) == {KEY: b"mine", other: b"other"}


NAMES = ["a", "a_ts1", "a_ts1_ts2", "b/a"]
changes = st.lists(
    st.tuples(st.sampled_from(NAMES), st.integers(1, 12), st.sampled_from([b"x", b"y", None])), max_size=30
)


@given(changes)
def test_every_time_is_read_as_it_was_written(changes: list[tuple[str, int, bytes | None]]) -> None:
    store: dict[str, bytes] = {}
    written: dict[str, dict[int, bytes | None]] = {name: {} for name in NAMES}
    for name, ts, value in sorted(changes, key=lambda change: change[1]):
        key = LAYOUT.alias(1, name)
        if value is not None:
            carry_out(store, plan_put(LAYOUT, key, value, ts))
        else:
            carry_out(store, plan_delete(LAYOUT, key, ts))
        written[name][ts] = value
    for name, values in written.items():
        key = LAYOUT.alias(1, name)
        if values:
            newest_value = values[max(values)]
            assert store[key] == (TOMBSTONE if newest_value is None else newest_value)
        for ts in range(14):
            before = [when for when in values if when <= ts]
            expected = values[max(before)] if before else None
            assert value_at(history_of(LAYOUT, key, kvs(store)), ts) == expected
            assert values_at(LAYOUT, kvs(store), ts).get(key) == expected


def test_the_largest_time_is_after_all_others() -> None:
    assert value_at({1: b"x", 2**63: b"y"}, MAX_TS) == b"y"
    assert value_at({}, MAX_TS) is None
