"""HPACK: the compression of HTTP/2's header blocks.

A `Decoder` belongs to one direction of one connection and must see every header block of it, in order, also
those of streams that nobody wants any more. `encode` keeps no state at all: it uses the static table and
literals without indexing, so a block that was made once may be sent again and again, on any connection.

Source of truth: RFC 7541; which names and values are malformed: RFC 9113, section 8.2.1.
"""

import re
from collections.abc import Iterable
from typing import Final

from coordd.http2 import huffman
from coordd.http2.owner import Field

_STATIC_NAMES: Final = """
    :authority :method :method :path :path :scheme :scheme
    :status :status :status :status :status :status :status
    accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age
    allow authorization cache-control content-disposition content-encoding content-language content-length
    content-location content-range content-type cookie date etag expect expires from host if-match
    if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards
    proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie
    strict-transport-security transfer-encoding user-agent vary via www-authenticate
"""
_STATIC_VALUES: Final = {
    2: "GET",
    3: "POST",
    4: "/",
    5: "/index.html",
    6: "http",
    7: "https",
    8: "200",
    9: "204",
    10: "206",
    11: "304",
    12: "400",
    13: "404",
    14: "500",
    16: "gzip, deflate",
}
STATIC: Final[tuple[Field, ...]] = (
    ("", ""),
    *((name, _STATIC_VALUES.get(index, "")) for index, name in enumerate(_STATIC_NAMES.split(), 1)),
)
"""Index → field; there is no index 0. Source: RFC 7541, appendix A."""

_FIRST_DYNAMIC: Final = len(STATIC)
_ENTRY_OVERHEAD: Final = 32
"""What each field counts on top of its name and value, in the table and in MAX_HEADER_LIST_SIZE."""
_LARGEST_STATIC: Final = max(len(name) + len(value) for name, value in STATIC) + _ENTRY_OVERHEAD
_MAX_INTEGER_BYTES: Final = 5
_MAX_CACHED_BLOCKS: Final = 64
_MAX_CACHED_BYTES: Final = 1024
"""Longest block that is remembered."""

