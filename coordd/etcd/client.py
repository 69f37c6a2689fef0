"""The etcd client that everything above uses: reads, transactions, leases, watches, status."""

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Self

from coordd.etcd.settings import ClientSettings
from coordd.etcd.types import (
    Compare,
    GetResult,
    KeepAliveAck,
    Lease,
    MemberStatus,
    Op,
    RangeResult,
    TxnResult,
    WatchBatch,
)


class EtcdClient:
    """One etcd cluster. Connects on first use; `async with` (or `close`) ends all connections and streams.

    Every call takes `timeout_s`; None means `etcd.requestTimeout`.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        raise NotImplementedError

    async def get(
        self, key: str, *, revision: int = 0, serializable: bool = False, timeout_s: float | None = None
    ) -> GetResult:
        raise NotImplementedError

    async def range(
        self,
        start: str,
        end: str,
        *,
        revision: int = 0,
        keys_only: bool = False,
        page_size: int | None = None,
        serializable: bool = False,
        timeout_s: float | None = None,
    ) -> RangeResult:
        raise NotImplementedError

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        raise NotImplementedError

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout_s: float | None = None) -> int:
        """Returns the revision."""
        raise NotImplementedError

    async def delete(self, key: str, range_end: str | None = None, *, timeout_s: float | None = None) -> int:
        """Returns how many keys were deleted."""
        raise NotImplementedError

    async def grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease:
        raise NotImplementedError

    async def revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        raise NotImplementedError

    def keep_alive(
        self, lease_id: int, ttl_s: int, interval_s: float | None = None
    ) -> AsyncGenerator[KeepAliveAck, None]:
        raise NotImplementedError

    def watch(self, start: str, end: str | None, *, from_revision: int) -> AsyncGenerator[WatchBatch, None]:
        raise NotImplementedError

    async def status(self, *, timeout_s: float | None = None) -> list[MemberStatus]:
        raise NotImplementedError

    async def revision(self, *, key: str = "health", timeout_s: float | None = None) -> int:
        raise NotImplementedError
