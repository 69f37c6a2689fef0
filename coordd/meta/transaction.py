"""Fenced transactions, planned and judged: pure functions over etcd's types.

Source of truth for the limits: etcd server/etcdserver/api/v3rpc/key.go (checkTxnRequest).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from coordd.errors import CoorddError
from coordd.etcd import (
    MAX_REQUEST_BYTES,
    MAX_TXN_OPS,
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    Put,
    RangeResult,
    TxnResult,
)
from coordd.etcd.types import CompareTarget

Write: TypeAlias = Put | Delete

OP_BYTES: Final = 64
"""Allowance for what an operation and its read-back take beside keys and value: tags, lengths, numbers."""

FRAME_BYTES: Final = 16 * 1024
"""Allowance for fence, guard and further compares."""


class TransactionTooLarge(CoorddError):
    """More than one etcd transaction can hold. Nothing was sent; see `split`."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """Writes, what they are compared with, and what is read if a compare fails.

    `known` maps the guard key and the `expect` keys to the mod_revisions they must have, the guard first.
    """

    fence: Compare
    ops: tuple[Write, ...]
    guard_key: str
    known: Mapping[str, int]

    @property
    def puts(self) -> bool:
        """Whether it puts any key; the guard is one of these then."""
        return any(isinstance(op, Put) for op in self.ops)

    @property
    def keys(self) -> frozenset[str]:
        """The keys written."""
        return frozenset([op.key for op in self.ops])

    @property
    def compares(self) -> list[Compare]:
        """The conditions of the transaction."""
        target = CompareTarget.MOD_REVISION
        return [self.fence, *[Compare(key, target, revision) for key, revision in self.known.items()]]

    @property
    def reads(self) -> list[Get]:
        """What the losing branch reads: fence, guard, expected keys, and as many written keys as fit."""
        keys = dict.fromkeys([self.fence.key, *self.known, *[op.key for op in self.ops]])
        return [Get(key) for key in keys][:MAX_TXN_OPS]

    def found(self, result: TxnResult) -> "Found":
        """What the losing branch has read."""
        return Found(self, result.revision, found_values(self.reads, result))

    def events(self, revision: int) -> list[Event]:
        """What the watch will tell of it, but for create_revision and version, not known here: 0."""
        return [
            Event(op.key, op.value, revision, 0, op.lease, 0)
            if isinstance(op, Put)
            else Event(op.key, None, revision, 0, 0, 0)
            for op in self.ops
        ]


@dataclass(frozen=True, slots=True)
class Found:
    """The state that made a transaction lose, as of `revision`."""

    transaction: Transaction
    revision: int
    values: Mapping[str, KeyValue | None]

    @property
    def fence_holds(self) -> bool:
        """Whether the term goes on."""
        return self._mod_revision(self.transaction.fence.key) == self.transaction.fence.operand

    @property
    def guard_unchanged(self) -> bool:
        """Whether the guard is as it was known: then no copy of the transaction was applied."""
        guard = self.transaction.guard_key
        return self._mod_revision(guard) == self.transaction.known[guard]

    @property
    def all_known(self) -> bool:
        """Whether the guard and all expected keys are as they were known."""
        return all(self._mod_revision(key) == known for key, known in self.transaction.known.items())

    @property
    def applied_at(self) -> int | None:
        """The revision at which an earlier copy of this very transaction was applied; None if it shows none.

        It was if the guard was written, all keys that were read hold what the transaction writes, and what
        it put has the guard's mod_revision; a key written again since then does not count against it. For a
        transaction of deletes only it is the revision of this reading.

        It is inferred: somebody else may have written the very same, and more besides at that revision.
        """
        guard = self.transaction.guard_key
        if self.guard_unchanged:
            return None
        ops = [op for op in self.transaction.ops if op.key in self.values]
        at = self._mod_revision(guard) if self.transaction.puts else self.revision
        return at if at and all(self._holds(op, at) for op in ops) else None

    @property
    def mismatch(self) -> tuple[str, int, int]:
        """Key, known and actual mod_revision of the first compare that failed, the fence left aside.

        Raises:
            RuntimeError: there is none, which etcd rules out.
        """
        for key, known in self.transaction.known.items():
            if self._mod_revision(key) != known:
                return key, known, self._mod_revision(key)
        raise RuntimeError("etcd refused a transaction whose compares all hold")

    def _mod_revision(self, key: str) -> int:
        kv = self.values[key]
        return 0 if kv is None else kv.mod_revision

    def _holds(self, op: Write, at: int) -> bool:
        kv = self.values[op.key]
        if kv is not None and kv.mod_revision > at:
            return op.key != self.transaction.guard_key
        if isinstance(op, Delete):
            return kv is None
        return kv is not None and (kv.mod_revision, kv.value, kv.lease) == (at, op.value, op.lease)


def plan(
    fence: Compare,
    ops: Sequence[Write],
    *,
    guard_key: str,
    guard_revision: int,
    expect: Mapping[str, int],
) -> Transaction:
    """Put a transaction together.

    Raises:
        TransactionTooLarge: more operations or compares than etcd takes.
        ValueError: a range delete, a key written twice, or a guard that would not tell when the transaction
            was applied: it is not written, or it is deleted while other keys are put.
    """
    keys = [op.key for op in ops]
    deletes = [op for op in ops if isinstance(op, Delete)]
    if deletes and any(op.range_end is not None for op in deletes):
        raise ValueError("metadata is deleted by exact keys only")
    if len(set(keys)) != len(keys):
        raise ValueError(f"a key is written twice: {sorted(keys)}")
    if guard_key not in keys:
        raise ValueError(f"the guard {guard_key!r} is not written")
    transaction = Transaction(fence, tuple(ops), guard_key, {guard_key: guard_revision, **expect})
    if deletes and transaction.puts and isinstance(ops[keys.index(guard_key)], Delete):
        raise ValueError(f"the guard {guard_key!r} is deleted: a key that is put must be the guard then")
    longest = max(len(ops), 1 + len(transaction.known))
    if longest > MAX_TXN_OPS:
        raise TransactionTooLarge(f"{longest} operations in one transaction, etcd takes {MAX_TXN_OPS}")
    return transaction


def default_guard(ops: Sequence[Write]) -> str:
    """The first key put, or if all are deletes the first key.

    Raises:
        ValueError: there are no operations.
    """
    if not ops:
        raise ValueError("a transaction without operations")
    for op in ops:
        if isinstance(op, Put):
            return op.key
    return ops[0].key


class Room:
    """What there is room for in one transaction of at most `max_ops` writes."""

    def __init__(self, max_ops: int = MAX_TXN_OPS) -> None:
        self._ops = max_ops
        self._bytes = MAX_REQUEST_BYTES - FRAME_BYTES

    def take(self, group: Sequence[Write]) -> bool:
        """Whether there is room for these writes too; they take it."""
        size = _size(group)
        if len(group) > self._ops or size > self._bytes:
            return False
        self._ops -= len(group)
        self._bytes -= size
        return True


def split(groups: Iterable[Sequence[Write]], *, max_ops: int = MAX_TXN_OPS) -> list[tuple[Write, ...]]:
    """Cut writes into transactions that etcd takes, for callers to whom the order does not matter.

    A group (a plain key and its snapshot) stays in one transaction; the order of groups is kept.

    Raises:
        TransactionTooLarge: a single group is too large.
    """
    batches: list[tuple[Write, ...]] = []
    batch: list[Write] = []
    room = Room(max_ops)
    for group in groups:
        if not room.take(group):
            if batch:
                batches.append(tuple(batch))
            batch, room = [], Room(max_ops)
            if not room.take(group):
                raise TransactionTooLarge(
                    f"{len(group)} operations of {_size(group)} bytes must stay together"
                )
        batch += group
    return [*batches, tuple(batch)] if batch else batches


def found_values(reads: Sequence[Get], result: TxnResult) -> dict[str, KeyValue | None]:
    """Keys and values of a transaction branch that consists of reads of single keys."""
    values: dict[str, KeyValue | None] = {}
    for read, response in zip(reads, result.responses, strict=True):
        if not isinstance(response, RangeResult):
            raise TypeError(f"etcd answered a read with {response!r}")
        values[read.key] = response.kvs[0] if response.kvs else None
    return values


def _size(group: Iterable[Write]) -> int:
    """Bytes; a key counts twice: it is written, and read if the transaction loses."""
    return sum(
        2 * len(op.key.encode("utf-8", "surrogateescape"))
        + (len(op.value) if isinstance(op, Put) else 0)
        + OP_BYTES
        for op in group
    )
