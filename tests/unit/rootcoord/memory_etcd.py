"""A tiny etcd in memory: one key space with revisions and history, and the part of `EtcdClient` used here.

Faults are ordered per transaction through `faults`: each entry is popped by one transaction and decides
whether it is applied and what its caller sees.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from coordd.etcd import (
    Compare,
    Delete,
    Get,
    GetResult,
    KeyValue,
    Nested,
    Op,
    OpResult,
    Put,
    RangePage,
    RangeResult,
    TxnResult,
)
from coordd.etcd.errors import Compacted, OutcomeUnknown
from coordd.etcd.types import CompareTarget, DeleteResult, PutResult


@dataclass
class Fault:
    """`before`: raise without applying. `after`: apply, then raise. `then`: run after either."""

    before: Exception | None = None
    after: Exception | None = None
    then: Callable[[], None] | None = None


LOST_REQUEST = Fault(before=OutcomeUnknown("sent and not answered"))
LOST_ANSWER = Fault(after=OutcomeUnknown("applied and not answered"))


@dataclass
class MemoryEtcd:
    """`history[key]` holds every version of a key, None for a deletion, in order of revisions.

    `remote`: other tasks get their turn while a transaction is on its way.
    """

    revision: int = 1
    compacted: int = 0
    history: dict[str, list[tuple[int, KeyValue | None]]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    transactions: int = 0
    ranges: int = 0
    remote: bool = False

    @classmethod
    def holding(cls, values: Mapping[str, bytes]) -> "MemoryEtcd":
        etcd = cls()
        for key, value in values.items():
            etcd.put_now(key, value)
        return etcd

    def at(self, key: str, revision: int = 0) -> KeyValue | None:
        found = None
        for when, kv in self.history.get(key, ()):
            if not revision or when <= revision:
                found = kv
        return found

    def put_now(self, key: str, value: bytes) -> int:
        self.revision += 1
        self._put(key, value)
        return self.revision

    def delete_now(self, key: str) -> None:
        self.revision += 1
        self.history.setdefault(key, []).append((self.revision, None))

    async def get(
        self, key: str, *, revision: int = 0, serializable: bool = False, timeout_s: float | None = None
    ) -> GetResult:
        del serializable, timeout_s
        self._check(revision)
        return GetResult(self.at(key, revision), self.revision)

    async def range(self, start: str, end: str, *, revision: int = 0, **_options: object) -> RangeResult:
        self._check(revision)
        self.ranges += 1
        found = (self.at(key, revision) for key in sorted(self.history) if start <= key < end)
        return RangeResult(revision or self.revision, [kv for kv in found if kv is not None])

    async def page(self, start: str, end: str, *, limit: int, timeout_s: float | None = None) -> RangePage:
        del timeout_s
        kvs = (await self.range(start, end)).kvs
        rest = kvs[limit - 1].key + "\0" if len(kvs) > limit else None
        return RangePage(self.revision, kvs[:limit], rest)

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        del timeout_s
        self.transactions += 1
        if self.remote:
            await asyncio.sleep(0)
        fault = self.faults.popleft() if self.faults else Fault()
        try:
            if fault.before is not None:
                raise fault.before
            holds = all(self._holds(compare) for compare in compares)
            ops = success if holds else failure
            if self._writes(ops):
                self.revision += 1
            result = TxnResult(holds, self.revision, tuple(self._do(op) for op in ops))
            if fault.after is not None:
                raise fault.after
            return result
        finally:
            if fault.then is not None:
                fault.then()

    def _check(self, revision: int) -> None:
        if revision and revision < self.compacted:
            raise Compacted("compacted", compact_revision=self.compacted)

    def _holds(self, compare: Compare) -> bool:
        kv = self.at(compare.key)
        if compare.target is CompareTarget.MOD_REVISION:
            return (kv.mod_revision if kv else 0) == compare.operand
        if compare.target is CompareTarget.VERSION:
            return (kv.version if kv else 0) == compare.operand
        raise NotImplementedError(compare.target)

    def _writes(self, ops: Sequence[Op]) -> bool:
        return any(
            self._writes(self._chosen(op)[1]) if isinstance(op, Nested) else not isinstance(op, Get)
            for op in ops
        )

    def _chosen(self, nested: Nested) -> tuple[bool, Sequence[Op]]:
        holds = all(self._holds(compare) for compare in nested.compares)
        return holds, nested.success if holds else nested.failure

    def _do(self, op: Op) -> OpResult:
        match op:
            case Nested():
                holds, ops = self._chosen(op)
                return TxnResult(holds, self.revision, tuple(self._do(one) for one in ops))
            case Put(key, value):
                self._put(key, value)
                return PutResult()
            case Delete(key, None):
                existed = self.at(key) is not None
                self.history.setdefault(key, []).append((self.revision, None))
                return DeleteResult(int(existed))
            case Get(key, None):
                kv = self.at(key)
                return RangeResult(self.revision, [] if kv is None else [kv])
            case _:
                raise NotImplementedError(op)

    def _put(self, key: str, value: bytes) -> None:
        old = self.at(key)
        created, version = (old.create_revision, old.version + 1) if old else (self.revision, 1)
        kv = KeyValue(key, value, created, self.revision, version, 0)
        self.history.setdefault(key, []).append((self.revision, kv))
