"""Values in and out, and what is said of those that do not decode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.meta import codecs
from coordd.meta.codecs import DecodeError
from coordd.pb import etcd_meta_pb2


@given(st.integers(0, 2**63 - 1))
def test_times_come_back(time_ns: int) -> None:
    assert codecs.decode_time_ns("k", codecs.encode_time_ns(time_ns)) == time_ns


def test_time_is_eight_big_endian_bytes() -> None:
    assert codecs.encode_time_ns(0x0102030405060708) == bytes([1, 2, 3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize("value", [b"", b"1234567", b"123456789", b"\xff" * 8])
def test_other_bytes_are_no_time(value: bytes) -> None:
    with pytest.raises(DecodeError, match="by-dev/kv/gid/timestamp"):
        codecs.decode_time_ns("by-dev/kv/gid/timestamp", value)


@pytest.mark.parametrize("time_ns", [-1, 2**63])
def test_times_out_of_range_are_not_written(time_ns: int) -> None:
    with pytest.raises(OverflowError):
        codecs.encode_time_ns(time_ns)


@given(st.text())
def test_credentials_come_back(password: str) -> None:
    assert codecs.decode_credential("k", codecs.encode_credential(password)) == password


def test_credential_is_what_milvus_writes() -> None:
    assert codecs.encode_credential("$2a$04$x") == b'{"encrypted_password":"$2a$04$x"}'


def test_further_members_of_a_credential_are_ignored() -> None:
    assert codecs.decode_credential("k", b'{"encrypted_password": "x", "tenant": "t"}') == "x"


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"\xff", b"null", b"[]", b"{}", b'{"encrypted_password": 1}', b'"encrypted_password"'],
)
def test_other_bytes_are_no_credential(value: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        codecs.decode_credential("users/bob", value)
    assert caught.value.key == "users/bob"
    assert caught.value.reason in str(caught.value)


def test_protobuf_comes_back() -> None:
    info = etcd_meta_pb2.DatabaseInfo(id=5, name="db")
    assert codecs.decode_proto("k", codecs.encode_proto(info), etcd_meta_pb2.DatabaseInfo) == info


@pytest.mark.parametrize("value", [b"\xff\xff", b"\x12\x05ab", b"\x12\x02\xff\xfe"])
def test_other_bytes_are_no_protobuf(value: bytes) -> None:
    with pytest.raises(DecodeError, match=r"not a milvus\.proto\.etcd\.DatabaseInfo"):
        codecs.decode_proto("k", value, etcd_meta_pb2.DatabaseInfo)


def test_text() -> None:
    assert codecs.decode_text("k", "é".encode()) == "é"
    with pytest.raises(DecodeError):
        codecs.decode_text("k", b"\xff")


def test_tombstone() -> None:
    assert codecs.is_tombstone(bytes.fromhex("E29BBC"))
    assert not codecs.is_tombstone(b"")
    assert not codecs.is_tombstone(None)
