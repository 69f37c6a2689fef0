"""Header compression against the examples of RFC 7541, appendix C, and against its rules for bad input."""

import pytest

from coordd.http2.hpack import Decoder, HeadersRefused, HpackError, encode
from tests.support.http2 import EOS, from_bits, huffman, huffman_bits, integer, literal

DATE = "Mon, 21 Oct 2013 20:13:21 GMT"
DATE_LATER = "Mon, 21 Oct 2013 20:13:22 GMT"
SITE = "https://www.example.com"
COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
REQUESTS = [
    GET,
    [*GET, ("cache-control", "no-cache")],
    [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
]
RESPONSES = [
    [(":status", "302"), ("cache-control", "private"), ("date", DATE), ("location", SITE)],
    [(":status", "307"), ("cache-control", "private"), ("date", DATE), ("location", SITE)],
    [
        (":status", "200"),
        ("cache-control", "private"),
        ("date", DATE_LATER),
        ("location", SITE),
        ("content-encoding", "gzip"),
        ("set-cookie", COOKIE),
    ],
]

SINGLE = {
    "C.2.1 literal with indexing": (
        "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
        [("custom-key", "custom-header")],
    ),
    "C.2.2 literal without indexing": ("040c2f73616d706c652f70617468", [(":path", "/sample/path")]),
    "C.2.3 literal never indexed": ("100870617373776f726406736563726574", [("password", "secret")]),
    "C.2.4 indexed": ("82", [(":method", "GET")]),
}

# (size of the dynamic table, blocks of one connection, what they say)
SEQUENCES = {
    "C.3 requests": (
        4096,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        REQUESTS,
    ),
    "C.4 requests with Huffman coding": (
        4096,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        REQUESTS,
    ),
    "C.5 responses, entries evicted": (
        256,
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738"
            "666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33363030"
            "3b2076657273696f6e3d31",
        ],
        RESPONSES,
    ),
    "C.6 responses with Huffman coding": (
        256,
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8"
            "e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
            "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        RESPONSES,
    ),
}


@pytest.mark.parametrize(("octets", "fields"), SINGLE.values(), ids=SINGLE.keys())
def test_a_field_of_each_form(octets: str, fields: list[tuple[str, str]]) -> None:
    assert Decoder().decode(bytes.fromhex(octets)) == fields


@pytest.mark.parametrize(("size", "blocks", "fields"), SEQUENCES.values(), ids=SEQUENCES.keys())
def test_the_blocks_of_one_connection(
    size: int, blocks: list[str], fields: list[list[tuple[str, str]]]
) -> None:
    decoder = Decoder(max_table=size)
    assert [decoder.decode(bytes.fromhex(block)) for block in blocks] == fields


def test_the_static_table_is_that_of_appendix_a() -> None:
    """Places that are easily shifted by one; 61 is the last."""
    known = {
        1: (":authority", ""),
        3: (":method", "POST"),
        7: (":scheme", "https"),
        8: (":status", "200"),
        14: (":status", "500"),
        15: ("accept-charset", ""),
        16: ("accept-encoding", "gzip, deflate"),
        17: ("accept-language", ""),
        31: ("content-type", ""),
        32: ("cookie", ""),
        38: ("host", ""),
        46: ("location", ""),
        58: ("user-agent", ""),
        61: ("www-authenticate", ""),
    }
    decoder = Decoder()
    for index, field in known.items():
        assert decoder.decode(integer(index, 7, 0x80)) == [field]
    with pytest.raises(HpackError):
        Decoder().decode(integer(62, 7, 0x80))