_NAME: Final = re.compile(r":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_IN_VALUE: Final = re.compile(r"[\0\r\n]")


class HpackError(Exception):
    """The block cannot be decoded, and so no later one of this connection either."""


class HeadersRefused(Exception):
    """The block was decoded, but its fields are malformed or too large. Later blocks are not affected.

    `too_large` says which of the two.
    """

    def __init__(self, text: str, *, too_large: bool = False) -> None:
        super().__init__(text)
        self.too_large = too_large


class Decoder:
    """Decodes the header blocks of one direction of a connection.

    Most blocks of a connection are repetitions. While the dynamic table is unchanged equal blocks mean equal
    fields, so those that changed nothing are remembered until something changes it.

    Args:
        max_table: size of the dynamic table in bytes that the peer may use (SETTINGS_HEADER_TABLE_SIZE).
        max_header_bytes: size of one list of fields, counted as in SETTINGS_MAX_HEADER_LIST_SIZE.
    """

    __slots__ = (
        "_cache",
        "_changes",
        "_largest",
        "_limit",
        "_malformed",
        "_max_header_bytes",
        "_max_table",
        "_size",
        "_table",
    )

    def __init__(self, max_table: int = 4096, max_header_bytes: int = 16 << 10) -> None:
        self._max_table = self._limit = max_table
        self._max_header_bytes = max_header_bytes
        self._table = list(STATIC)
        self._size = 0
        self._cache: dict[bytes, list[Field]] = {}
        self._largest = _LARGEST_STATIC
        self._malformed = False
        self._changes = 0

    @property
    def table_bytes(self) -> int:
        """Size of the dynamic table, counted as RFC 7541, section 4.1."""
        return self._size

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a block, in order, as latin-1 text. The list may come again: leave it as it is.

        Raises:
            HpackError: the connection is of no use any more.
            HeadersRefused: the stream must be refused; the connection may go on.
        """
        known = self._cache.get(block)
        if known is not None:
            return known
        fields: list[Field] = []
        table = self._table
        at, end = 0, len(block)
        changes = self._changes
        try:
            while at < end:
                first = block[at]
                if 0x80 < first < 0xFF:
                    fields.append(table[first - 0x80])
                    at += 1
                else:
                    at = self._other(block, at, fields)
        except IndexError as error:
            raise HpackError("a header block is cut off, or names an entry that is not there") from error
        if self._malformed or len(fields) * self._largest > self._max_header_bytes:
            self._check(fields)
        if changes == self._changes and end <= _MAX_CACHED_BYTES:
            if len(self._cache) >= _MAX_CACHED_BLOCKS:
                self._cache.clear()
            self._cache[block] = fields
        return fields

    def _other(self, block: bytes, at: int, fields: list[Field]) -> int:
        """Decode what is no index of one byte; returns where the next representation begins."""
        first = block[at]
        if first & 0x80:
            index, at = _integer(block, at, 0x7F)
            if not index:
                raise HpackError("a header block uses index 0")
            fields.append(self._table[index])
            return at
        if first & 0x40:
            field, at = self._literal(block, at, 0x3F)
            self._insert(field)
        elif first & 0x20:
            if fields:
                raise HpackError("the size of the dynamic table changes within a header block")
            size, at = _integer(block, at, 0x1F)
            self._resize(size)
            return at
        else:
            field, at = self._literal(block, at, 0x0F)
        fields.append(field)
        return at

    def _literal(self, block: bytes, at: int, mask: int) -> tuple[Field, int]:
        """A field that is spelled out, its name perhaps by index, and where it ends."""
        index = block[at] & mask
        if not index:
            name, at = _string(block, at + 1)
            if not _NAME.fullmatch(name):
                self._malformed = True
        elif index < mask:
            name = self._table[index][0]
            at += 1
        else:
            index, at = _integer(block, at, mask)
            name = self._table[index][0]
        value, at = _string(block, at)
        if not value.isprintable() and _BAD_IN_VALUE.search(value):
            self._malformed = True
        size = len(name) + len(value) + _ENTRY_OVERHEAD
        self._largest = max(self._largest, size)
        return (name, value), at

    def _insert(self, field: Field) -> None:
        """Put a field at the front of the table; the oldest ones make room, at last the field itself."""
        self._changes += 1
        self._cache.clear()
        self._table.insert(_FIRST_DYNAMIC, field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        if self._size > self._limit:
            self._evict()

    def _resize(self, limit: int) -> None:
        if limit > self._max_table:
            raise HpackError(f"a dynamic table of {limit} bytes is more than the {self._max_table} agreed on")
        self._limit = limit
        self._changes += 1
        self._cache.clear()
        self._evict()

    def _evict(self) -> None:
        """Drop the oldest fields until the rest is within the limit."""
        while self._size > self._limit:
            self._size -= _size(self._table.pop())

    def _check(self, fields: list[Field]) -> None:
        """The exact check of a block, for a peer that sends large fields, or once sent a malformed one."""
        if sum(map(_size, fields)) > self._max_header_bytes:
            raise HeadersRefused(f"headers of more than {self._max_header_bytes} bytes", too_large=True)
        if self._malformed:
            for name, value in fields:
                if not _NAME.fullmatch(name) or _BAD_IN_VALUE.search(value):
                    raise HeadersRefused(f"malformed header {name[:64]!r}")


def encode(headers: Iterable[Field]) -> bytes:
    """A block that means these headers to every decoder, whatever it has seen. Names in lower case.

    Raises:
        ValueError: a name or value is not latin-1.
    """
    block = bytearray()
    for name, value in headers:
        index = _STATIC_INDEX.get((name, value))
        if index is not None:
            block.append(0x80 | index)
            continue
        _append_integer(block, 0x0F, _STATIC_INDEX_OF_NAME.get(name, 0))
        if name not in _STATIC_INDEX_OF_NAME:
            _append_string(block, name)
        _append_string(block, value)
    return bytes(block)


_STATIC_INDEX: Final = {field: index for index, field in enumerate(STATIC) if index in _STATIC_VALUES}
_STATIC_INDEX_OF_NAME: Final = {STATIC[index][0]: index for index in range(len(STATIC) - 1, 0, -1)}


def _append_string(block: bytearray, text: str) -> None:
    raw = text.encode("latin-1")
    _append_integer(block, 0x7F, len(raw))
    block += raw


def _append_integer(block: bytearray, mask: int, value: int) -> None:
    """RFC 7541, section 5.1; the bits of the first byte above `mask` are 0."""
    if value < mask:
        block.append(value)
        return
    block.append(mask)
    value -= mask
    while value > 0x7F:
        block.append(0x80 | value & 0x7F)
        value >>= 7
    block.append(value)


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """The integer whose first byte, under `mask`, is at `at`, and where it ends (RFC 7541, section 5.1)."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in range(0, 7 * _MAX_INTEGER_BYTES, 7):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("an integer in a header block is too long")


def _string(block: bytes, at: int) -> tuple[str, int]:
    """The string at `at`, and where it ends (RFC 7541, section 5.2)."""
    first = block[at]
    length = first & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(block, at - 1, 0x7F)
    end = at + length
    raw = block[at:end]
    if end > len(block):
        raise HpackError("a string in a header block is cut off")
    if first & 0x80:
        try:
            raw = huffman.decode(raw)
        except huffman.HuffmanError as error:
            raise HpackError(str(error)) from error
    return raw.decode("latin-1"), end


def _size(field: Field) -> int:
    """What a field counts in the table (RFC 7541, section 4.1)."""
    return len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
