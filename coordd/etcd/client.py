"""The etcd client that everything above uses: reads, transactions, leases, watches, status.

What it promises: a write is sent at most once (`OutcomeUnknown` when its fate is not known); a read may be
sent several times; a range is read at one revision however many pages it takes; a watch delivers whole
revisions, each once, in order. What it does not: decide who is the leader of anything, or that a lease is
lost because time has passed.

Source of truth: etcd api/etcdserverpb/rpc.proto; https://etcd.io/docs/v3.5/learning/api_guarantees/.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from coordd.etcd import codec, methods
from coordd.etcd.connection import CallFailedError
from coordd.etcd.endpoints import Endpoint
from coordd.etcd.errors import EtcdError, LeaseLost
from coordd.etcd.lease import KeepAlive
from coordd.etcd.messages import rpc
from coordd.etcd.paging import RangeQuery, read_page, read_parts, read_range
from coordd.etcd.settings import ClientSettings
from coordd.etcd.transport import Transport
from coordd.etcd.types import (
    Compare,
    GetResult,
    KeepAliveAck,
    Lease,
    MemberStatus,
    Op,
    RangePage,
    RangeResult,
    TxnResult,
    WatchBatch,
)
from coordd.etcd.watch import Watch


class EtcdClient:
    """One etcd cluster. Connects on first use; `async with` (or `close`) ends all connections and streams.

    Every request takes `timeout_s`; None means `etcd.requestTimeout`. All raise `EtcdError`s: `Unavailable`
    when no endpoint could be reached in that time, `PermissionDenied`, `AuthenticationFailed`, and those
    named at each method. Belongs to the event loop in which it is first used.
    """

    def __init__(self, settings: ClientSettings) -> None:
        """Raises EndpointInvalid or TlsError for settings that cannot work."""
        self._transport = Transport(settings)
        self._timeout_s = settings.request_timeout_ms / 1000

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all connections; calls in flight, watches and keepalives raise. Idempotent."""
        await self._transport.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """`host:port` of every configured endpoint."""
        return tuple(endpoint.name for endpoint in self._transport.endpoints)

    @property
    def known_revision(self) -> int:
        """The newest revision that etcd has mentioned in any answer; 0 before the first."""
        return self._transport.figures.known_revision

    def requests(self) -> Mapping[str, int]:
        """Requests answered so far, by etcd's name of the request (`Txn`, `Range`, `LeaseKeepAlive`, ...)."""
        return self._transport.figures.answers

    def failures(self) -> Mapping[str, int]:
        """Requests given up so far, by etcd's name of the request."""
        return self._transport.figures.failures

    def connected_endpoint(self) -> str | None:
        """The endpoint in use; None while there is none."""
        return self._transport.connected_endpoint()

    async def get(
        self, key: str, *, revision: int = 0, serializable: bool = False, timeout_s: float | None = None
    ) -> GetResult:
        """One key, now or at `revision`. `serializable`: from the member asked, perhaps stale.

        Raises:
            RequestTimeout: not answered in time.
            Compacted: `revision` is gone.
        """
        request = codec.range_request(key, None, revision=revision, serializable=serializable)
        answer = await self._read(request, timeout_s)
        kvs = answer.kvs
        return GetResult(codec.key_value(kvs[0]) if kvs else None, answer.header.revision)

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
        """All keys of [start, end) at one revision: `revision`, or that of the first page.

        Read in pages of `page_size` keys (None: adapted to the size of the values). `timeout_s` is for each
        page. Values are empty with `keys_only`. Safe to cancel.

        Raises:
            RequestTimeout: a page was not answered in time.
            Compacted: `revision` is gone; without `revision`, only if etcd compacts faster than we can read.
        """
        query = RangeQuery(start, end, revision, keys_only, page_size, serializable)
        return await read_range(query, lambda request: self._read(request, timeout_s))

    def range_parts(
        self, start: str, end: str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[RangeResult, None]:
        """What `range` reads, some hundred keys at a time, for those who need not have all of it in memory.

        In key order, all at the revision of the first; at least one part, which may be empty. Close it
        (`contextlib.aclosing`) to stop.

        Raises:
            RequestTimeout: a page was not answered in time.
            Compacted: etcd has compacted that revision meanwhile; begin again.
        """
        query = RangeQuery(start, end, 0, keys_only=False, page_size=None, serializable=False)
        return read_parts(query, lambda request: self._read(request, timeout_s))

    async def page(self, start: str, end: str, *, limit: int, timeout_s: float | None = None) -> RangePage:
        """The first `limit` keys of [start, end) as they are now, for those who need not have the whole range
        at one revision, nor at once. Safe to cancel.

        Raises:
            RequestTimeout: not answered in time.
        """
        return await read_page(start, end, limit, lambda request: self._read(request, timeout_s))

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        """If all compares hold, do `success`, else `failure`, as one revision. Sent at most once.

        If cancelled, whether it was applied is unknown.

        Raises:
            OutcomeUnknown: it was sent and may have been applied, now or later. Read back before repeating.
            NoSpace: a case of OutcomeUnknown.
            TooManyOperations, RequestTooLarge: more than etcd takes; nothing was sent.
            InvalidRequest: etcd refuses it, for instance because one key is put twice.
            LeaseLost: a put names a lease that has ended.
        """
        request = codec.txn_request(compares, success, failure)
        answer = await self._transport.unary(
            methods.TXN, request, timeout_s=self._limit(timeout_s), writes=True
        )
        return codec.txn_result(answer)

    async def put(self, key: str, value: bytes, *, lease: int = 0, timeout_s: float | None = None) -> int:
        """Write one key unconditionally; returns the revision. Raises as `txn`."""
        request = codec.put_request(key, value, lease).SerializeToString()
        codec.check_size(request)
        answer = await self._transport.unary(
            methods.PUT, request, timeout_s=self._limit(timeout_s), writes=True
        )
        return int(answer.header.revision)

    async def delete(self, key: str, range_end: str | None = None, *, timeout_s: float | None = None) -> int:
        """Delete one key or [key, range_end); returns how many there were. Raises as `txn`."""
        request = codec.delete_request(key, range_end).SerializeToString()
        answer = await self._transport.unary(
            methods.DELETE_RANGE, request, timeout_s=self._limit(timeout_s), writes=True
        )
        return int(answer.deleted)

    async def grant(self, ttl_s: int, *, timeout_s: float | None = None) -> Lease:
        """A new lease. etcd raises `ttl_s` to its minimum (2 s by its defaults).

        May leave a second, unused lease behind when an answer is lost; it ends by itself.

        Raises:
            RequestTimeout: not answered in time.
        """
        answer = await self._transport.unary(
            methods.LEASE_GRANT,
            rpc.LeaseGrantRequest(TTL=ttl_s).SerializeToString(),
            timeout_s=self._limit(timeout_s),
            writes=False,
        )
        return Lease(answer.ID, answer.TTL)

    async def revoke(self, lease_id: int, *, timeout_s: float | None = None) -> None:
        """End a lease and delete its keys. Idempotent: a lease that is gone already is fine.

        Raises:
            RequestTimeout: not answered in time; it may have been done.
        """
        try:
            await self._transport.unary(
                methods.LEASE_REVOKE,
                rpc.LeaseRevokeRequest(ID=lease_id).SerializeToString(),
                timeout_s=self._limit(timeout_s),
                writes=False,
            )
        except LeaseLost:
            return

    async def lease_time_left_s(self, lease_id: int, *, timeout_s: float | None = None) -> int | None:
        """Whole seconds until the lease ends unless it is renewed; None if etcd does not know it.

        Raises:
            RequestTimeout: not answered in time.
        """
        answer = await self._transport.unary(
            methods.LEASE_TIME_TO_LIVE,
            rpc.LeaseTimeToLiveRequest(ID=lease_id).SerializeToString(),
            timeout_s=self._limit(timeout_s),
            writes=False,
        )
        return None if answer.TTL < 0 else answer.TTL

    def keep_alive(
        self, lease_id: int, ttl_s: int, interval_s: float | None = None
    ) -> AsyncGenerator[KeepAliveAck, None]:
        """Renew a lease every `interval_s` (None: a third of `ttl_s`), the first time at once.

        Iterate without long pauses: a renewal is sent only while the next answer is awaited. Reconnects for
        as long as it is iterated; no answer for long raises nothing. Close it (`contextlib.aclosing`) to
        stop; the lease is not revoked by that.

        Raises:
            LeaseLost: etcd says that the lease has ended.
        """
        return KeepAlive(self._transport, lease_id, ttl_s / 3 if interval_s is None else interval_s).acks()

    def watch(
        self, start: str, end: str | None, *, from_revision: int, prev_kv: bool = False
    ) -> AsyncGenerator[WatchBatch, None]:
        """All changes of [start, end) (`end` None: of one key) from `from_revision` (at least 1) on.

        After `range` that is `result.revision + 1`. Whole revisions, each once, in order; reconnects for as
        long as it is iterated. Close it (`contextlib.aclosing`) to stop.

        Raises:
            Compacted: what should come next is gone; read the range again.
            PermissionDenied: the user may not read this range.
            WatchCancelled: etcd ended it for another reason.
        """
        return Watch(self._transport, start, end, from_revision, prev_kv=prev_kv).batches()

    async def revision(self, *, key: str = "health", timeout_s: float | None = None) -> int:
        """The store's revision, linearizable. `key` need not exist; the user must be allowed to read it."""
        return (await self.get(key, timeout_s=timeout_s)).revision

    async def status(self, *, timeout_s: float | None = None) -> list[MemberStatus]:
        """What each endpoint says of itself, in the order configured; one that fails has `error` set."""
        limit = self._limit(timeout_s)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._status_of(endpoint, limit), name=f"etcd-status-{endpoint.name}")
                for endpoint in self._transport.endpoints
            ]
        return [task.result() for task in tasks]

    def _limit(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    async def _read(self, request: Any, timeout_s: float | None) -> Any:
        return await self._transport.unary(
            methods.RANGE,
            request.SerializeToString(),
            timeout_s=self._limit(timeout_s),
            writes=False,
            require_leader=not request.serializable,
        )

    async def _status_of(self, endpoint: Endpoint, limit_s: float) -> MemberStatus:
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._transport.dial(endpoint, limit_s)
                try:
                    metadata = await self._transport.auth.metadata(connection, limit_s, require_leader=False)
                    nothing = rpc.StatusRequest().SerializeToString()
                    answer = await connection.unary(methods.STATUS, nothing, metadata, limit_s)
                finally:
                    connection.close()
        except CallFailedError as failed:
            return MemberStatus(endpoint.name, error=failed.failure.error.message)
        except EtcdError as error:
            return MemberStatus(endpoint.name, error=error.message)
        except TimeoutError:
            return MemberStatus(endpoint.name, error=f"no answer within {limit_s:.1f} s")
        header = answer.header
        return MemberStatus(
            endpoint.name,
            version=answer.version,
            is_leader=answer.leader == header.member_id,
            is_learner=answer.isLearner,
            member_id=header.member_id,
            leader_id=answer.leader,
            db_size=answer.dbSize,
            db_size_in_use=answer.dbSizeInUse,
            raft_term=answer.raftTerm,
            revision=header.revision,
            errors=tuple(answer.errors),
        )
