"""gRPC messages that are made to cost more than they bring."""

import gzip
import struct
import tracemalloc

import pytest

from coordd.http2.messages import MessageError, MessageReader, frame_message
from coordd.http2.status import INTERNAL, RESOURCE_EXHAUSTED
from tests.support.http2 import deep_size

LIMIT = 1 << 20


def packed(body: bytes) -> bytes:
    return struct.pack(">BI", 1, len(body)) + body


def test_a_message_in_tiny_pieces_is_kept_at_about_its_size() -> None:
    reader = MessageReader(LIMIT)
    body = bytes(range(256)) * 2_000
    octets = frame_message(body)
    found: list[bytes] = []
    for at in range(0, len(octets), 3):
        found += reader.feed(octets[at : at + 3])
        if at == 3 * 100_000:
            assert deep_size(reader) < 4 * at
    assert found == [body]


def test_tiny_pieces_between_larger_ones() -> None:
    reader = MessageReader(LIMIT)
    body = bytes(range(256)) * 400
    octets = frame_message(body) + frame_message(b"next")
    found: list[bytes] = []
    at = 0
    for size in (3, 5_000, 1, 1, 1, 20_000, 2, 7, 30_000, 1, 40_000, 9_000):
        found += reader.feed(octets[at : at + size])
        at += size
    assert found == [body, b"next"]
    assert not reader.partial


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_gzip_of_ever_more_members_is_refused(limit: int | None) -> None:
    """Each is 20 octets of nothing; unpacking them one by one would stop the loop for minutes."""
    with pytest.raises(MessageError) as caught:
        MessageReader(limit, "gzip").feed(packed(gzip.compress(b"") * 50_000))
    assert caught.value.code in (INTERNAL, RESOURCE_EXHAUSTED)


def test_gzip_that_unfolds_a_thousandfold_is_not_unfolded() -> None:
    bomb = packed(gzip.compress(bytes(60 << 20)))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(MessageError) as caught:
            MessageReader(LIMIT, "gzip").feed(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == RESOURCE_EXHAUSTED
    assert most < 8 * LIMIT


def test_a_message_that_unpacks_to_just_the_limit() -> None:
    body = bytes(LIMIT)
    assert MessageReader(LIMIT, "gzip").feed(packed(gzip.compress(body))) == [body]
    with pytest.raises(MessageError):
        MessageReader(LIMIT - 1, "gzip").feed(packed(gzip.compress(body)))


def test_many_messages_in_one_piece() -> None:
    reader = MessageReader(10)
    assert len(reader.feed(frame_message(b"") * 10_000)) == 10_000
