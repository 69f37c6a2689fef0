"""The bytes of a transaction, written down directly. Pure.

A change of metadata is a transaction of some thirty operations, counting those that read what it lost to.
To build a message object for each of them, and one more around it, takes several times as long as this.

Source of truth: etcd api/etcdserverpb/rpc.proto (TxnRequest, RequestOp, Compare and what is in them);
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterable
from typing import Final

from coordd.etcd.types import Compare, CompareTarget, Get, Nested, Op, Put, encode_key

NO_KEY: Final = b"\0"
"""etcd's spelling of "from the first key" and, as range_end, "to the last key"."""

_MASK: Final = (1 << 64) - 1
_SMALL_ONES: Final = 0x1000
_SMALL: Final = tuple(
    bytes((number,)) if number < 0x80 else bytes((number & 0x7F | 0x80, number >> 7))
    for number in range(_SMALL_ONES)
)
"""The numbers below `_SMALL_ONES` as `_varint` has them: nearly all lengths that there are."""

# A field's first byte: its number times eight, and 2 if a length follows, 0 if a number does.
_COMPARE, _SUCCESS, _FAILURE = b"\x0a", b"\x12", b"\x1a"
_RANGE, _PUT, _DELETE, _TXN = b"\x0a", b"\x12", b"\x1a", b"\x22"
_KEY, _VALUE, _RANGE_END, _LEASE = b"\x0a", b"\x12", b"\x12", b"\x18"
_COMPARED_KEY = b"\x1a"
_TARGETS: Final = {
    CompareTarget.VERSION: (b"", b"\x20"),  # field 2 is the target, and left out if it is 0
    CompareTarget.CREATE_REVISION: (b"\x10\x01", b"\x28"),
    CompareTarget.MOD_REVISION: (b"\x10\x02", b"\x30"),
    CompareTarget.VALUE: (b"\x10\x03", b"\x3a"),
    CompareTarget.LEASE: (b"\x10\x04", b"\x40"),
}


def encode_txn(compares: Iterable[Compare], success: Iterable[Op], failure: Iterable[Op]) -> bytes:
    """A TxnRequest."""
    parts = [_field(_COMPARE, _compare(compare)) for compare in compares]
    parts += [_field(_SUCCESS, _op(op)) for op in success]
    parts += [_field(_FAILURE, _op(op)) for op in failure]
    return b"".join(parts)


def _op(op: Op) -> bytes:
    """A RequestOp."""
    if isinstance(op, Put):
        body = _field(_KEY, encode_key(op.key)) + _field(_VALUE, op.value)
        return _field(_PUT, body + _LEASE + _varint(op.lease) if op.lease else body)
    if isinstance(op, Get):
        # Never with a revision: etcd members could then apply the transaction differently (etcd issue 18667).
        return _field(_RANGE, _keys(op.key, op.range_end))
    if isinstance(op, Nested):
        return _field(_TXN, encode_txn(op.compares, op.success, op.failure))
    return _field(_DELETE, _keys(op.key, op.range_end))


def _keys(start: str, end: str | None) -> bytes:
    """What reads and deletes have in common: a key, or those up to `end`."""
    key = _field(_KEY, encode_key(start) or NO_KEY)
    return key if end is None else key + _field(_RANGE_END, encode_key(end) or NO_KEY)


def _compare(compare: Compare) -> bytes:
    target, operand = _TARGETS[compare.target]
    value, key = compare.operand, _field(_COMPARED_KEY, encode_key(compare.key))
    return target + key + (operand + _varint(value) if isinstance(value, int) else _field(operand, value))


def _field(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    return tag + (_SMALL[size] if size < _SMALL_ONES else _varint(size)) + body


def _varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first; a negative number as the 64 bits of its two's complement."""
    left, out = number & _MASK, bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
