"""Header compression against a second decoder's view of the same table: random blocks of one connection.

The encoder here keeps a dynamic table of its own, written straight from RFC 7541 sections 2 to 6, and picks
any of the representations that say the same.
"""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from coordd.http2.hpack import Decoder, HeadersRefused, HpackError, encode
from coordd.http2.huffman import HuffmanError, decode
from tests.support.http2 import from_bits, huffman, huffman_bits, integer

STATIC = {(":method", "GET"): 2, (":method", "POST"): 3, (":path", "/"): 4, (":status", "200"): 8}
STATIC_NAMES = {":authority": 1, ":method": 2, ":path": 4, "content-type": 31, "user-agent": 58}

names = st.sampled_from([":method", ":path", "content-type", "user-agent", "a", "x-long-name"]) | st.text(
    "abz019-_.!~", min_size=1, max_size=12
)
values = st.sampled_from(["GET", "POST", "/", "", "1", "x" * 60, "x" * 200]) | st.text(
    st.characters(max_codepoint=255, exclude_characters="\0\r\n"), max_size=24
)
fields = st.lists(st.tuples(names, values), max_size=8)


@dataclass
class Encoder:
    """A peer that compresses as it likes."""

    limit: int
    size_limit: int = field(init=False)
    table: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size_limit = self.limit

    def resize(self, size: int) -> bytes:
        self.size_limit = size
        self._evict()
        return integer(size, 5, 0x20)

    def field(self, name: str, value: str, *, form: int, coded: bool) -> bytes:
        """`form`: 0 as short as may be, 1 with indexing, 2 without, 3 never indexed."""
        pair = (name, value)
        if form == 0 and pair in self.table:
            return integer(62 + self.table.index(pair), 7, 0x80)
        if form == 0 and pair in STATIC:
            return integer(STATIC[pair], 7, 0x80)
        first, bits = ((0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4))[form]
        index = STATIC_NAMES.get(name)
        if index is None:
            index = next((62 + at for at, entry in enumerate(self.table) if entry[0] == name), None)
        head = integer(index or 0, bits, first)
        out = head if index else head + text(name, coded=coded)
        if first == 0x40:
            self.table.insert(0, pair)
            self._evict()
        return out + text(value, coded=coded)

    def _evict(self) -> None:
        while sum(len(name) + len(value) + 32 for name, value in self.table) > self.size_limit:
            self.table.pop()


def text(plain: str, *, coded: bool) -> bytes:
    octets = plain.encode("latin-1")
    return huffman(octets) if coded else integer(len(octets), 7) + octets


resizes = st.none() | st.integers(0, 100)
"""Of the table, in percent of its limit, before a block."""
forms = st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans())
"""Form of the first field of a block, what to add to it for each next one, and whether Huffman-coded."""


@settings(max_examples=250)
@given(
    limit=st.sampled_from([0, 64, 100, 256, 4096]),
    blocks=st.lists(st.tuples(fields, resizes, forms), max_size=8),
    repeats=st.integers(1, 3),
)
def test_any_encoding_of_any_fields_is_read_back(
    limit: int,
    blocks: list[tuple[list[tuple[str, str]], int | None, tuple[int, int, bool]]],
    repeats: int,
) -> None:
    decoder, encoder = Decoder(max_table=limit), Encoder(limit)
    for said, percent, (form, step, coded) in blocks:
        octets = b"" if percent is None else encoder.resize(limit * percent // 100)
        for _ in range(repeats):  # the same octets over a table that changes each time
            for at, (name, value) in enumerate(said):
                octets += encoder.field(name, value, form=(form + at * step) & 3, coded=coded)
            assert decoder.decode(octets) == said
            whole = b"".join(integer(62 + at, 7, 0x80) for at in range(len(encoder.table)))
            assert decoder.decode(whole) == encoder.table
            octets = b""
        for _ in range(repeats):  # the short form, which soon is the same octets over an unchanged table
            again = b"".join(encoder.field(*pair, form=0, coded=True) for pair in said)
            assert decoder.decode(again) == said


@given(fields)
def test_own_encoding_is_read_back(said: list[tuple[str, str]]) -> None:
    assert Decoder().decode(encode(said)) == said


@given(st.binary(max_size=64))
def test_every_octet_string_survives_huffman_coding(octets: bytes) -> None:
    coded = from_bits(huffman_bits(octets))
    assert decode(coded) == octets


def test_every_octet_has_its_code() -> None:
    for octet in range(256):
        assert decode(from_bits(huffman_bits([octet] * 3))) == bytes([octet] * 3)


@given(st.binary(max_size=64))
def test_an_octet_string_has_one_code_at_most(coded: bytes) -> None:
    """What is taken is exactly what a correct peer would have sent."""
    try:
        octets = decode(coded)
    except HuffmanError:
        return
    assert from_bits(huffman_bits(octets)) == coded


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_whatever_comes_is_fields_within_the_limit_or_an_error(blocks: list[bytes]) -> None:
    decoder = Decoder(max_table=200, max_header_bytes=1000)
    for octets in blocks:
        try:
            said = decoder.decode(octets)
        except HpackError:
            return
        except HeadersRefused:
            continue
        assert sum(len(name) + len(value) + 32 for name, value in said) <= 1000
