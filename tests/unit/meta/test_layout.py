"""Keys as Milvus spells them, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.meta.keys import (
    AliasKey,
    CollectionKey,
    DatabaseKey,
    DdlMarkKey,
    FieldKey,
    FunctionKey,
    GranteeIdKey,
    GranteeKey,
    HeartbeatKey,
    HistoryKey,
    IdKey,
    ImportTaskKey,
    OfferKey,
    OldAliasKey,
    ParsedKey,
    PartitionKey,
    PrivilegeGroupKey,
    RoleKey,
    ServerIdCounterKey,
    SessionKey,
    SnapshotKey,
    StandbyReportKey,
    SwitchoverKey,
    TimestampKey,
    UserKey,
    UserRoleKey,
)
from coordd.meta.layout import MAX_TS, MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")

EXAMPLES: dict[str, ParsedKey] = {
    "by-dev/meta/session/id": ServerIdCounterKey(),
    "by-dev/meta/session/rootcoord": SessionKey("rootcoord"),
    "by-dev/meta/session/rootcoord-12": SessionKey("rootcoord", 12),
    "by-dev/meta/session/proxy-7": SessionKey("proxy", 7),
    "by-dev/meta/session-coordd/ddl/rootcoord": DdlMarkKey("rootcoord"),
    "by-dev/meta/session-coordd/heartbeat/rootcoord": HeartbeatKey("rootcoord"),
    "by-dev/meta/session-coordd/history/rootcoord/00000000000000000421": HistoryKey("rootcoord", 421),
    "by-dev/meta/session-coordd/offer/rootcoord": OfferKey("rootcoord"),
    "by-dev/meta/session-coordd/standby/rootcoord-13": StandbyReportKey("rootcoord", 13),
    "by-dev/meta/session-coordd/switchover/rootcoord": SwitchoverKey("rootcoord"),
    "by-dev/meta/root-coord/database/db-info/1": DatabaseKey(1),
    "by-dev/meta/root-coord/database/collection-info/1/446": CollectionKey(1, 446),
    "by-dev/meta/root-coord/collection/446": CollectionKey(0, 446),
    "by-dev/meta/root-coord/partitions/446/447": PartitionKey(446, 447),
    "by-dev/meta/root-coord/fields/446/0": FieldKey(446, 0),
    "by-dev/meta/root-coord/functions/446/1": FunctionKey(446, 1),
    "by-dev/meta/root-coord/database/aliases/1/a": AliasKey(1, "a"),
    "by-dev/meta/root-coord/aliases/a": AliasKey(0, "a"),
    "by-dev/meta/root-coord/collection-alias/a": OldAliasKey("a"),
    "by-dev/meta/root-coord/credential/users/root": UserKey("root"),
    "by-dev/meta/root-coord/credential/roles/admin": RoleKey("admin"),
    "by-dev/meta/root-coord/credential/user-role-mapping/root/admin": UserRoleKey("root", "admin"),
    "by-dev/meta/root-coord/credential/grantee-privileges/public/Global/*.*": GranteeKey(
        "public", "Global", "*.*"
    ),
    "by-dev/meta/root-coord/credential/grantee-id/0123456789abcdef/PrivilegeLoad": GranteeIdKey(
        "0123456789abcdef", "PrivilegeLoad"
    ),
    "by-dev/meta/root-coord/privilege-group/readers": PrivilegeGroupKey("readers"),
    "by-dev/meta/importtask/9": ImportTaskKey(9),
    "by-dev/meta/snapshots/root-coord/database/collection-info/1/446_ts447": SnapshotKey(
        "root-coord/database/collection-info/1/446", 447
    ),
    "by-dev/kv/gid/timestamp": TimestampKey(),
    "by-dev/kv/tso/timestamp": TimestampKey(old=True),
    "by-dev/kv/gid/idTimestamp": IdKey(),
    "by-dev/kv/querycoord-id-allocator/idTimestamp": IdKey(query_coord=True),
}

ids = st.integers(0, 2**63 - 1)
db_ids = st.integers(1, 2**63 - 1)
# Milvus' proxy allows letters, digits, `_` and `$`; RootCoord itself checks nothing.
alphabet = st.sampled_from(
    ["a", "Z", "0", "_", "_ts", "_ts1", ".", "-", "$", "*", " ", "é", "\U0001f600", "\udcff"]
)
segments = (
    st.lists(alphabet, min_size=1, max_size=6).map("".join).filter(lambda name: name not in (".", ".."))
)
paths = st.lists(segments, min_size=1, max_size=3).map("/".join)
roles = segments.filter(lambda name: name != "id" and not name.rpartition("-")[2].isdigit())

parsed_keys: st.SearchStrategy[ParsedKey] = st.one_of(
    st.builds(ServerIdCounterKey),
    st.builds(SessionKey, roles, st.none() | ids),
    st.builds(DdlMarkKey, segments),
    st.builds(HeartbeatKey, segments),
    st.builds(HistoryKey, segments, ids),
    st.builds(OfferKey, segments),
    st.builds(StandbyReportKey, segments, ids),
    st.builds(SwitchoverKey, segments),
    st.builds(DatabaseKey, ids),
    st.builds(CollectionKey, ids, ids),
    st.builds(PartitionKey, ids, ids),
    st.builds(FieldKey, ids, ids),
    st.builds(FunctionKey, ids, ids),
    st.builds(AliasKey, ids, paths),
    st.builds(OldAliasKey, paths),
    st.builds(UserKey, paths),
    st.builds(RoleKey, segments),
    st.builds(UserRoleKey, segments, segments),
    st.builds(GranteeKey, segments, segments, segments),
    st.builds(GranteeIdKey, segments, segments),
    st.builds(PrivilegeGroupKey, paths),
    st.builds(ImportTaskKey, ids),
    st.builds(SnapshotKey, paths, st.integers(0, MAX_TS)),
    st.builds(TimestampKey, st.booleans()),
    st.builds(IdKey, st.booleans()),
)


@pytest.mark.parametrize(("key", "parsed"), EXAMPLES.items())
def test_known_keys(key: str, parsed: ParsedKey) -> None:
    assert LAYOUT.build(parsed) == key
    assert LAYOUT.parse(key) == parsed


@given(parsed_keys)
def test_parsing_undoes_building(parsed: ParsedKey) -> None:
    assert LAYOUT.parse(LAYOUT.build(parsed)) == parsed


@given(parsed_keys, parsed_keys)
def test_two_keys_are_never_the_same(one: ParsedKey, other: ParsedKey) -> None:
    assert (LAYOUT.build(one) == LAYOUT.build(other)) == (one == other)


@given(st.text(max_size=20), st.sampled_from(sorted(EXAMPLES)))
def test_what_parses_is_what_would_be_built(tail: str, example: str) -> None:
    key = example[: len(example) // 2 + len(tail) % 7] + tail
    parsed = LAYOUT.parse(key)
    assert parsed is None or LAYOUT.build(parsed) == key


@given(parsed_keys, st.integers(0, MAX_TS))
def test_snapshot_keys_lead_back_to_their_plain_key(parsed: ParsedKey, ts: int) -> None:
    key = LAYOUT.build(parsed)
    if not key.startswith("by-dev/meta/"):
        with pytest.raises(ValueError, match="does not lie below"):
            LAYOUT.snapshot(key, ts)
        return
    snapshot = LAYOUT.snapshot(key, ts)
    assert LAYOUT.parse_snapshot(snapshot) == (key, ts)
    assert snapshot.startswith(LAYOUT.snapshots_of(key))


@pytest.mark.parametrize(
    "key",
    [
        "by-dev/meta/root-coord/database/db-info/",
        "by-dev/meta/root-coord/database/db-info/01",
        "by-dev/meta/root-coord/database/db-info/-1",
        "by-dev/meta/root-coord/database/db-info/9223372036854775808",
        "by-dev/meta/root-coord/database/db-info/٣",
        "by-dev/meta/root-coord/database/collection-info/0/5",
        "by-dev/meta/root-coord/database/collection-info/5",
        "by-dev/meta/root-coord/fields/5/6/7",
        "by-dev/meta/root-coord/database/aliases/0/a",
        "by-dev/meta/root-coord/database/aliases/1/",
        "by-dev/meta/root-coord/aliases/..",
        "by-dev/meta/root-coord/credential/roles/a/b",
        "by-dev/meta/root-coord/credential/user-role-mapping/a",
        "by-dev/meta/root-coord/credential/grantee-privileges/a/b",
        "by-dev/meta/snapshots/root-coord/fields/1/2",
        "by-dev/meta/snapshots/root-coord/fields/1/2_ts",
        "by-dev/meta/snapshots/root-coord/fields/1/2_ts18446744073709551616",
        "by-dev/meta/session/a/b",
        "by-dev/meta/session-coordd/heartbeat/",
        "by-dev/meta/session-coordd/history/rootcoord",
        "by-dev/meta/session-coordd/history/rootcoord/421",
        "by-dev/meta/session-coordd/history/rootcoord/0000000000000000042x",
        "by-dev/meta/session-coordd/history/rootcoord/09223372036854775808",
        "by-dev/meta/session-coordd/history//00000000000000000421",
        "by-dev/meta/session-coordd/history/rootcoord/00000000000000000421/1",
        "by-dev/meta/session-coordd/offer/a/b",
        "by-dev/meta/session-coordd/standby/rootcoord",
        "by-dev/meta/session-coordd/standby/rootcoord-013",
        "by-dev/meta/session-coordd/standby/a/b-13",
        "by-dev/meta/session-coordd/switchover/",
        "by-dev/meta/unknown",
        "other/meta/session/rootcoord",
        "",
    ],
)
def test_other_keys_do_not_parse(key: str) -> None:
    assert LAYOUT.parse(key) is None


@pytest.mark.parametrize(
    "parsed",
    [
        UserKey(""),
        UserKey("a//b"),
        UserKey("../root"),
        RoleKey("a/b"),
        UserRoleKey("a/b", "c"),
        GranteeKey("a", "b", "c/d"),
        AliasKey(1, "."),
        SessionKey("id"),
        SessionKey("rootcoord-1"),
        DatabaseKey(-1),
        CollectionKey(1, 2**63),
        SnapshotKey("a", MAX_TS + 1),
        SnapshotKey("a", -1),
        HistoryKey("rootcoord", -1),
        HistoryKey("rootcoord", 2**63),
        HistoryKey("a/b", 1),
        OfferKey(""),
        StandbyReportKey("a/b", 1),
        StandbyReportKey("rootcoord", -1),
        SwitchoverKey(".."),
    ],
)
def test_names_and_numbers_that_would_become_another_key(parsed: ParsedKey) -> None:
    with pytest.raises(ValueError, match=r"."):
        LAYOUT.build(parsed)


@pytest.mark.parametrize(
    ("root_path", "meta_sub_path", "meta"),
    [
        ("by-dev", "meta", "by-dev/meta"),
        ("/by-dev/", "/meta/", "/by-dev/meta"),
        ("a/b", "c//d", "a/b/c/d"),
        ("", "meta", "meta"),
        ("//x", "./meta", "/x/meta"),
    ],
)
def test_roots_are_joined_as_go_does(root_path: str, meta_sub_path: str, meta: str) -> None:
    layout = MetaLayout(root_path, meta_sub_path, "kv")
    assert layout.meta == meta
    assert layout.parse(layout.field(1, 2)) == FieldKey(1, 2)


def test_followed_range_holds_metadata_sessions_and_coordds_own_but_no_snapshots() -> None:
    start, end = LAYOUT.root_coord_prefix, LAYOUT.session_end
    inside = [
        LAYOUT.database(1),
        LAYOUT.user("root"),
        LAYOUT.heartbeat("rootcoord"),
        LAYOUT.history("rootcoord", 421),
        LAYOUT.offer("rootcoord"),
        LAYOUT.standby_report("rootcoord", 13),
        LAYOUT.switchover("rootcoord"),
        LAYOUT.session("proxy", 7),
    ]
    assert all(start <= key < end for key in inside)
    assert not start <= LAYOUT.snapshot(LAYOUT.database(1), 5) < end


def test_terms_sort_by_epoch_and_no_range_of_milvus_holds_coordds_own_keys() -> None:
    epochs = [1, 9, 10, 421, 2**63 - 1]
    keys = [LAYOUT.history("rootcoord", epoch) for epoch in epochs]
    assert keys == sorted(keys)
    assert all(key.startswith(LAYOUT.history_of("rootcoord")) for key in keys)
    assert not LAYOUT.coordination_prefix.startswith(LAYOUT.session_prefix)


def test_grant_id_is_what_milvus_computes() -> None:
    # md5("root-coord/credential/grantee-privileges/public/Global/*.*") by md5sum(1), digits 9 to 24
    assert LAYOUT.new_grant_id("public", "Global", "*.*") == "250dd41b686083b0"
    assert MetaLayout("other", "root", "kv").new_grant_id("public", "Global", "*.*") == "250dd41b686083b0"
