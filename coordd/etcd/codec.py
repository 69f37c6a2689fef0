"""Between our types and etcd's protobuf messages, and the limits of a request. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from coordd.etcd.errors import RequestTooLarge, TooManyOperations
from coordd.etcd.messages import mvcc, rpc
from coordd.etcd.txn_wire import NO_KEY, encode_txn
from coordd.etcd.types import (
    MAX_REQUEST_BYTES,
    MAX_TXN_OPS,
    REQUEST_OVERHEAD_BYTES,
    Compare,
    DeleteResult,
    Event,
    KeyValue,
    Op,
    OpResult,
    PutResult,
    RangeResult,
    TxnResult,
    decode_key,
    encode_key,
)

_DELETE = mvcc.Event.DELETE
_PUT_DONE = PutResult()


def txn_request(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> bytes:
    """The message of a transaction, serialized.

    Raises:
        TooManyOperations, RequestTooLarge: etcd would refuse it.
    """
    longest = max(len(compares), len(success), len(failure))
    if longest > MAX_TXN_OPS:
        raise TooManyOperations(f"a transaction of {longest} operations: etcd takes {MAX_TXN_OPS}")
    request = encode_txn(compares, success, failure)
    check_size(request)
    return request


def check_size(request: bytes) -> None:
    """Raises RequestTooLarge if etcd would refuse the serialized message for its size."""
    size = len(request)
    if size + REQUEST_OVERHEAD_BYTES > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"a request of {size} bytes: etcd takes {MAX_REQUEST_BYTES - REQUEST_OVERHEAD_BYTES}",
            hint="the value is too large for etcd",
        )


def txn_result(answer: Any) -> TxnResult:
    """The answer to a transaction."""
    return _txn_result(answer, answer.header.revision)


def range_request(
    key: str | bytes,
    range_end: str | bytes | None,
    *,
    revision: int = 0,
    limit: int = 0,
    keys_only: bool = False,
    serializable: bool = False,
) -> Any:
    """The message of a read; `range_end` None reads one key."""
    return rpc.RangeRequest(
        key=_start(key),
        range_end=_end(range_end),
        revision=revision,
        limit=limit,
        keys_only=keys_only,
        serializable=serializable,
    )


def put_request(key: str, value: bytes, lease: int) -> Any:
    """The message of a Put."""
    return rpc.PutRequest(key=encode_key(key), value=value, lease=lease)


def delete_request(key: str, range_end: str | None) -> Any:
    """The message of a Delete."""
    return rpc.DeleteRangeRequest(key=_start(key), range_end=_end(range_end))


def watch_request(start: str, end: str | None, from_revision: int, *, prev_kv: bool) -> Any:
    """The message that opens a watch."""
    create = rpc.WatchCreateRequest(
        key=_start(start),
        range_end=_end(end),
        start_revision=from_revision,
        progress_notify=True,
        fragment=True,
        prev_kv=prev_kv,
    )
    return rpc.WatchRequest(create_request=create)


def key_value(kv: Any) -> KeyValue:
    """A stored key."""
    return KeyValue(decode_key(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def key_values(raws: Iterable[Any]) -> list[KeyValue]:
    """Stored keys. Neighbours are often of one transaction: they share one number as their revision, so that
    who keeps hundreds of thousands of revisions keeps fewer objects."""
    found, revision = [], 0
    for kv in raws:
        if kv.mod_revision != revision:
            revision = kv.mod_revision
        found.append(
            KeyValue(decode_key(kv.key), kv.value, kv.create_revision, revision, kv.version, kv.lease)
        )
    return found


def event(raw: Any) -> Event:
    """A watch event."""
    kv = raw.kv
    return Event(
        decode_key(kv.key),
        None if raw.type == _DELETE else kv.value,
        kv.mod_revision,
        kv.create_revision,
        kv.lease,
        kv.version,
        key_value(raw.prev_kv) if raw.HasField("prev_kv") else None,
    )


def _op_result(answer: Any, revision: int) -> OpResult:
    kind = answer.WhichOneof("response")
    if kind == "response_put":
        return _PUT_DONE
    if kind == "response_delete_range":
        return DeleteResult(answer.response_delete_range.deleted)
    if kind == "response_txn":
        return _txn_result(answer.response_txn, revision)
    return RangeResult(revision, [key_value(kv) for kv in answer.response_range.kvs])


def _txn_result(answer: Any, revision: int) -> TxnResult:
    """Inner transactions have the revision of the outermost one."""
    return TxnResult(
        answer.succeeded, revision, tuple([_op_result(one, revision) for one in answer.responses])
    )


def _start(key: str | bytes) -> bytes:
    raw = key if isinstance(key, bytes) else encode_key(key)
    return raw or NO_KEY


def _end(key: str | bytes | None) -> bytes:
    if key is None:
        return b""
    raw = key if isinstance(key, bytes) else encode_key(key)
    return raw or NO_KEY
