"""The chain around every handler: decode, header checks, state and serve guard, errors → status, counts.

It knows no transport. A transport looks a path up, hands over the request's bytes and a `Call`, and gets
bytes back or an `RpcFailure`; what is answered from memory comes back at once, without a task of its own.

Order, as Milvus' own servers have it: unknown method, undecodable request, `cluster` header, `serverid`
header, state. Then, for guarded methods, the serve guard: before the handler starts and again before its
answer leaves, because the process may have been stopped in between. A guard that has passed holds the call
until the replica may serve again, bounded by the caller's deadline; the end of the term fails it with
UNAVAILABLE, so that the caller looks the coordinator up anew. So an answer that was held is not out of date:
it leaves only if a heartbeat was committed in the very epoch in which its handler began, and as long as that
lasts nobody else writes. While leadership is on its way out new calls wait, and after a handover they are
forwarded to the heir, as they came.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Coroutine
from typing import Any

from google.protobuf.message import DecodeError, Message

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.log import get_logger
from coordd.pb import common_pb2, milvus_pb2
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.gate import Forwarder, ServeGate
from coordd.rpc.stats import MethodStats
from coordd.rpc.status import CrossClusterRouting, MilvusError, NodeNotMatch, not_ready
from coordd.rpc.table import DispatchTable, Handler, Method, Policy
from coordd.rpc.translate import translate, unexpected

__all__ = ["DispatchTable", "Dispatcher", "Handler", "Method", "Policy"]

_DECIMAL = re.compile(r"[+-]?[0-9]{1,19}\Z")
_HEALTHY = common_pb2.StateCode.Healthy
_STANDBY = common_pb2.StateCode.StandBy
_MAX_KNOWN_BUGS = 256


class Dispatcher:
    """Answers calls of one role.

    `cluster` is the value of `msgChannel.chanNamePrefix.cluster`; `hold_cap_s` bounds the wait of a call that
    set no deadline (Milvus' clients always set one).

    Attributes:
        in_flight: calls that have started and have not been answered, held ones included.
        hold_cap_s: how long a call without a deadline is held.
    """

    def __init__(
        self, table: DispatchTable, gate: ServeGate, *, cluster: str, hold_cap_s: float = 60.0
    ) -> None:
        self.table = table
        self.gate = gate
        self.in_flight = 0
        self._cluster = cluster
        self.hold_cap_s = hold_cap_s
        self._log = get_logger("coordd.rpc").bind(role=gate.role)
        self._known_bugs: set[tuple[str, str, int]] = set()

    async def dispatch(self, path: str, body: bytes, call: Call) -> bytes:
        """Answer one call.

        Raises:
            RpcFailure: the call fails at gRPC level.
        """
        method = self.table.get(path)
        if method is None:
            raise RpcFailure(RpcCode.UNIMPLEMENTED, f"unknown method {path}")
        answer = self.start(method, body, call)
        return answer if isinstance(answer, bytes) else await answer

    def start(self, method: Method, body: bytes, call: Call) -> bytes | Coroutine[Any, Any, bytes]:
        """The answer's bytes at once, or a coroutine that must be awaited for them.

        Raises:
            RpcFailure: the call fails at gRPC level; awaiting the coroutine may raise it too.
        """
        started = time.perf_counter()
        gate = self.gate
        call.body = body
        try:
            request = self._receive(method, body, call)
            at_once = (
                gate.serving() and not gate.holding if method.guarded else method.policy is Policy.ALWAYS
            )
            if method.is_async or not at_once:
                return self._serve(method, request, body, call, started)
            epoch = gate.epoch
            response = self._invoke(method, request, call)
            answer = response.SerializeToString() if isinstance(response, Message) else None
            if answer is None or (method.guarded and not (gate.serving() and gate.epoch == epoch)):
                gate.call_began()  # now: whatever happens before the coroutine's first step must know of it
                return self._serve(method, request, body, call, started, begun=(epoch, response))
        except RpcFailure as failure:
            method.stats.fail(failure.code)
            raise
        method.stats.answer(method.status_code(response), time.perf_counter() - started)
        return answer

    def _receive(self, method: Method, body: bytes, call: Call) -> Message:
        try:
            request = method.request_type.FromString(body)
        except DecodeError as error:
            raise RpcFailure(
                RpcCode.INTERNAL, f"{method.path}: the request does not decode: {error}"
            ) from error
        metadata = call.metadata
        cluster = metadata.get("cluster")
        if cluster and cluster != self._cluster:
            mismatch = CrossClusterRouting(expectedCluster=self._cluster, actualCluster=cluster)
            raise RpcFailure(RpcCode.UNKNOWN, mismatch.message)
        wanted = metadata.get("serverid")
        if wanted is not None and not self._is_addressed(expected := _parse_int64(wanted)):
            other = NodeNotMatch(expectedNodeID=expected, actualNodeID=self.gate.server_id)
            raise RpcFailure(RpcCode.UNKNOWN, other.message)
        return request

    def _is_addressed(self, server_id: int | None) -> bool:
        """Whether a call to this server id is for us, or for the one to whom it would be forwarded."""
        if server_id in (None, self.gate.server_id):
            return True
        return self.gate.forwarder is not None and server_id in self.gate.forwarder.server_ids

    async def _serve(
        self,
        method: Method,
        request: Message,
        body: bytes,
        call: Call,
        started: float,
        *,
        begun: tuple[int, Message | Awaitable[Message]] | None = None,
    ) -> bytes:
        """What takes time: a call that must wait, be forwarded or be refused, an answer that is yet to come.

        `begun`: epoch and outcome of a handler that has run already, and of which the gate knows.
        """
        self.in_flight += 1
        try:
            if begun is None:
                try:
                    admitted = await self._admit(method, call)
                except MilvusError as refusal:
                    response = self._refusal(method, refusal)
                    method.stats.answer(refusal.code, 0.0)
                    return response.SerializeToString()
                if not isinstance(admitted, int):
                    method.stats.forwarded += 1
                    return await admitted.forward(method.path, body, call.metadata, call.deadline)
                begun = admitted, self._invoke(method, request, call)
                self.gate.call_began()
            response, answer = await self._finish(method, call, *begun)
        except RpcFailure as failure:
            method.stats.fail(failure.code)
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                method.stats.fail(RpcCode.CANCELLED)
                raise
            abandoned = self._abandoned(method, error)
            method.stats.fail(abandoned.code)
            raise abandoned from error
        finally:
            self.in_flight -= 1
        method.stats.answer(method.status_code(response), time.perf_counter() - started)
        return answer

    async def _finish(
        self, method: Method, call: Call, epoch: int, outcome: Message | Awaitable[Message]
    ) -> tuple[Message, bytes]:
        """The answer of a handler that runs, and of which the gate knows, once it may leave."""
        try:
            response = outcome if isinstance(outcome, Message) else await self._resolve(method, outcome)
            answer = response.SerializeToString()
            if method.guarded:
                await self._wait_to_answer(method, call, epoch)
        finally:
            self.gate.call_ended()
        return response, answer

    async def _admit(self, method: Method, call: Call) -> int | Forwarder:
        """The epoch the call starts in, or who answers it instead.

        Raises:
            MilvusError: this state does not answer the method; the caller may try again here.
            RpcFailure: the caller must look elsewhere, or its deadline passed.
        """
        gate = self.gate
        if method.guarded:
            return await self._wait_to_start(method, call)
        if method.policy is Policy.HEALTHY_OR_STANDBY and gate.state_code not in (_HEALTHY, _STANDBY):
            raise not_ready(gate.role, gate.server_id, gate.state_code)
        return gate.epoch

    async def _wait_to_start(self, method: Method, call: Call) -> int | Forwarder:
        gate = self.gate
        hold = _Hold(self, method, call)
        while True:
            if gate.forwarder is not None:
                return gate.forwarder
            if gate.deposed:
                raise _elsewhere(gate)
            if not gate.holding:
                if gate.serving():
                    return gate.epoch
                if gate.state_code != _HEALTHY:
                    raise not_ready(gate.role, gate.server_id, gate.state_code)
            await hold.wait()

    async def _wait_to_answer(self, method: Method, call: Call, epoch: int) -> None:
        """Return when an answer of `epoch` may leave.

        Raises:
            RpcFailure: the epoch is over, or the caller's deadline passed.
        """
        gate = self.gate
        hold = _Hold(self, method, call)
        while gate.epoch == epoch and not gate.deposed:
            if gate.serving():
                return
            if gate.state_code != _HEALTHY and not gate.holding:
                break
            await hold.wait()
        raise _elsewhere(gate)

    def hold_ended(self, call: Call) -> RpcFailure:
        """What a call ends with that was held for too long."""
        gate = self.gate
        text = f"{gate.role} {gate.server_id} cannot confirm that it still leads (no heartbeat acknowledged)"
        if call.deadline is not None and call.deadline <= boottime():
            return RpcFailure(RpcCode.DEADLINE_EXCEEDED, text)
        return RpcFailure(RpcCode.UNAVAILABLE, text)

    def _invoke(self, method: Method, request: Message, call: Call) -> Message | Awaitable[Message]:
        """The handler's answer, or what must be awaited for it (`_resolve`)."""
        try:
            response = method.handler(request, call)
            if method.is_async or (not isinstance(response, Message) and isinstance(response, Awaitable)):
                return response
            return _checked(method, response)
        except asyncio.CancelledError as error:  # nothing was awaited: it is that of something else
            raise self._abandoned(method, error) from error
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must become an answer
            return self._failed(method, error)

    async def _resolve(self, method: Method, pending: Awaitable[Message]) -> Message:
        try:
            return _checked(method, await pending)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises must become an answer
            return self._failed(method, error)

    def _failed(self, method: Method, error: Exception) -> Message:
        """The response that carries what a handler raised.

        Raises:
            RpcFailure: the error is one for the gRPC level.
        """
        if isinstance(error, CoorddError):
            outcome = translate(error)
        else:
            self._log_bug(method, error)
            outcome = unexpected(f"{method.service}.{method.name}", self.gate.role, self.gate.server_id)
        if isinstance(outcome, RpcFailure):
            if outcome is error:
                raise outcome
            raise outcome from error
        return self._refusal(method, outcome)

    def _abandoned(self, method: Method, error: asyncio.CancelledError) -> RpcFailure:
        """What a call ends with whose handler was cancelled, though nobody gave the call up.

        Something that the handler waited for has ended before it, most likely with the term. CANCELLED would
        keep a 2.3 client on this connection; after UNAVAILABLE it looks the coordinator up anew.
        """
        self._log_bug(method, error)
        return RpcFailure(
            RpcCode.UNAVAILABLE, f"{self.gate.role} {self.gate.server_id} gave {method.name} up"
        )

    def _refusal(self, method: Method, error: MilvusError) -> Message:
        response = method.error_response(error.to_status())
        if response is None:
            raise RpcFailure(RpcCode.UNKNOWN, error.message)
        if isinstance(response, milvus_pb2.CheckHealthResponse):
            response.reasons.append(f"serverID={self.gate.server_id}: {error.message}")
        return response

    def _log_bug(self, method: Method, error: BaseException) -> None:
        """Count every bug; log the traceback of the first one of its place only."""
        method.stats.bugs += 1
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (method.path, type(error).__name__, 0 if trace is None else trace.tb_lineno)
        if place in self._known_bugs or len(self._known_bugs) >= _MAX_KNOWN_BUGS:
            return
        self._known_bugs.add(place)
        self._log.error("unexpected error in a handler", method=method.path, exc_info=error)


class _Hold:
    """The wait of one call: until its deadline, counted once."""

    __slots__ = ("_call", "_deadline", "_dispatcher", "_stats")

    def __init__(self, dispatcher: Dispatcher, method: Method, call: Call) -> None:
        self._dispatcher = dispatcher
        self._call = call
        self._stats: MethodStats | None = method.stats
        self._deadline: float | None = None

    async def wait(self) -> None:
        """Wait for a change at the gate.

        Raises:
            RpcFailure: the call has waited for as long as it may.
        """
        if self._deadline is None:
            own = self._call.deadline
            self._deadline = boottime() + self._dispatcher.hold_cap_s if own is None else own
        if boottime() >= self._deadline:
            raise self._dispatcher.hold_ended(self._call)
        if self._stats is not None:
            self._stats.held += 1
            self._stats = None
        await self._dispatcher.gate.wait_change(self._deadline)


def _elsewhere(gate: ServeGate) -> RpcFailure:
    """Told to a caller that must look the coordinator up anew; a Status would keep it on this connection."""
    return RpcFailure(
        RpcCode.UNAVAILABLE, f"{gate.role} {gate.server_id} is no longer the active {gate.role}"
    )


def _parse_int64(text: str) -> int | None:
    """What Go's ParseInt makes of a header; None for what it refuses, which Milvus' servers let pass."""
    if not _DECIMAL.match(text):
        return None
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 63 else None


def _checked(method: Method, response: object) -> Message:
    if type(response) is method.response_type and isinstance(response, Message):
        return response
    raise TypeError(f"the handler of {method.path} returned {type(response).__name__}")
