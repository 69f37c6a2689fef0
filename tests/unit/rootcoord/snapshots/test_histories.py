"""Snapshot keys put together, whatever their names and however they are cut into pages."""

from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import KeyValue
from coordd.etcd.types import encode_key
from coordd.meta.codecs import TOMBSTONE
from coordd.rootcoord.snapshots.histories import Histories, History, Version
from tests.unit.meta.samples import LAYOUT

NAMES = ["a", "a_ts1", "a_ts10", "a_ts1_ts2", "a_ts", "b/a", "ü", "a_tsx"]


def read(keys: dict[str, tuple[bytes, int]]) -> list[KeyValue]:
    """As etcd returns them."""
    return [
        KeyValue(key, value, 1, revision, 1, 0)
        for key, (value, revision) in sorted(keys.items(), key=lambda item: encode_key(item[0]))
    ]


snapshots = st.dictionaries(
    st.tuples(st.sampled_from(NAMES), st.integers(0, 120)),
    st.tuples(st.sampled_from([b"v", b"", TOMBSTONE]), st.integers(1, 1000)),
    max_size=40,
)


@given(snapshots, st.integers(1, 50))
def test_each_history_is_whole_and_comes_once(
    wanted: dict[tuple[str, int], tuple[bytes, int]], page: int
) -> None:
    keys = {LAYOUT.snapshot(LAYOUT.alias(1, name), ts): value for (name, ts), value in wanted.items()}
    kvs = read(keys)
    histories, found = Histories(LAYOUT), []
    for first in range(0, len(kvs), page):
        found += list(histories.feed(kvs[first : first + page]))
    found += list(histories.end())
    expected: dict[str, list[Version]] = {}
    for (name, ts), (value, revision) in sorted(wanted.items(), key=lambda item: item[0][1]):
        expected.setdefault(LAYOUT.alias(1, name), []).append(Version(ts, value == TOMBSTONE, revision))
    assert len(found) == len(expected)
    assert {one.key: list(one.versions) for one in found} == expected


def test_a_history_is_known_as_soon_as_another_key_comes() -> None:
    """Nothing but the present one is held."""
    fields = [LAYOUT.field(50, number) for number in range(100, 110)]
    keys = {LAYOUT.snapshot(key, ts): (b"v", 9) for key in fields for ts in (1, 2)}
    histories = Histories(LAYOUT)
    for number, kv in enumerate(read(keys)):
        found = list(histories.feed([kv]))
        assert len(found) == (1 if number and number % 2 == 0 else 0)
    last = History(fields[-1], (Version(1, False, 9), Version(2, False, 9)))
    assert list(histories.end()) == [last]
    assert list(histories.end()) == []


def test_what_is_no_snapshot_is_passed_over() -> None:
    keys = {
        f"{LAYOUT.snapshot_prefix}root-coord/database/db-info/7": (b"v", 1),
        f"{LAYOUT.snapshot_prefix}root-coord/database/db-info/7_ts07": (b"v", 1),
        LAYOUT.snapshot(LAYOUT.database(7), 5): (b"v", 1),
    }
    histories = Histories(LAYOUT)
    found = [*histories.feed(read(keys)), *histories.end()]
    assert found == [History(LAYOUT.database(7), (Version(5, False, 1),))]
