"""`coordd status` from keys alone: who is active, who stands by, what cannot be read."""

from coordd.etcd import KeyValue
from coordd.ha.leadership import encode_heartbeat
from coordd.ha.session import Safety, SessionRecord
from coordd.ha.standbys import encode_report
from coordd.ha.status import lease_ids, role_status, tables_of
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")


def kv(key: str, value: bytes, revision: int, lease: int) -> KeyValue:
    return KeyValue(key, value, revision, revision, 1, lease)


def record(server_id: int, safety: Safety | None = None) -> bytes:
    return SessionRecord(
        server_id=server_id, server_name="rootcoord", address=f"h:{server_id}", version="2.3.5", safety=safety
    ).to_json()


def test_an_active_milvus_and_a_coordd_standby() -> None:
    sessions, heartbeats, reports = tables_of(
        LAYOUT,
        [
            kv(LAYOUT.session("rootcoord"), record(4), 50, 900),
            kv(LAYOUT.session("rootcoord", 4), record(4), 40, 900),
            kv(LAYOUT.session("rootcoord", 5), record(5, Safety(2000, 1_700_000_000_000, pid=77)), 60, 901),
            kv(LAYOUT.session("proxy", 6), record(6), 61, 902),
        ],
    )
    assert lease_ids(sessions, ["rootcoord"]) == {900, 901}
    status = role_status("rootcoord", sessions, heartbeats, reports, {900: 12, 901: None})
    assert status.active is not None
    assert (status.active.kind, status.active.epoch, status.active.lease_left_s) == ("milvus", 50, 12)
    assert status.active.since_ms is None
    (standby,) = status.standbys
    assert (standby.kind, standby.state, standby.server_id, standby.pid) == ("coordd", "STANDBY", 5, 77)
    assert (standby.epoch, standby.since_ms, standby.lease_left_s) == (0, 1_700_000_000_000, None)


def test_nobody_active_and_a_record_that_cannot_be_read() -> None:
    sessions, heartbeats, reports = tables_of(
        LAYOUT,
        [
            kv(LAYOUT.session("rootcoord", 5), b"garbage", 60, 901),
            kv(LAYOUT.heartbeat("rootcoord"), encode_heartbeat(4, 2000, settled=True), 59, 0),
        ],
    )
    status = role_status("rootcoord", sessions, heartbeats, reports, {})
    assert status.active is None
    assert status.heartbeat_revision == 59
    assert [standby.state for standby in status.standbys] == ["UNREADABLE"]


def test_a_standby_shows_the_lag_of_its_last_report() -> None:
    sessions, heartbeats, reports = tables_of(
        LAYOUT,
        [
            kv(LAYOUT.session("rootcoord"), record(4, Safety(2000)), 50, 900),
            kv(LAYOUT.session("rootcoord", 5), record(5, Safety(2000)), 60, 901),
            kv(LAYOUT.session("rootcoord", 6), record(6, Safety(2000)), 61, 902),
            kv(LAYOUT.session("rootcoord", 7), record(7, Safety(2000)), 62, 903),
            kv(LAYOUT.standby_report("rootcoord", 4), encode_report(4, 40, synced=True), 49, 900),
            kv(LAYOUT.standby_report("rootcoord", 5), encode_report(5, 80, synced=True), 84, 901),
            kv(LAYOUT.standby_report("rootcoord", 6), encode_report(6, 70, synced=False), 71, 902),
            kv(LAYOUT.standby_report("rootcoord", 7), b"garbage", 72, 903),
        ],
    )
    status = role_status("rootcoord", sessions, heartbeats, reports, {})
    assert [(one.server_id, one.lag, one.synced) for one in status.standbys] == [
        (5, 3, True),
        (6, 0, False),
        (7, None, None),
    ]
    assert status.active is not None
    assert (status.active.lag, status.active.synced) == (None, None)  # what it said as a standby is past