BAD = {
    "index 0": b"\x80",
    "an index beyond the static table, dynamic one empty": b"\xbe",
    "a name index beyond both tables": b"\x7e\x01a",
    "an integer that ends within": b"\xff",
    "an integer that goes on": b"\xff\x80\x80",
    "an integer of a thousand octets": b"\xff" + b"\x80" * 1000 + b"\x01",
    "an integer above any index": b"\xff" + b"\xff" * 9 + b"\x01",
    "an integer with a tail of zeros": b"\x3f" + b"\x80" * 100 + b"\x00",
    "a name longer than the block": b"\x00\x05abc",
    "a name and no value": b"\x00\x01a",
    "a value longer than the block": b"\x00\x01a\x7f\xff\xff\xff\x07",
    "a table size above the agreed one": b"\x3f\xe2\x1f",
    "a table size after a field": b"\x82\x20",
    "Huffman: padding of eight ones": b"\x00\x01a\x82\x1f\xff",
    "Huffman: padding of zeros": b"\x00\x01a\x81\x18",
    "Huffman: EOS": b"\x00\x01a\x84\xff\xff\xff\xff",
    "Huffman: EOS between symbols": literal(b"a", b"")[:-1]
    + integer(5, 7, 0x80)
    + from_bits(huffman_bits([ord("a"), EOS, ord("a")])),
    "Huffman: a code that ends within": b"\x00\x01a\x81\xfe",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_bad_blocks(octets: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder().decode(octets)


def test_size_updates_at_the_start_of_a_block() -> None:
    decoder = Decoder()
    decoder.decode(literal(b"a", b"1", first=0x40))
    assert decoder.decode(b"\xbe") == [("a", "1")]
    # Down to nothing and up again: RFC 7541 section 4.2 wants both said.
    assert decoder.decode(b"\x20\x3f\xe1\x1f\x82") == [(":method", "GET")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


def test_an_entry_above_the_table_empties_it() -> None:
    decoder = Decoder(max_table=64)
    decoder.decode(literal(b"a", b"1", first=0x40))
    assert decoder.decode(literal(b"a" * 40, b"1", first=0x40)) == [("a" * 40, "1")]
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


def test_an_entry_may_take_its_name_from_one_that_it_evicts() -> None:
    """RFC 7541 section 4.4."""
    decoder = Decoder(max_table=70)
    decoder.decode(literal(b"name", b"x" * 20, first=0x40))
    assert decoder.decode(b"\x7e" + integer(24, 7) + b"y" * 24) == [("name", "y" * 24)]
    assert decoder.decode(b"\xbe") == [("name", "y" * 24)]


def test_a_repeated_block_that_adds_to_the_table_adds_each_time() -> None:
    decoder = Decoder()
    adding = literal(b"a", b"1", first=0x40)
    for _ in range(3):
        decoder.decode(adding)
    assert decoder.decode(b"\xbe\xbf\xc0") == [("a", "1")] * 3
    with pytest.raises(HpackError):
        decoder.decode(b"\xc1")


def test_a_block_means_something_else_when_the_table_has_changed() -> None:
    """What was remembered of a block must not outlive the table that it was decoded with."""
    decoder = Decoder()
    decoder.decode(literal(b"a", b"1", first=0x40))
    for _ in range(3):
        assert decoder.decode(b"\xbe") == [("a", "1")]
    decoder.decode(literal(b"b", b"2", first=0x40))
    assert decoder.decode(b"\xbe") == [("b", "2")]
    assert decoder.decode(b"\xbf") == [("a", "1")]
    decoder.decode(b"\x20")
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    "bomb",
    [
        literal(b"a", b"x" * 5000),
        literal(b"a", b"x" * 40) * 100,
        literal(b"a", b"x" * 1000, first=0x40) + b"\xbe" * 1000,
        b"\x82" * 5000,
        literal(b"", b"") * 500,
    ],
    ids=["one field", "many fields", "references to a large entry", "references", "nothing, often"],
)
def test_headers_above_the_limit_are_refused(bomb: bytes) -> None:
    """The size is that of RFC 9113 section 6.5.2: names, values and 32 octets for each field."""
    decoder = Decoder(max_header_bytes=4096)
    with pytest.raises(HeadersRefused) as caught:
        decoder.decode(bomb)
    assert caught.value.too_large
    assert decoder.decode(b"\x82") == [(":method", "GET")]


MALFORMED = {
    "an upper-case name": literal(b"Name", b"x"),
    "a name with a space": literal(b"na me", b"x"),
    "a name of nothing": literal(b"", b"x"),
    "a name that is no ASCII": literal(b"na\xefve", b"x"),
    "a colon within a name": literal(b"na:me", b"x"),
    "a line break in a value": literal(b"name", b"x\r\nother: y"),
    "a line feed in a value": literal(b"name", b"x\ny"),
    "a zero in a value": literal(b"name", b"x\0"),
    "a line break, Huffman-coded": b"\x00\x01a" + huffman(b"\r\n"),
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_fields_are_refused(octets: bytes) -> None:
    """RFC 9113 section 8.2.1. The table goes on: later blocks may be well-formed."""
    decoder = Decoder()
    with pytest.raises(HeadersRefused) as caught:
        decoder.decode(literal(b"a", b"1", first=0x40) + octets)
    assert not caught.value.too_large
    for _ in range(2):
        assert decoder.decode(b"\xbe") == [("a", "1")]


def test_a_malformed_field_in_the_table_is_refused_wherever_it_is_used() -> None:
    decoder = Decoder()
    for block in (literal(b"Upper", b"x", first=0x40), b"\xbe", b"\x82\xbe", b"\xbe"):
        with pytest.raises(HeadersRefused):
            decoder.decode(block)
    assert decoder.decode(literal(b"a", b"1", first=0x40)) == [("a", "1")]
    with pytest.raises(HeadersRefused):
        decoder.decode(b"\xbf")
    with pytest.raises(HeadersRefused):
        decoder.decode(b"\x7f\x00\x01x")  # its name with another value


def test_headers_just_below_the_limit_are_taken() -> None:
    name, value = b"a" * 10, b"x" * (4096 - 32 - 10 - 1)
    assert len(Decoder(max_header_bytes=4096).decode(literal(name, value))) == 1


def test_what_is_encoded_touches_no_table() -> None:
    """So one block serves every connection, as often as wanted: a decoder without a table reads it."""
    fields = [(":status", "200"), ("content-type", "application/grpc"), ("x-odd", "\xe4\xff")]
    block = encode(fields)
    assert block == encode(fields)
    decoder = Decoder(max_table=0)
    for _ in range(3):
        assert decoder.decode(block) == fields


def test_common_fields_cost_one_octet() -> None:
    assert encode([(":method", "POST"), (":scheme", "http"), (":status", "200")]) == b"\x83\x86\x88"
