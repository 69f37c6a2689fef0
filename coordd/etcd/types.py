"""What goes into and comes out of the etcd client, free of gRPC: keys, events, compares, operations.

Keys are `str`: UTF-8, with `surrogateescape` for the bytes of a foreign key that is no UTF-8, so that every
key survives the way in and out. Values are `bytes`. All types are immutable. Those that are made by the
hundred thousand, or ten times for each change, are tuples: a frozen dataclass takes five times as long.

Source of truth: etcd api/etcdserverpb/rpc.proto, server/etcdserver/api/v3rpc/key.go (limits).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

MAX_TXN_OPS = 128
"""etcd's default --max-txn-ops: the longest list of compares, of success or of failure operations."""

MAX_REQUEST_BYTES = 1_572_864
"""etcd's default --max-request-bytes (1.5 MiB): measured on the request as etcd puts it into its log."""

REQUEST_OVERHEAD_BYTES = 512
"""What etcd wraps around a request in its log (ids, user name, auth revision), rounded up generously."""

END_OF_KEYS = "\0"
"""As `range_end`: up to the last key of the keyspace."""


def prefix_end(prefix: str) -> str:
    """The first key after all keys that start with `prefix`: the `end` that makes a range of a prefix.

    >>> prefix_end("by-dev/meta/")
    'by-dev/meta0'
    """
    raw = bytearray(encode_key(prefix))
    while raw:
        if raw[-1] < 0xFF:
            raw[-1] += 1
            return decode_key(bytes(raw))
        raw.pop()
    return END_OF_KEYS


KEY_CODEC: Final = ("utf-8", "surrogateescape")
"""How keys and their bytes are made of each other; for those who do it thirty times per change."""


def encode_key(key: str) -> bytes:
    """The bytes of a key."""
    return key.encode(*KEY_CODEC)


def decode_key(raw: bytes) -> str:
    """A key from its bytes; never fails."""
    return raw.decode(*KEY_CODEC)


class KeyValue(NamedTuple):
    """One key as stored. `lease` is 0 when it hangs on none; `version` counts writes since creation."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class Event(NamedTuple):
    """One change of one key. `value` is None when the key was deleted; then only `mod_revision` is set."""

    key: str
    value: bytes | None
    mod_revision: int
    create_revision: int
    lease: int
    version: int
    prev: KeyValue | None = None

    @property
    def deleted(self) -> bool:
        """True for a DELETE."""
        return self.value is None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """All events of one or more whole revisions, in order.

    `revision` is the highest revision that is now delivered in full. `events` is empty for a progress
    notification: nothing happened in the range up to `revision`.
    """

    revision: int
    events: tuple[Event, ...]


class CompareTarget(IntEnum):
    """Which property of a key a compare looks at; the numbers are etcd's."""

    VERSION = 0
    CREATE_REVISION = 1
    MOD_REVISION = 2
    VALUE = 3
    LEASE = 4


class Compare(NamedTuple):
    """A transaction's condition: the property of the key equals the operand.

    A key that does not exist has version, create_revision, mod_revision and lease 0, and no value: a
    compare of its value is false.
    """

    key: str
    target: CompareTarget
    operand: int | bytes

    @classmethod
    def version(cls, key: str, version: int) -> "Compare":
        """`version == 0` is "the key does not exist"."""
        return cls(key, CompareTarget.VERSION, version)

    @classmethod
    def create_revision(cls, key: str, revision: int) -> "Compare":
        """The key was created at `revision` and not deleted since."""
        return cls(key, CompareTarget.CREATE_REVISION, revision)

    @classmethod
    def mod_revision(cls, key: str, revision: int) -> "Compare":
        """The key was last written at `revision`; 0: it does not exist."""
        return cls(key, CompareTarget.MOD_REVISION, revision)

    @classmethod
    def value(cls, key: str, value: bytes) -> "Compare":
        """The key exists with exactly this value."""
        return cls(key, CompareTarget.VALUE, value)

    @classmethod
    def lease(cls, key: str, lease: int) -> "Compare":
        """The key hangs on this lease; 0: on none, or it does not exist."""
        return cls(key, CompareTarget.LEASE, lease)


class Put(NamedTuple):
    """Write a key. `lease` 0 takes it off any lease."""

    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, or all keys in [key, range_end)."""

    key: str
    range_end: str | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key, or all keys in [key, range_end), inside a transaction."""

    key: str
    range_end: str | None = None


@dataclass(frozen=True, slots=True)
class Nested:
    """A transaction inside a transaction: compares of its own decide which of its operations are done."""

    compares: Sequence[Compare]
    success: Sequence["Op"]
    failure: Sequence["Op"] = ()


Op: TypeAlias = Put | Delete | Get | Nested


@dataclass(frozen=True, slots=True)
class PutResult:
    """A Put was done."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """A Delete was done; `deleted` counts the keys that were there."""

    deleted: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """The keys of a range, in key order, as of `revision`."""

    revision: int
    kvs: Sequence[KeyValue]


@dataclass(frozen=True, slots=True)
class RangePage:
    """The first keys of a range, in key order, as of `revision`. `next`: where the rest begins, if any."""

    revision: int
    kvs: Sequence[KeyValue]
    next: str | None


@dataclass(frozen=True, slots=True)
class GetResult:
    """One key (None: it does not exist) as of `revision`."""

    kv: KeyValue | None
    revision: int


OpResult: TypeAlias = "PutResult | DeleteResult | RangeResult | TxnResult"


@dataclass(frozen=True, slots=True)
class TxnResult:
    """`succeeded`: all compares held, so `success` ran, else `failure`. One response per operation that ran.

    `revision` is the revision of the transaction's own writes, or, if it wrote nothing, of the store then.
    """

    succeeded: bool
    revision: int
    responses: tuple[OpResult, ...]


@dataclass(frozen=True, slots=True)
class Lease:
    """A granted lease. `ttl_s` is what etcd granted; it may be more than asked for (etcd has a minimum)."""

    id: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class KeepAliveAck:
    """etcd renewed the lease for `ttl_s` from some moment between `sent_at` and `received_at`.

    Both are `clock.boottime()` seconds; `sent_at` was read before the request was handed to the transport,
    so `sent_at + ttl_s` is never later than the real end of the lease.
    """

    sent_at: float
    received_at: float
    ttl_s: int


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What one endpoint says of itself. `error` is set, and the rest empty, when it did not answer."""

    endpoint: str
    version: str = ""
    is_leader: bool = False
    is_learner: bool = False
    member_id: int = 0
    leader_id: int = 0
    db_size: int = 0
    db_size_in_use: int = 0
    raft_term: int = 0
    revision: int = 0
    errors: tuple[str, ...] = ()
    error: str | None = None
