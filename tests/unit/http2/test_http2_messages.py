"""gRPC's messages, time-outs and status texts."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.http2 import status
from coordd.http2.messages import MessageError, MessageReader, frame_message
from coordd.http2.status import decode_message, encode_message, format_timeout, parse_timeout


def packed(body: bytes) -> bytes:
    """A message with the flag for compressed ones."""
    return b"\x01" + len(body).to_bytes(4, "big") + body


def test_one_message_in_one_piece() -> None:
    reader = MessageReader(10)
    assert reader.feed(frame_message(b"0123456789")) == [b"0123456789"]
    assert not reader.partial


@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(1, 40))
def test_messages_in_pieces(bodies: list[bytes], size: int) -> None:
    reader = MessageReader(None)
    octets = b"".join(map(frame_message, bodies))
    found: list[bytes] = []
    for at in range(0, len(octets), size):
        found += reader.feed(octets[at : at + size])
    assert found == bodies
    assert not reader.partial


def test_a_message_that_is_not_complete() -> None:
    reader = MessageReader(None)
    assert reader.feed(b"\0\0\0") == []
    assert reader.partial
    assert reader.feed(b"\0\x02a") == []
    assert reader.feed(b"b") == [b"ab"]
    assert not reader.partial


def test_a_message_above_the_limit_is_refused_by_its_head() -> None:
    with pytest.raises(MessageError, match="larger than max") as caught:
        MessageReader(10).feed(frame_message(bytes(11))[:5])
    assert caught.value.code == status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("limit", [None, 1 << 30])
def test_what_unpacks_to_more_than_is_reasonable_is_refused_whatever_the_limit(limit: int | None) -> None:
    """A few bytes would hold up everybody for seconds."""
    assert MessageReader(limit, "gzip").feed(packed(gzip.compress(bytes(16 << 20))))
    with pytest.raises(MessageError) as caught:
        MessageReader(limit, "gzip").feed(packed(gzip.compress(bytes((16 << 20) + 1))))
    assert caught.value.code == status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("limit", [3_000, None])
def test_gzip(limit: int | None) -> None:
    reader = MessageReader(limit, "gzip")
    octets = packed(gzip.compress(b"x" * 3_000)) + frame_message(b"plain") + packed(gzip.compress(b""))
    assert reader.feed(octets) == [b"x" * 3_000, b"plain", b""]


@pytest.mark.parametrize(
    ("encoding", "octets", "code"),
    [
        ("gzip", packed(gzip.compress(b"x" * 3_001)), status.RESOURCE_EXHAUSTED),
        ("gzip", packed(gzip.compress(b"x") * 2), status.INTERNAL),
        ("gzip", packed(gzip.compress(b"x")[:-1]), status.INTERNAL),
        ("gzip", packed(b""), status.INTERNAL),
        ("gzip", packed(b"no gzip at all"), status.INTERNAL),
        ("identity", packed(b"x"), status.INTERNAL),
        ("zstd", packed(b"x"), status.UNIMPLEMENTED),
        ("identity", b"\x02\0\0\0\0", status.INTERNAL),
    ],
    ids=[
        "a bomb",
        "two members",
        "cut off",
        "empty",
        "not gzip",
        "unannounced",
        "unknown",
        "unknown flag",
    ],
)
def test_messages_that_cannot_be_unpacked(encoding: str, octets: bytes, code: int) -> None:
    with pytest.raises(MessageError) as caught:
        MessageReader(3_000, encoding).feed(octets)
    assert caught.value.code == code
    assert MessageReader(3_000, encoding).feed(frame_message(b"plain")) == [b"plain"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0n"),
        (-1, "0n"),
        (1e-9, "1u"),
        (0.25, "250000u"),
        (99.999_999, "99999999u"),
        (100, "100000m"),
        (86_400, "86400000m"),
        (100_000, "100000S"),
        (1e8, "27778H"),
        (1e20, "99999999H"),
    ],
)
def test_timeouts(seconds: float, text: str) -> None:
    assert format_timeout(seconds) == text


@given(st.floats(1e-6, 3e8))
def test_a_timeout_is_never_told_shorter_than_it_is(seconds: float) -> None:
    told = parse_timeout(format_timeout(seconds))
    assert told is not None
    assert seconds * (1 - 1e-9) <= told <= seconds * 1.001 + 1e-6


def test_a_timeout_of_an_age_is_none() -> None:
    assert parse_timeout("99999999H") is None
    assert parse_timeout("12M") == 720.0


@pytest.mark.parametrize("text", ["", "S", "1", "-1S", "1.5S", "123456789S", "1s", "1 S", "\u0661S"])
def test_malformed_timeouts(text: str) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_timeout(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_messages_survive_the_header(text: str) -> None:
    value = encode_message(text)
    assert value.isascii()
    assert "\n" not in value
    assert decode_message(value) == text


def test_messages_as_headers() -> None:
    assert encode_message("50% \u00e9\n") == "50%25 %C3%A9%0A"
    assert decode_message("%zz 100% %e2%82%ac %ff") == "%zz 100% \u20ac \ufffd"
