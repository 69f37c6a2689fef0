"""Transactions as etcd does them, in memory, with the faults of a network.

`tests/integration/meta/test_fake_etcd.py` holds it against a real server.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

from coordd.etcd import (
    Compare,
    Delete,
    DeleteResult,
    Event,
    Get,
    GetResult,
    KeyValue,
    Op,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from coordd.etcd.errors import NoSpace, OutcomeUnknown, Unavailable
from coordd.etcd.types import CompareTarget, OpResult

Apply = Callable[[], TxnResult]
Fault = Callable[["FakeEtcd", Apply], TxnResult]


def lose_request(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """The connection breaks on the way there."""
    raise OutcomeUnknown("no answer")


def lose_answer(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """The connection breaks on the way back."""
    apply()
    raise OutcomeUnknown("no answer")


def delay_request(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """The client gives up; the request arrives later."""
    etcd.under_way.append(apply)
    raise OutcomeUnknown("no answer")


def refuse(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """Nobody listens."""
    raise Unavailable("connection refused")


def no_space(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """The quota is used up."""
    raise NoSpace("database space exceeded")


def no_space_after_all(etcd: "FakeEtcd", apply: Apply) -> TxnResult:
    """The quota is used up by this very put."""
    apply()
    raise NoSpace("database space exceeded")


class FakeEtcd:
    """`faults` happen to the next calls, one each (None: no fault)."""

    def __init__(self) -> None:
        self.revision = 1
        self.state: dict[str, KeyValue] = {}
        self.history: list[tuple[int, tuple[Event, ...]]] = []
        self.faults: list[Fault | None] = []
        self.under_way: list[Apply] = []
        self.calls = 0

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        self.calls += 1

        def apply() -> TxnResult:
            return self._apply(compares, success, failure)

        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else None
        try:
            return apply() if fault is None else fault(self, apply)
        finally:
            await asyncio.sleep(0)

    async def get(self, key: str, *, revision: int = 0, timeout_s: float | None = None) -> GetResult:
        """Of the present state only; faults happen to it, too."""
        assert revision in (0, self.revision)
        result = await self.txn([], [Get(key)], timeout_s=timeout_s)
        [answer] = result.responses
        assert isinstance(answer, RangeResult)
        return GetResult(answer.kvs[0] if answer.kvs else None, self.revision)

    def deliver(self, draw: random.Random | None = None) -> None:
        """Delayed requests arrive: all of them, or a random choice."""
        for apply in [one for one in self.under_way if draw is None or draw.random() < 0.5]:
            self.under_way.remove(apply)
            apply()

    def put(self, key: str, value: bytes) -> int:
        """Somebody else writes; returns the revision."""
        return self.write(Put(key, value))

    def write(self, *ops: Op) -> int:
        """Somebody else's transaction; returns the revision."""
        return self._apply([], ops, []).revision

    def delete(self, key: str) -> int:
        """Somebody else deletes; returns the revision."""
        return self._apply([], [Delete(key)], []).revision

    def since(self, revision: int) -> WatchBatch:
        """What a watch delivers after `revision`."""
        events = tuple(event for at, events in self.history if at > revision for event in events)
        return WatchBatch(self.revision, events)

    def _apply(self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> TxnResult:
        succeeded = all(map(self._holds, compares))
        ops = success if succeeded else failure
        revision = self.revision + 1
        events: list[Event] = []
        responses = tuple(self._do(op, revision, events) for op in ops)
        if events:
            self.revision = revision
            self.history.append((revision, tuple(events)))
        return TxnResult(succeeded, self.revision, responses)

    def _holds(self, compare: Compare) -> bool:
        assert compare.target is CompareTarget.MOD_REVISION
        kv = self.state.get(compare.key)
        return (0 if kv is None else kv.mod_revision) == compare.operand

    def _do(self, op: Op, revision: int, events: list[Event]) -> OpResult:
        old = self.state.get(op.key)
        if isinstance(op, Get):
            return RangeResult(self.revision, [] if old is None else [old])
        if isinstance(op, Delete):
            if old is None:
                return DeleteResult(0)
            del self.state[op.key]
            events.append(Event(op.key, None, revision, 0, 0, 0))
            return DeleteResult(1)
        created, version = (revision, 1) if old is None else (old.create_revision, old.version + 1)
        self.state[op.key] = KeyValue(op.key, op.value, created, revision, version, op.lease)
        events.append(Event(op.key, op.value, revision, created, op.lease, version))
        return PutResult()
