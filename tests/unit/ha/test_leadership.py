"""What a replica takes from session and heartbeat keys, good and bad."""

import pytest

from coordd.etcd import Event
from coordd.ha.leadership import HeartbeatTable, SessionTable, decode_heartbeat, encode_heartbeat
from coordd.ha.session import SessionRecord
from coordd.meta.codecs import DecodeError
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")


def put(key: str, value: bytes, revision: int, lease: int = 0) -> Event:
    return Event(key, value, revision, revision, lease, 1)


def record(server_id: int, role: str = "rootcoord") -> bytes:
    return SessionRecord(server_id=server_id, server_name=role, address="a:1", version="2.3.5").to_json()


def test_sessions_by_name_and_by_role_in_order_of_server_id() -> None:
    table = SessionTable(LAYOUT)
    for server_id in (10, 9, 100):
        table.apply(put(LAYOUT.session("rootcoord", server_id), record(server_id), server_id))
    table.apply(put(LAYOUT.session("rootcoord"), record(9), 200, lease=7))
    table.apply(put(LAYOUT.server_id_counter, b"101", 201))
    assert [entry.record.server_id for entry in table.of_role("rootcoord") if entry.record] == [9, 10, 100]
    active = table.get("rootcoord")
    assert active is not None
    assert (active.mod_revision, active.lease) == (200, 7)
    assert table.get("id") is None
    table.apply(Event(LAYOUT.session("rootcoord"), None, 202, 0, 0, 0))
    assert table.get("rootcoord") is None


def test_an_active_record_that_does_not_decode_still_holds_the_role() -> None:
    """Were it taken for absent, a standby would campaign against a key that is there, for ever."""
    sessions, heartbeats = SessionTable(LAYOUT), HeartbeatTable(LAYOUT)
    fold = Fold([sessions, heartbeats])
    key = LAYOUT.session("rootcoord")
    fold.apply_commit(5, [put(key, b"not json", 5)])
    entry = sessions.get("rootcoord")
    assert entry is not None
    assert entry.record is None
    assert key in fold.quarantine
    fold.apply_commit(6, [put(key, record(3), 6)])
    assert key not in fold.quarantine


def test_heartbeats_say_who_and_how_long() -> None:
    table = HeartbeatTable(LAYOUT)
    key = LAYOUT.heartbeat("rootcoord")
    table.apply(put(key, encode_heartbeat(12, 2500, settled=True), 8))
    beat = table.get("rootcoord")
    assert beat is not None
    assert (beat.mod_revision, beat.server_id, beat.serve_guard_s) == (8, 12, 2.5)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"[]",
        b"12",
        b'{"ServerID":1,"ServeGuardMs":"soon"}',
        b'{"ServerID":1,"ServeGuardMs":1e999}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_heartbeat_that_does_not_decode_counts_as_one_that_says_nothing(value: bytes) -> None:
    table = HeartbeatTable(LAYOUT)
    with pytest.raises(DecodeError):
        table.apply(put(LAYOUT.heartbeat("rootcoord"), value, 8))
    beat = table.get("rootcoord")
    assert beat is not None
    assert (beat.mod_revision, beat.serve_guard_s) == (8, None)


def test_a_heartbeat_is_the_documented_json() -> None:
    assert encode_heartbeat(12, 2000, settled=True) == b'{"ServerID":12,"ServeGuardMs":2000,"Settled":true}'
    assert encode_heartbeat(12, 2000, settled=False) == b'{"ServerID":12,"ServeGuardMs":2000,"Settled":false}'


@pytest.mark.parametrize("settled", [True, False])
def test_a_heartbeat_reads_as_it_was_written(settled: bool) -> None:
    assert decode_heartbeat(encode_heartbeat(12, 2500, settled=settled)) == (12, 2.5, settled)


@pytest.mark.parametrize("settled", ["", ',"Settled":null', ',"Settled":1', ',"Settled":"true"'])
def test_a_heartbeat_that_does_not_say_in_so_many_words_is_not_settled(settled: str) -> None:
    """Taken for settled, it would let a successor serve while somebody before may still answer."""
    beat = decode_heartbeat(f'{{"ServerID":12,"ServeGuardMs":2500{settled}}}'.encode())
    assert beat == (12, 2.5, False)


def test_a_guard_below_zero_is_no_guard() -> None:
    with pytest.raises(ValueError, match="ServeGuardMs"):
        decode_heartbeat(b'{"ServerID":12,"ServeGuardMs":-1,"Settled":true}')


def test_a_heartbeat_that_goes_is_forgotten() -> None:
    table = HeartbeatTable(LAYOUT)
    key = LAYOUT.heartbeat("rootcoord")
    table.apply(put(key, encode_heartbeat(12, 2500, settled=True), 8))
    table.apply(Event(key, None, 9, 0, 0, 0))
    assert table.get("rootcoord") is None


def test_an_unreadable_heartbeat_is_not_settled() -> None:
    table = HeartbeatTable(LAYOUT)
    with pytest.raises(DecodeError):
        table.apply(put(LAYOUT.heartbeat("rootcoord"), b'{"Settled":true}', 8))
    beat = table.get("rootcoord")
    assert beat is not None
    assert not beat.settled


@pytest.mark.parametrize(
    "value",
    [
        b'{"ServerName":"rootcoord","Address":"a:1","Version":"2.3.5"}',
        b'{"ServerID":3,"ServerName":"rootcoord","Address":"a:1","Version":"2.3.5","HostName":"h","New":{}}',
    ],
)
def test_a_record_without_our_promise_is_that_of_a_milvus_coordinator(value: bytes) -> None:
    table = SessionTable(LAYOUT)
    table.apply(put(LAYOUT.session("rootcoord"), value, 8, lease=7))
    entry = table.get("rootcoord")
    assert entry is not None
    assert entry.record is not None
    assert entry.record.safety is None
