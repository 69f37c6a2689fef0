"""Keeping a lease alive over one stream that is kept open.

One request is outstanding at a time, so an answer can only belong to the request sent last on its stream,
and `sent_at`, read before that request is handed to the connection, is never later than its real sending. An
answer that does not come in time costs the stream: what arrives on an abandoned stream is never looked at.

What it does not do: decide that a lease is lost because answers stay away. That is a matter of clocks and
belongs to the caller, who knows `sent_at + ttl_s` of the last answer. `LeaseLost` is etcd's own word. (etcd
before 3.4.38, 3.5.23, 3.6.5 may also answer for a lease just revoked: an answer is no proof of ownership.)

Source: etcd client/v3/lease.go, server/etcdserver/api/v3rpc/lease.go (an unknown lease is TTL 0).
"""

import asyncio
from collections.abc import AsyncGenerator

from coordd.clock import boottime
from coordd.etcd.auth import refused_again
from coordd.etcd.backoff import Backoff
from coordd.etcd.connection import CallFailedError, Stream
from coordd.etcd.errors import LeaseLost, TlsError, Unavailable
from coordd.etcd.messages import rpc
from coordd.etcd.methods import LEASE_KEEP_ALIVE
from coordd.etcd.translate import Failure, Verdict
from coordd.etcd.transport import Transport
from coordd.etcd.types import KeepAliveAck
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")
_ANSWER_LIMITS_S = (0.5, 5.0)


class KeepAlive:
    """One lease. `acks` may be iterated once."""

    def __init__(self, transport: Transport, lease_id: int, interval_s: float) -> None:
        self._transport = transport
        self._lease_id = lease_id
        self._interval_s = interval_s
        self._answer_limit_s = min(max(interval_s, _ANSWER_LIMITS_S[0]), _ANSWER_LIMITS_S[1])
        self._backoff = Backoff()
        self._renewed_token = False
        self._lost = False
        self._due = 0.0

    async def acks(self) -> AsyncGenerator[KeepAliveAck, None]:
        """See `EtcdClient.keep_alive`."""
        while True:
            token = None
            try:
                async with self._transport.stream(LEASE_KEEP_ALIVE, timeout_s=self._answer_limit_s) as stream:
                    token = self._transport.auth.token
                    while True:
                        yield await self._renew(stream)
                        await asyncio.sleep(max(0.0, self._due - boottime()))
            except CallFailedError as failed:
                await self._judge(failed.failure, token)
            except (Unavailable, TlsError) as error:
                await self._pause(error.message)

    async def _renew(self, stream: Stream) -> KeepAliveAck:
        sent_at = boottime()
        self._due = sent_at + self._interval_s
        answer = await stream.ask(rpc.LeaseKeepAliveRequest(ID=self._lease_id), self._answer_limit_s)
        self._transport.figures.answered(LEASE_KEEP_ALIVE.name, answer.header.revision)
        if answer.TTL <= 0:
            raise LeaseLost(f"etcd lease {self._lease_id:x} has ended")
        if self._lost:
            _LOG.info("etcd keepalive resumed", lease=f"{self._lease_id:x}")
        self._lost = self._renewed_token = False
        self._backoff.reset()
        return KeepAliveAck(sent_at, boottime(), answer.TTL)

    async def _judge(self, failure: Failure, token: str | None) -> None:
        """Decide after a broken stream: return to try again, raise to give up."""
        self._transport.check_open()
        if failure.verdict is Verdict.REAUTHENTICATE:
            if self._renewed_token:
                raise refused_again(failure.error)
            self._renewed_token = True
            self._transport.auth.invalidate(token)
            return
        if failure.verdict is Verdict.REFUSED:
            raise failure.error
        await self._pause(failure.error.message)

    async def _pause(self, reason: str) -> None:
        self._transport.check_open()
        if not self._lost:
            self._lost = True
            _LOG.warning("etcd keepalive lost, retrying", lease=f"{self._lease_id:x}", reason=reason)
        await self._transport.pause(self._backoff.pause_s())
