"""Header blocks: what is remembered, what is refused, what ends the connection."""

import pytest

from coordd.http2 import huffman
from coordd.http2.hpack import STATIC, Decoder, HeadersRefused, HpackError, encode

INDEXED_A = b"\x40\x01a\x01b"
"""The field a: b, put into the table."""
NEWEST = b"\xbe"
"""The newest entry of the table."""


def test_every_octet_has_one_code_and_the_codes_fill_the_tree() -> None:
    codes = huffman.codes()
    assert sorted(codes) == list(range(257))
    assert sum(2.0**-length for _, length in codes.values()) == 1.0


def test_huffman_text_of_every_octet() -> None:
    codes = huffman.codes()
    text = bytes(range(256))
    bits = "".join(f"{codes[octet][0]:0{codes[octet][1]}b}" for octet in text)
    bits += "1" * (-len(bits) % 8)
    assert huffman.decode(int(bits, 2).to_bytes(len(bits) // 8, "big")) == text


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00\x7f\xff", b"\x1f\xff", b"\x18"],
    ids=["EOS", "a symbol cut off", "too much padding", "padding of zeros"],
)
def test_what_is_no_huffman_text(raw: bytes) -> None:
    with pytest.raises(huffman.HuffmanError):
        huffman.decode(raw)


def test_the_static_table_has_61_entries_in_order() -> None:
    assert len(STATIC) == 62
    assert [STATIC[index] for index in (1, 8, 16, 31, 58, 61)] == [
        (":authority", ""),
        (":status", "200"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", ""),
        ("user-agent", ""),
        ("www-authenticate", ""),
    ]


def test_a_block_means_the_same_until_the_table_changes() -> None:
    decoder = Decoder()
    decoder.decode(INDEXED_A)
    once = decoder.decode(NEWEST + b"\x83")
    assert decoder.decode(NEWEST + b"\x83") is once
    decoder.decode(b"\x40\x01c\x01d")
    assert decoder.decode(NEWEST + b"\x83") == [("c", "d"), (":method", "POST")]
    assert once == [("a", "b"), (":method", "POST")]


def test_a_block_that_changes_the_table_changes_it_each_time() -> None:
    decoder = Decoder()
    assert decoder.decode(INDEXED_A) == decoder.decode(INDEXED_A) == [("a", "b")]
    assert decoder.table_bytes == 2 * 34


def test_the_oldest_entries_make_room() -> None:
    decoder = Decoder(max_table=100)
    for name in (b"a", b"c", b"e"):
        decoder.decode(b"\x40\x01" + name + b"\x01x")
    assert decoder.decode(b"\xbe\xbf") == [("e", "x"), ("c", "x")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xc0")
    decoder.decode(b"\x40\x01l\x7f\x01" + b"x" * 128)
    assert decoder.table_bytes == 0


def test_the_size_of_the_table_may_change_before_a_block_only() -> None:
    decoder = Decoder()
    decoder.decode(INDEXED_A)
    assert decoder.decode(b"\x20\x3f\xe1\x1f\x83") == [(":method", "POST")]
    assert decoder.table_bytes == 0
    with pytest.raises(HpackError):
        decoder.decode(b"\x83\x20")
    with pytest.raises(HpackError):
        Decoder().decode(b"\x3f\xe2\x1f")


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xff",
        b"\xbe",
        b"\x40",
        b"\x40\x05ab",
        b"\x00\x01a",
        b"\xff\x80\x80\x80\x80\x80\x80",
        b"\x00\x81\x00\x00",
    ],
    ids=[
        "index 0",
        "an index cut off",
        "no such entry",
        "no name",
        "half a name",
        "no value",
        "endless",
        "bad code",
    ],
)
def test_blocks_that_do_not_decode(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(block)


@pytest.mark.parametrize(
    "field", [b"\x01A\x01x", b"\x00\x01x", b"\x02a \x01x", b"\x01a\x03x\ny", b"\x01a\x01\0"]
)
def test_malformed_fields_are_refused_and_the_table_stays_right(field: bytes) -> None:
    decoder = Decoder()
    with pytest.raises(HeadersRefused) as caught:
        decoder.decode(b"\x40" + field + INDEXED_A)
    assert not caught.value.too_large
    assert decoder.decode(NEWEST) == [("a", "b")]
    with pytest.raises(HeadersRefused):
        decoder.decode(b"\xbf")


def test_headers_above_the_limit_are_refused_and_the_table_stays_right() -> None:
    decoder = Decoder(max_header_bytes=100)
    decoder.decode(INDEXED_A)
    with pytest.raises(HeadersRefused) as caught:
        decoder.decode(NEWEST * 3)
    assert caught.value.too_large
    assert decoder.decode(NEWEST * 2) == [("a", "b")] * 2


def test_encoded_blocks_leave_no_trace() -> None:
    headers = [
        (":method", "POST"),
        (":path", "/a/B"),
        ("te", "trailers"),
        ("x-long", "v" * 500),
        ("x-latin", "\xe9"),
    ]
    decoder = Decoder()
    assert decoder.decode(encode(headers)) == headers
    assert decoder.table_bytes == 0
    with pytest.raises(ValueError, match="latin-1"):
        encode([("a", "\u20ac")])
