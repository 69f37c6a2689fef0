"""A client of a real etcd whose requests can be made to fail as networks and etcd make them fail."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from coordd.etcd import Compare, EtcdClient, KeepAliveAck, Lease, Op, RangeResult, TxnResult, WatchBatch

TxnFault = Callable[[Sequence[Op]], Awaitable[None]]


class FaultyEtcd(EtcdClient):
    """`before_grant`, `before_txn`, `after_txn`: run around every such request, with the operations that a
    transaction carries out on success; what they raise is what the caller gets. `renewal_errors` and
    `watch_errors`: raised in turn at the start of each keepalive and of each watch. `before_range`: awaited
    before each range read; `after_part`: after each part of one that is read in parts. `deafen()`: the
    watches that are open now deliver nothing more, and never end; `deaf`: later ones neither.

    Attributes:
        deliver: while it is not set, no watch delivers anything.
        ranges, watches: how many were begun.
        watched_from: where they began.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.before_grant: Callable[[], Awaitable[None]] | None = None
        self.before_txn: TxnFault | None = None
        self.after_txn: TxnFault | None = None
        self.renewal_errors: list[Exception] = []
        self.watch_errors: list[Exception] = []
        self.deliver = asyncio.Event()
        self.deliver.set()
        self.before_range: Callable[[], Awaitable[None]] | None = None
        self.after_part: Callable[[], Awaitable[None]] | None = None
        self.deaf = False
        self.ranges = 0
        self.watched_from: list[int] = []
        self._deafened = 0

    @property
    def watches(self) -> int:
        return len(self.watched_from)

    def deafen(self) -> None:
        self._deafened = self.watches

    async def grant(self, ttl_s: int, **more: Any) -> Lease:
        if self.before_grant is not None:
            await self.before_grant()
        return await super().grant(ttl_s, **more)

    async def range(self, start: str, end: str, **more: Any) -> Any:
        self.ranges += 1
        if self.before_range is not None:
            await self.before_range()
        return await super().range(start, end, **more)

    async def range_parts(self, start: str, end: str, **more: Any) -> AsyncGenerator[RangeResult, None]:
        self.ranges += 1
        if self.before_range is not None:
            await self.before_range()
        async with aclosing(super().range_parts(start, end, **more)) as parts:
            async for part in parts:
                yield part
                if self.after_part is not None:
                    await self.after_part()

    async def txn(
        self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op] = (), **more: Any
    ) -> TxnResult:
        if self.before_txn is not None:
            await self.before_txn(success)
        result = await super().txn(compares, success, failure, **more)
        if self.after_txn is not None:
            await self.after_txn(success)
        return result

    async def keep_alive(self, *arguments: Any, **more: Any) -> AsyncGenerator[KeepAliveAck, None]:
        if self.renewal_errors:
            raise self.renewal_errors.pop(0)
        async for ack in super().keep_alive(*arguments, **more):
            yield ack

    async def watch(
        self, start: str, end: str | None, *, from_revision: int, prev_kv: bool = False
    ) -> AsyncGenerator[WatchBatch, None]:
        self.watched_from.append(from_revision)
        number = self.watches
        if self.watch_errors:
            raise self.watch_errors.pop(0)
        async for batch in super().watch(start, end, from_revision=from_revision, prev_kv=prev_kv):
            await self.deliver.wait()
            if number > self._deafened and not self.deaf:
                yield batch
