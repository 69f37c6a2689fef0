"""What the election is told of a role's keys."""

import json
from collections.abc import Sequence

from coordd.etcd import Event
from coordd.ha import election_events as ev
from coordd.ha.leadership import encode_heartbeat
from coordd.ha.session import Safety, SessionRecord
from coordd.ha.standbys import encode_offer, encode_report
from coordd.ha.tables import CoordinationTables
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")
ROLE = "rootcoord"
NOTHING = ev.Observed(now=1.5, revision=40, active_mod_revision=0, heartbeat_mod_revision=0)


def put(key: str, value: bytes, revision: int, lease: int = 7) -> Event:
    return Event(key, value, revision, revision, lease, 1)


def record(server_id: int, role: str = ROLE, *, milvus: bool = False) -> bytes:
    safety = None if milvus else Safety(serve_guard_ms=2000)
    return SessionRecord(
        server_id=server_id, server_name=role, address="a:1", version="2.3.5", safety=safety
    ).to_json()


def session(server_id: int, *, role: str = ROLE, milvus: bool = False) -> Event:
    return put(LAYOUT.session(role, server_id), record(server_id, role, milvus=milvus), server_id)


def active(server_id: int, revision: int, *, milvus: bool = False) -> Event:
    return put(LAYOUT.session(ROLE), record(server_id, milvus=milvus), revision)


def heartbeat(value: bytes, revision: int) -> Event:
    return put(LAYOUT.heartbeat(ROLE), value, revision, lease=0)


def observed(events: Sequence[Event]) -> ev.Observed:
    """What is seen of rootcoord after these events, looked at after each; as of revision 40 at 1.5 s."""
    tables = CoordinationTables(LAYOUT)
    fold = Fold(tables.all)
    seen = tables.observed(ROLE, 1.5, 40)
    for event in sorted(events, key=lambda event: event.mod_revision):
        fold.apply_commit(event.mod_revision, [event])
        seen = tables.observed(ROLE, 1.5, 40)
    return seen


def test_nothing_there_is_nothing_seen() -> None:
    assert observed([]) == NOTHING


def test_the_holder_its_heartbeat_and_its_standbys_in_order_of_their_ids() -> None:
    events = [
        *(session(server_id) for server_id in (3, 10, 9)),
        active(3, 20),
        heartbeat(encode_heartbeat(3, 1500, settled=True), 21),
        put(LAYOUT.offer(ROLE), encode_offer(3, 9), 22),
        put(LAYOUT.standby_report(ROLE, 10), encode_report(10, 18, synced=True), 19),
        put(LAYOUT.standby_report(ROLE, 9), encode_report(9, 22, synced=True, offer=22), 23),
    ]
    assert observed(events) == ev.Observed(
        now=1.5,
        revision=40,
        active_mod_revision=20,
        heartbeat_mod_revision=21,
        holder_guard_s=1.5,
        holder_server_id=3,
        holder_is_safe=True,
        heartbeat_settled=True,
        offer=ev.Offer(mod_revision=22, by=3, to=9),
        standbys=(ev.Standby(9, 23, 22), ev.Standby(10, 19, 0)),
    )


def test_other_roles_are_not_this_role() -> None:
    events = [
        session(5, role="datacoord"),
        put(LAYOUT.session("datacoord"), record(5, "datacoord"), 6),
        put(LAYOUT.heartbeat("datacoord"), encode_heartbeat(5, 1500, settled=True), 7),
        put(LAYOUT.offer("datacoord"), encode_offer(5), 8),
        put(LAYOUT.standby_report("datacoord", 5), encode_report(5, 8, synced=True), 9),
    ]
    assert observed(events) == NOTHING


def test_a_milvus_coordinator_is_neither_safe_to_replace_nor_an_heir() -> None:
    seen = observed(
        [session(3, milvus=True), session(4, milvus=True), session(5), active(3, 20, milvus=True)]
    )
    assert (seen.holder_server_id, seen.holder_is_safe) == (3, False)
    assert [standby.server_id for standby in seen.standbys] == [5]


def test_milvus_standbys_of_a_holder_of_coordd_are_none() -> None:
    seen = observed([session(3), session(4, milvus=True), active(3, 20)])
    assert seen.holder_is_safe
    assert seen.standbys == ()


def test_an_active_record_that_cannot_be_read_is_somebody_who_is_not_safe() -> None:
    seen = observed([session(3), put(LAYOUT.session(ROLE), b"not json", 20)])
    assert (seen.active_mod_revision, seen.holder_server_id, seen.holder_is_safe) == (20, None, False)
    assert [standby.server_id for standby in seen.standbys] == [3]


def test_a_session_record_that_cannot_be_read_is_no_standby() -> None:
    seen = observed([session(3), put(LAYOUT.session(ROLE, 4), b"{", 4), active(3, 20)])
    assert seen.standbys == ()


def test_a_report_without_its_session_is_no_standby() -> None:
    """The report hangs on the session's lease, but deletes come one by one."""
    report = put(LAYOUT.standby_report(ROLE, 9), encode_report(9, 22, synced=True), 23)
    assert observed([active(3, 20), report]).standbys == ()


def test_a_report_or_an_offer_that_cannot_be_read_counts_as_none() -> None:
    seen = observed(
        [
            session(3), session(9), active(3, 20),
            put(LAYOUT.offer(ROLE), b"[]", 21), put(LAYOUT.standby_report(ROLE, 9), b"[]", 22),
        ]
    )  # fmt: skip
    assert seen.offer is None
    assert seen.standbys == (ev.Standby(9, 0, 0),)


def test_a_heartbeat_that_says_nothing_promises_no_end_and_is_not_settled() -> None:
    seen = observed([session(3), active(3, 20), heartbeat(b"{}", 21)])
    assert (seen.heartbeat_mod_revision, seen.holder_guard_s, seen.heartbeat_settled) == (21, None, False)


def test_a_heartbeat_of_an_earlier_version_is_not_settled() -> None:
    value = json.dumps({"ServerID": 3, "ServeGuardMs": 1500}).encode()
    seen = observed([session(3), active(3, 20), heartbeat(value, 21)])
    assert (seen.holder_guard_s, seen.heartbeat_settled) == (1.5, False)


def test_between_two_holders_all_sessions_are_standbys() -> None:
    seen = observed([session(3), session(4), heartbeat(encode_heartbeat(3, 1500, settled=True), 21)])
    assert (seen.active_mod_revision, seen.heartbeat_mod_revision) == (0, 21)
    assert [standby.server_id for standby in seen.standbys] == [3, 4]
