"""A watch that outlives its streams: it reconnects, elsewhere if need be, and goes on where it was.

There is no task and no queue behind it: messages are taken from the stream as the consumer asks for them,
so a slow consumer is felt by etcd through HTTP/2 flow control. A partitioned member ends the stream by itself
(the request demands a leader); a frozen one is found out by HTTP/2 pings, or sooner by requests on the same
connection that time out.

What it does not do: report being disconnected. It retries for ever; the consumer sees silence, which etcd's
progress notifications (every 10 minutes by default) tell from an idle range.

Source: etcd server/etcdserver/api/v3rpc/watch.go. etcd before 3.5.6 answers a watch with a stale token with
"permission denied", so a fresh token is tried before that is believed.
"""

from collections.abc import AsyncGenerator
from typing import Any

from coordd.etcd import codec, methods
from coordd.etcd.auth import refused_again
from coordd.etcd.backoff import Backoff
from coordd.etcd.connection import CallFailedError, Stream
from coordd.etcd.errors import Compacted, PermissionDenied, TlsError, Unavailable, WatchCancelled
from coordd.etcd.revisions import OutOfOrderError, Revisions
from coordd.etcd.translate import Failure, Verdict, plain, translate
from coordd.etcd.transport import Transport
from coordd.etcd.types import WatchBatch
from coordd.http2.outcome import CallFailed
from coordd.http2.status import RpcCode
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")
_CREATE_LIMIT_S = 5.0
_BACKOFF_MAX_S = 1.0


class Watch:
    """One range from one revision on. `batches` may be iterated once."""

    def __init__(
        self, transport: Transport, start: str, end: str | None, from_revision: int, *, prev_kv: bool
    ) -> None:
        self._transport = transport
        self._range = (start, end)
        self._prev_kv = prev_kv
        self._revisions = Revisions(from_revision)
        self._backoff = Backoff(max_s=_BACKOFF_MAX_S)
        self._token: str | None = None
        self._doubted_token = False
        self._lost = False

    async def batches(self) -> AsyncGenerator[WatchBatch, None]:
        """See `EtcdClient.watch`."""
        while True:
            try:
                async with self._transport.stream(methods.WATCH, timeout_s=_CREATE_LIMIT_S) as stream:
                    await self._create(stream)
                    while True:
                        batch = self._take(await stream.receive(give_way=True))
                        if batch is not None:
                            yield batch
            except CallFailedError as failed:
                await self._judge(failed.failure)
            except (Unavailable, TlsError, OutOfOrderError) as error:
                await self._pause(str(error))

    async def _create(self, stream: Stream) -> None:
        self._token = self._transport.auth.token
        start, end = self._range
        self._revisions.reconnected()
        request = codec.watch_request(start, end, self._revisions.next_revision, prev_kv=self._prev_kv)
        answer = await stream.ask(request, _CREATE_LIMIT_S)
        if answer.canceled:
            self._cancelled(answer)
        if self._lost:
            _LOG.info("etcd watch resumed", start=start, revision=self._revisions.next_revision)
        self._lost = self._doubted_token = False
        self._backoff.reset()

    def _take(self, answer: Any) -> WatchBatch | None:
        if answer.canceled:
            self._cancelled(answer)
        if answer.events:
            events = [codec.event(raw) for raw in answer.events]
            return self._revisions.events(events, fragment=answer.fragment)
        return None if answer.fragment or answer.created else self._revisions.progress(answer.header.revision)

    def _cancelled(self, answer: Any) -> None:
        """Raise what a cancelling response stands for."""
        start, reason = self._range[0], plain(answer.cancel_reason)
        if answer.compact_revision or "required revision has been compacted" in reason:
            raise Compacted(
                f"watch of {start!r} from revision {self._revisions.next_revision}: compacted at"
                f" {answer.compact_revision}",
                compact_revision=answer.compact_revision,
            )
        cancelled = CallFailed(RpcCode.CANCELLED, answer.cancel_reason, sent=True, from_server=True)
        failure = translate(cancelled, request=methods.WATCH.name, endpoint="etcd")
        if failure.verdict is Verdict.UNKNOWN:
            raise WatchCancelled(f"etcd ended the watch of {start!r}: {reason or 'no reason'}", reason=reason)
        raise CallFailedError(failure)

    async def _judge(self, failure: Failure) -> None:
        """Decide after a broken stream: return to try again, raise to give up."""
        self._transport.check_open()
        verdict, error = failure.verdict, failure.error
        doubt = isinstance(error, PermissionDenied) and self._token is not None
        if doubt or verdict is Verdict.REAUTHENTICATE:
            if self._doubted_token:
                raise error if isinstance(error, PermissionDenied) else refused_again(error)
            self._doubted_token = True
            self._transport.auth.invalidate(self._token)
            return
        if verdict is Verdict.REFUSED:
            raise error
        await self._pause(error.message)

    async def _pause(self, reason: str) -> None:
        self._transport.check_open()
        if not self._lost:
            self._lost = True
            revision = self._revisions.next_revision
            _LOG.warning("etcd watch lost, resuming", start=self._range[0], revision=revision, reason=reason)
        await self._transport.pause(self._backoff.pause_s())
