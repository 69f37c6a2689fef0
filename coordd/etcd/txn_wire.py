"""The bytes of a transaction, written down directly. Pure.

A change of metadata is a transaction of some thirty operations, counting those that read what it lost to.
To build a message object for each of them, and one more around it, takes several times as long as this.

Source of truth: etcd api/etcdserverpb/rpc.proto (TxnRequest, RequestOp, Compare and what is in them);
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterable
from typing import Final

from coordd.etcd.types import KEY_CODEC, Compare, Get, Nested, Op, Put

NO_KEY: Final = b"\0"
"""etcd's spelling of "from the first key" and, as range_end, "to the last key"."""

_MASK: Final = (1 << 64) - 1

# A field's first byte: its number times eight, and 2 if a length follows, 0 if a number does.
_COMPARE, _SUCCESS, _FAILURE = b"\x0a", b"\x12", b"\x1a"
_RANGE, _PUT, _DELETE, _TXN = b"\x0a", b"\x12", b"\x1a", b"\x22"
_KEY, _VALUE, _RANGE_END, _LEASE = b"\x0a", b"\x12", b"\x12", b"\x18"
_TARGETS: Final = (
    (b"\x1a", b"\x20"),  # VERSION; the target is field 2, and left out if it is 0; the key's field is 3
    (b"\x10\x01\x1a", b"\x28"),  # CREATE_REVISION
    (b"\x10\x02\x1a", b"\x30"),  # MOD_REVISION
    (b"\x10\x03\x1a", b"\x3a"),  # VALUE
    (b"\x10\x04\x1a", b"\x40"),  # LEASE
)
"""By `CompareTarget`: what stands before the key, and before the operand."""


def _varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first; a negative number as the 64 bits of its two's complement."""
    left, out = number & _MASK, bytearray()
    while left >= 0x80:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


class _Varints(dict[int, bytes]):
    """Numbers as `_varint` has them: small ones, which nearly all lengths are, at the cost of a look."""

    def __missing__(self, number: int) -> bytes:
        return _varint(number)


_SIZE: Final = _Varints((number, _varint(number)) for number in range(0x1000))


def encode_txn(compares: Iterable[Compare], success: Iterable[Op], failure: Iterable[Op]) -> bytes:
    """A TxnRequest."""
    parts: list[bytes] = []
    for compare in compares:
        body = _compare(compare)
        parts += (_COMPARE, _SIZE[len(body)], body)
    for op in success:
        body = _op(op)
        parts += (_SUCCESS, _SIZE[len(body)], body)
    for op in failure:
        body = _op(op)
        parts += (_FAILURE, _SIZE[len(body)], body)
    return b"".join(parts)


def _op(op: Op) -> bytes:
    """A RequestOp."""
    if isinstance(op, Put):
        key, value = op.key.encode(*KEY_CODEC), op.value
        tag, body = _PUT, _KEY + _SIZE[len(key)] + key + _VALUE + _SIZE[len(value)] + value
        if op.lease:
            body += _LEASE + _varint(op.lease)
    elif isinstance(op, Nested):
        tag, body = _TXN, encode_txn(op.compares, op.success, op.failure)
    else:
        # A Get never has a revision: members could then apply the transaction differently (etcd issue 18667).
        key = op.key.encode(*KEY_CODEC) or NO_KEY
        tag, body = _RANGE if isinstance(op, Get) else _DELETE, _KEY + _SIZE[len(key)] + key
        if op.range_end is not None:
            end = op.range_end.encode(*KEY_CODEC) or NO_KEY
            body += _RANGE_END + _SIZE[len(end)] + end
    return tag + _SIZE[len(body)] + body


def _compare(compare: Compare) -> bytes:
    before_key, before_operand = _TARGETS[compare.target]
    key, operand = compare.key.encode(*KEY_CODEC), compare.operand
    body = before_key + _SIZE[len(key)] + key + before_operand
    return body + (_varint(operand) if isinstance(operand, int) else _SIZE[len(operand)] + operand)
