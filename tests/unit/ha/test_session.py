"""The session record, byte for byte as Milvus writes it, and as Milvus 2.2.3 to 2.5 write it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.ha.session import Safety, SessionRecord, SessionRecordError

RECORD = SessionRecord(
    server_id=12,
    server_name="rootcoord",
    address="10.0.0.5:53100",
    version="2.3.5",
    lease_id=7587876543210,
    host_name="pod-a",
)


def test_the_json_is_milvus_own() -> None:
    assert RECORD.to_json() == (
        b'{"ServerID":12,"ServerName":"rootcoord","Address":"10.0.0.5:53100","Exclusive":true,"TriggerKill":true,'
        b'"Version":"2.3.5","IndexEngineVersion":{},"LeaseID":7587876543210,"HostName":"pod-a"}'
    )


def test_coordds_promise_is_one_more_object() -> None:
    record = SessionRecord(
        server_id=12,
        server_name="rootcoord",
        address="a:1",
        version="2.3.5",
        safety=Safety(2000, 17, "b", "n", 4, 5),
    )
    fields = json.loads(record.to_json())
    assert list(fields)[-1] == "Coordd"
    assert fields["Coordd"] == {
        "ServeGuardMs": 2000, "SinceMs": 17, "BootID": "b", "PidNamespace": "n", "Pid": 4, "StartTicks": 5,
    }  # fmt: skip
    assert SessionRecord.from_json(record.to_json()) == record


def test_a_promise_without_a_start_parses() -> None:
    record = SessionRecord.from_json(b'{"Coordd":{"ServeGuardMs":2000,"BootID":"b","Pid":4}}')
    assert record.safety == Safety(2000, boot_id="b", pid=4, start_ticks=0)


@pytest.mark.parametrize(
    "value",
    [
        b'{"ServerID":3,"ServerName":"rootcoord","Address":"1.2.3.4:53100","Exclusive":true,"TriggerKill":true,'
        b'"Version":"2.2.3"}',
        b'{"ServerID":3,"ServerName":"querynode","Address":"1.2.3.4:21123","TriggerKill":true,"Version":"2.5.24",'
        b'"IndexEngineVersion":{"MinimalIndexVersion":0,"CurrentIndexVersion":6},"ScalarIndexEngineVersion":{},'
        b'"IndexNonEncoding":true,"LeaseID":5,"HostName":"h","ServerLabels":{"zone":"a"}}',
    ],
)
def test_records_of_other_versions_parse(value: bytes) -> None:
    record = SessionRecord.from_json(value)
    assert record.server_id == 3
    assert record.safety is None


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "list"),
        (b"[" * 100_000, "not JSON"),
        (b'{"ServerID":"3"}', "ServerID"),
        (b'{"ServerID":true}', "ServerID"),
        (b'{"Address":7}', "Address"),
        (b'{"Coordd":{"Pid":"x"}}', "Pid"),
    ],
)
def test_what_is_no_record_is_refused_by_field(value: bytes, names: str) -> None:
    with pytest.raises(SessionRecordError, match=names):
        SessionRecord.from_json(value)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_escape_as_another_error(value: bytes) -> None:
    try:
        SessionRecord.from_json(value)
    except SessionRecordError:
        return
