"""The chain around handlers, with a gate that the test opens and closes."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import structlog

from coordd.clock import boottime
from coordd.etcd import errors as etcd_errors
from coordd.ha.gate import LeadershipGate
from coordd.ha.guard import ServeGuard
from coordd.meta.commit import FenceLost
from coordd.meta.key_locks import CommitsOverloaded
from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import CollectionNotFound
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role, SomethingElse

TIMESTAMP = f"{PREFIX}AllocTimestamp"
ALLOC_ID = f"{PREFIX}AllocID"
State = common_pb2.StateCode


class Chain:
    """A dispatcher with its gate and role, and short ways to call it."""

    def __init__(self) -> None:
        self.gate = FakeGate()
        self.role = Role()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        self.table = table
        self.dispatcher = Dispatcher(table, self.gate, cluster="by-dev", hold_cap_s=5.0)

    async def call(
        self, path: str, body: bytes = b"", *, deadline_in_s: float | None = 5.0, **metadata: str
    ) -> bytes:
        deadline = None if deadline_in_s is None else boottime() + deadline_in_s
        return await self.dispatcher.dispatch(path, body, Call(path, metadata, deadline))

    async def timestamp(self, **metadata: str) -> root_coord_pb2.AllocTimestampResponse:
        body = root_coord_pb2.AllocTimestampRequest(count=3).SerializeToString()
        return root_coord_pb2.AllocTimestampResponse.FromString(await self.call(TIMESTAMP, body, **metadata))

    async def alloc_id(self) -> root_coord_pb2.AllocIDResponse:
        return root_coord_pb2.AllocIDResponse.FromString(await self.call(ALLOC_ID))

    async def failure(self, path: str = TIMESTAMP, body: bytes = b"", **options: Any) -> RpcFailure:
        with pytest.raises(RpcFailure) as caught:
            await self.call(path, body, **options)
        return caught.value

    def stats(self, path: str = TIMESTAMP) -> Any:
        method = self.table.get(path)
        assert method is not None
        return method.stats


@pytest.fixture
async def chain() -> Chain:
    return Chain()


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


# --- the way of a good call ---


async def test_sync_handler_is_answered_at_once_without_a_task(chain: Chain) -> None:
    method = chain.table.get(TIMESTAMP)
    assert method is not None
    answer = chain.dispatcher.start(method, b"", Call(TIMESTAMP, {}))
    assert isinstance(answer, bytes)
    assert root_coord_pb2.AllocTimestampResponse.FromString(answer).timestamp == 1001


class SometimesLater(Role):
    """Answers AllocTimestamp from memory, or a moment later once told to."""

    ready: asyncio.Event | None = None

    def alloc_timestamp(self, request: Any, call: Call) -> Any:
        if self.ready is None:
            return super().alloc_timestamp(request, call)
        return self._later(request, call, self.ready)

    async def _later(self, request: Any, call: Call, ready: asyncio.Event) -> Any:
        await ready.wait()
        return super().alloc_timestamp(request, call)


def opened_gate() -> LeadershipGate:
    guard = ServeGuard(serve_guard_s=60)
    guard.heartbeat_acked(boottime())
    guard.keepalive_acked(boottime(), 60)
    gate = LeadershipGate("rootcoord")
    gate.new_session(4)
    gate.open(7, guard)
    return gate


async def test_a_sync_handler_may_return_what_must_be_awaited() -> None:
    role, gate, table = SometimesLater(), FakeGate(), DispatchTable()
    table.add_service(ROOT_COORD, role)
    dispatcher = Dispatcher(table, gate, cluster="by-dev")
    method = table.get(TIMESTAMP)
    assert method is not None
    role.ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(dispatcher.dispatch(TIMESTAMP, b"", Call(TIMESTAMP, {})))
        await asyncio.sleep(0)
        assert dispatcher.in_flight == 1
        role.ready.set()
    assert root_coord_pb2.AllocTimestampResponse.FromString(late.result()).timestamp == 1001
    assert dispatcher.in_flight == 0
    role.error = CollectionNotFound(collection="x")
    answer = await dispatcher.dispatch(TIMESTAMP, b"", Call(TIMESTAMP, {}))
    assert root_coord_pb2.AllocTimestampResponse.FromString(answer).status.code == 100


async def test_a_handover_waits_for_a_call_that_was_let_in_a_moment_ago() -> None:
    role, gate, table = SometimesLater(), opened_gate(), DispatchTable()
    table.add_service(ROOT_COORD, role)
    dispatcher = Dispatcher(table, gate, cluster="by-dev")
    method = table.get(TIMESTAMP)
    assert method is not None
    role.ready = asyncio.Event()
    later = dispatcher.start(method, b"", Call(TIMESTAMP, {}))
    assert not isinstance(later, bytes)
    gate.hold()
    assert not await gate.wait_idle(0.0), "its handler has run; that the rest has no task yet does not matter"
    role.ready.set()
    await later
    assert await gate.wait_idle(0.0)


async def test_an_answer_that_waits_for_the_guard_is_under_way_from_the_beginning(chain: Chain) -> None:
    method = chain.table.get(TIMESTAMP)
    assert method is not None
    chain.role.between = lambda: chain.gate.change(guard_valid=False)
    later = chain.dispatcher.start(method, b"", Call(TIMESTAMP, {}))
    assert not isinstance(later, bytes)
    assert chain.gate.running == 1
    chain.gate.change(guard_valid=True)
    assert root_coord_pb2.AllocTimestampResponse.FromString(await later).timestamp == 1001
    assert chain.gate.running == 0


async def test_async_handler_and_the_call_it_sees(chain: Chain) -> None:
    assert (await chain.alloc_id()).ID == 42
    _, call = chain.role.calls[0]
    assert call.method == ALLOC_ID
    assert 0 < (call.remaining_s() or 0) <= 5.0
    assert chain.dispatcher.in_flight == 0


async def test_calls_are_counted(chain: Chain) -> None:
    await chain.timestamp()
    chain.role.error = CollectionNotFound(collection="x")
    await chain.timestamp()
    await chain.failure(body=b"\xff")
    assert chain.stats().answered == {0: 1, 100: 1}
    assert chain.stats().failed == {int(RpcCode.INTERNAL): 1}


# --- what never reaches a handler ---


async def test_unknown_path(chain: Chain) -> None:
    failure = await chain.failure(f"{PREFIX}NoSuchMethod")
    assert failure.code is RpcCode.UNIMPLEMENTED


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x0a" * 50])
async def test_bytes_that_do_not_decode(chain: Chain, body: bytes) -> None:
    failure = await chain.failure(body=body)
    assert failure.code is RpcCode.INTERNAL
    assert TIMESTAMP in failure.message
    assert chain.role.calls == []


async def test_request_without_base_reaches_its_handler(chain: Chain) -> None:
    await chain.call(TIMESTAMP, b"")
    request, _ = chain.role.calls[0]
    assert not request.HasField("base")


async def test_other_cluster_is_refused_in_milvus_words(chain: Chain) -> None:
    failure = await chain.failure(cluster="other")
    assert failure.code is RpcCode.UNKNOWN
    assert failure.message == "cross cluster routing[expectedCluster=by-dev][actualCluster=other]"


async def test_pitfall_18_another_server_id_is_refused_in_milvus_words(chain: Chain) -> None:
    failure = await chain.failure(serverid="3")
    assert failure.code is RpcCode.UNKNOWN
    assert failure.message == "node not match[expectedNodeID=3][actualNodeID=4]"
    assert chain.role.calls == []


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"cluster": "by-dev", "serverid": "4", "sourceid": "QEBtaWx2dXMtbWVtYmVyQEA="},
        {"cluster": ""},
        {"serverid": ""},
        {"serverid": "abc"},
        {"serverid": "3.0"},
        {"serverid": " 3"},
        {"serverid": "3\n"},
        {"serverid": "9" * 40},
        {"serverid": "9223372036854775808"},
        {"serverid": "+4"},
    ],
)
async def test_missing_empty_and_unparsable_headers_pass(chain: Chain, metadata: dict[str, str]) -> None:
    assert (await chain.timestamp(**metadata)).count == 3


async def test_a_new_session_is_checked_against_its_own_id(chain: Chain) -> None:
    chain.gate.server_id = 9
    assert (await chain.timestamp(serverid="9")).count == 3
    assert "[actualNodeID=9]" in (await chain.failure(serverid="4")).message


# --- states ---


@pytest.mark.parametrize("state", [State.Initializing, State.StandBy, State.Abnormal, State.Stopping])
async def test_not_healthy_is_not_ready(chain: Chain, state: int) -> None:
    chain.gate.change(state_code=state, epoch=0)
    answer = await chain.timestamp()
    text = f"service not ready[rootcoord=4]: {common_pb2.StateCode.Name(state)}"
    assert answer.status == common_pb2.Status(
        code=1, error_code=common_pb2.ErrorCode.NotReadyServe, reason=text, detail=text, retriable=True
    )
    assert chain.role.calls == []


async def test_component_states_are_answered_in_any_state(chain: Chain) -> None:
    for state in (State.Initializing, State.StandBy, State.Abnormal):
        chain.gate.change(state_code=state, epoch=0)
        answer = milvus_pb2.ComponentStates.FromString(await chain.call(f"{PREFIX}GetComponentStates"))
        assert answer.status.code == 0


async def test_pitfall_6_metrics_are_answered_while_healthy_or_standing_by(chain: Chain) -> None:
    async def code() -> int:
        return milvus_pb2.GetMetricsResponse.FromString(await chain.call(f"{PREFIX}GetMetrics")).status.code

    assert await code() == 0
    chain.gate.change(guard_valid=False)
    assert await code() == 0
    chain.gate.change(state_code=State.StandBy)
    assert await code() == 0
    chain.gate.change(state_code=State.Initializing)
    assert await code() == 1


async def test_check_health_says_why_in_its_own_field_too(chain: Chain) -> None:
    chain.gate.change(state_code=State.StandBy)
    answer = milvus_pb2.CheckHealthResponse.FromString(await chain.call(f"{PREFIX}CheckHealth"))
    assert not answer.isHealthy
    assert answer.status.code == 1
    assert list(answer.reasons) == ["serverID=4: service not ready[rootcoord=4]: StandBy"]


async def test_method_without_handler_says_not_yet(chain: Chain) -> None:
    answer = common_pb2.Status.FromString(await chain.call(f"{PREFIX}CreateCollection"))
    assert (answer.code, answer.retriable) == (10, False)
    assert answer.reason == "coordd: RootCoord.CreateCollection is not implemented yet"
    described = await chain.call(f"{PREFIX}DescribeCollection")
    assert milvus_pb2.DescribeCollectionResponse.FromString(described).status.code == 10


async def test_a_deposed_replica_sends_the_caller_away_even_from_what_it_cannot_do(chain: Chain) -> None:
    chain.gate.depose()
    for path in (TIMESTAMP, ALLOC_ID, f"{PREFIX}CreateCollection"):
        failure = await chain.failure(path)
        assert failure.code is RpcCode.UNAVAILABLE
        assert failure.message == "rootcoord 4 is no longer the active rootcoord"
    assert chain.role.calls == []


# --- the serve guard ---


async def test_guard_passed_holds_the_call_until_it_is_extended(chain: Chain) -> None:
    chain.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.timestamp(), name="held")
        await chain.gate.someone_waits.wait()
        assert chain.role.calls == []
        assert chain.dispatcher.in_flight == 1
        chain.gate.change(guard_valid=True)
    assert held.result().timestamp == 1001
    assert chain.stats().held == 1
    assert chain.dispatcher.in_flight == 0


async def test_held_call_is_sent_away_when_the_term_ends(chain: Chain) -> None:
    chain.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.failure(), name="held")
        await chain.gate.someone_waits.wait()
        chain.gate.depose()
    assert held.result().code is RpcCode.UNAVAILABLE
    assert chain.role.calls == []


async def test_hold_ends_at_the_callers_deadline(chain: Chain) -> None:
    chain.gate.change(guard_valid=False)
    async with asyncio.timeout(2):  # the cap is 5 s
        failure = await chain.failure(deadline_in_s=0.02)
    assert failure.code is RpcCode.DEADLINE_EXCEEDED


async def test_hold_without_deadline_ends_at_the_cap(chain: Chain) -> None:
    chain.gate.change(guard_valid=False)
    dispatcher = Dispatcher(chain.table, chain.gate, cluster="by-dev", hold_cap_s=0.02)
    with pytest.raises(RpcFailure) as caught:
        await dispatcher.dispatch(TIMESTAMP, b"", Call(TIMESTAMP, {}))
    assert caught.value.code is RpcCode.UNAVAILABLE


async def test_guard_that_passes_inside_a_sync_handler_holds_the_answer(chain: Chain) -> None:
    chain.role.between = lambda: chain.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.timestamp(), name="held")
        await chain.gate.someone_waits.wait()
        assert not held.done()
        chain.gate.change(guard_valid=True)
    assert held.result().timestamp == 1001
    assert len(chain.role.calls) == 1


async def test_deposed_inside_a_sync_handler_gives_no_answer(chain: Chain) -> None:
    chain.role.between = chain.gate.depose
    assert (await chain.failure()).code is RpcCode.UNAVAILABLE
    assert chain.stats().answered == {}


async def test_deposed_inside_an_async_handler_gives_no_answer(chain: Chain) -> None:
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.failure(ALLOC_ID), name="call")
        await chain.role.entered.wait()
        chain.gate.depose()
        chain.role.proceed.set()
    assert call.result().code is RpcCode.UNAVAILABLE


async def test_an_answer_of_an_earlier_term_is_not_given_in_a_later_one(chain: Chain) -> None:
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.failure(ALLOC_ID), name="call")
        await chain.role.entered.wait()
        chain.gate.depose()
        chain.gate.change(deposed=False, epoch=99, state_code=State.Healthy)
        chain.role.proceed.set()
    assert call.result().code is RpcCode.UNAVAILABLE


async def test_a_sync_answer_of_an_earlier_term_is_not_given_in_a_later_one(chain: Chain) -> None:
    chain.role.between = lambda: chain.gate.change(epoch=99)
    assert (await chain.failure()).code is RpcCode.UNAVAILABLE


async def test_a_state_change_during_a_call_gives_no_not_ready_status(chain: Chain) -> None:
    chain.role.between = lambda: chain.gate.change(state_code=State.StandBy)
    assert (await chain.failure()).code is RpcCode.UNAVAILABLE


async def test_error_answers_need_the_guard_too(chain: Chain) -> None:
    chain.role.proceed.clear()
    chain.role.error = CollectionNotFound(collection="x")
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.failure(ALLOC_ID), name="call")
        await chain.role.entered.wait()
        chain.gate.depose()
        chain.role.proceed.set()
    assert call.result().code is RpcCode.UNAVAILABLE


async def test_cancelling_a_held_call_leaves_nothing_behind(chain: Chain) -> None:
    chain.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.timestamp(), name="held")
        await chain.gate.someone_waits.wait()
        held.cancel()
        with pytest.raises(asyncio.CancelledError):
            await held
    assert (chain.gate.waiting, chain.dispatcher.in_flight) == (0, 0)
    assert chain.stats().failed == {int(RpcCode.CANCELLED): 1}


async def test_cancelling_a_running_handler_reaches_it(chain: Chain) -> None:
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.alloc_id(), name="call")
        await chain.role.entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert chain.dispatcher.in_flight == 0


@pytest.mark.parametrize("path", [TIMESTAMP, ALLOC_ID], ids=["def", "async def"])
async def test_a_handler_whose_work_was_cancelled_elsewhere_is_a_failure_to_repeat(
    chain: Chain, log_lines: list[Any], path: str
) -> None:
    """A 2.3 client looks the coordinator up anew after UNAVAILABLE, and not after CANCELLED."""
    shared: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    shared.cancel()
    method = chain.table.get(path)
    assert method is not None
    method.handler = lambda _request, _call: shared.result() if path == TIMESTAMP else shared
    for _ in range(2):
        assert (await chain.failure(path)).code is RpcCode.UNAVAILABLE
    assert chain.stats(path).failed == {int(RpcCode.UNAVAILABLE): 2}
    assert chain.stats(path).bugs == 2
    assert [line["event"] for line in log_lines] == ["unexpected error in a handler"]
    assert (chain.dispatcher.in_flight, chain.gate.running) == (0, 0)


# --- leadership on its way out, and passed on ---


class Heir:
    """A way to another replica: notes what is forwarded, answers when told to."""

    server_ids = (4, 9)

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes, dict[str, str], float | None]] = []
        self.error: RpcFailure | None = None
        self.proceed = asyncio.Event()
        self.proceed.set()

    async def forward(
        self, path: str, body: bytes, metadata: Mapping[str, str], deadline: float | None
    ) -> bytes:
        self.calls.append((path, body, dict(metadata), deadline))
        await self.proceed.wait()
        if self.error is not None:
            raise self.error
        return b"the heir's bytes, whatever they mean"


@pytest.mark.parametrize("path", [TIMESTAMP, ALLOC_ID, f"{PREFIX}CreateCollection"])
async def test_new_calls_wait_while_leadership_is_on_its_way_out(chain: Chain, path: str) -> None:
    chain.gate.change(holding=True)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.call(path))
        await chain.gate.someone_waits.wait()
        assert chain.role.calls == []
        assert chain.gate.running == 0, "a drain waits for handlers that run, not for those it holds"
        chain.gate.change(holding=False)
    assert held.result()
    assert chain.stats(path).held == 1


async def test_a_handler_under_way_is_still_answered_while_new_calls_wait(chain: Chain) -> None:
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.alloc_id())
        await chain.role.entered.wait()
        assert chain.gate.running == 1
        chain.gate.change(holding=True)
        chain.role.proceed.set()
    assert call.result().ID == 42
    assert chain.gate.running == 0


async def test_calls_wait_while_the_role_is_being_made_ready(chain: Chain) -> None:
    chain.gate.change(holding=True, state_code=State.Initializing, epoch=0)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.timestamp())
        await chain.gate.someone_waits.wait()
        chain.gate.change(holding=False, state_code=State.Healthy, epoch=7)
    assert held.result().timestamp == 1001


async def test_a_held_call_is_forwarded_as_it_came_once_leadership_is_passed_on(chain: Chain) -> None:
    heir, body = Heir(), root_coord_pb2.AllocTimestampRequest(count=3).SerializeToString()
    chain.gate.change(holding=True)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.call(TIMESTAMP, body, serverid="4", cluster="by-dev"))
        await chain.gate.someone_waits.wait()
        chain.gate.change(holding=False, deposed=True, epoch=0, forwarder=heir, state_code=State.Abnormal)
    assert held.result() == b"the heir's bytes, whatever they mean"
    ((path, forwarded, metadata, deadline),) = heir.calls
    assert (path, forwarded) == (TIMESTAMP, body)
    assert metadata == {"serverid": "4", "cluster": "by-dev"}
    assert deadline is not None
    assert 0 < deadline - boottime() <= 5
    assert chain.role.calls == []
    assert chain.stats().forwarded == 1
    assert chain.stats().answered == {}, "the heir counts what it answers"


async def test_a_held_call_without_an_heir_is_sent_away(chain: Chain) -> None:
    chain.gate.change(holding=True)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.failure())
        await chain.gate.someone_waits.wait()
        chain.gate.change(holding=False, deposed=True, epoch=0, state_code=State.Abnormal)
    assert held.result().code is RpcCode.UNAVAILABLE


@pytest.mark.parametrize("state", [State.Abnormal, State.StandBy])
async def test_late_calls_are_forwarded_whatever_this_replica_is_now(chain: Chain, state: int) -> None:
    heir = Heir()
    chain.gate.change(deposed=True, epoch=0, forwarder=heir, state_code=state)
    for path in (TIMESTAMP, ALLOC_ID, f"{PREFIX}CreateCollection"):
        await chain.call(path)
    assert [path for path, *_ in heir.calls] == [TIMESTAMP, ALLOC_ID, f"{PREFIX}CreateCollection"]
    states = milvus_pb2.ComponentStates.FromString(await chain.call(f"{PREFIX}GetComponentStates"))
    assert states.status.code == 0
    assert len(heir.calls) == 3, "what this replica says of itself is not the heir's"


@pytest.mark.parametrize("server_id", ["4", "9", "11", None])
async def test_while_forwarding_calls_to_the_old_and_to_the_new_server_id_pass(
    chain: Chain, server_id: str | None
) -> None:
    """11 is the session under which the old replica has registered anew since."""
    chain.gate.change(deposed=True, epoch=0, forwarder=Heir(), state_code=State.StandBy, server_id=11)
    headers = {} if server_id is None else {"serverid": server_id}
    assert await chain.call(TIMESTAMP, **headers)


async def test_while_forwarding_calls_to_somebody_else_are_refused(chain: Chain) -> None:
    heir = Heir()
    chain.gate.change(deposed=True, epoch=0, forwarder=heir, server_id=11)
    failure = await chain.failure(serverid="5")
    assert failure.code is RpcCode.UNKNOWN
    assert failure.message == "node not match[expectedNodeID=5][actualNodeID=11]"
    assert (await chain.failure(cluster="other")).code is RpcCode.UNKNOWN
    assert heir.calls == []


async def test_the_heirs_server_id_is_not_ours_before_leadership_is_passed_on(chain: Chain) -> None:
    chain.gate.change(holding=True)
    assert (await chain.failure(serverid="9")).code is RpcCode.UNKNOWN


async def test_a_failure_of_the_heir_is_the_callers(chain: Chain) -> None:
    heir = Heir()
    heir.error = RpcFailure(RpcCode.RESOURCE_EXHAUSTED, "full")
    chain.gate.change(deposed=True, epoch=0, forwarder=heir)
    failure = await chain.failure()
    assert (failure.code, failure.message) == (RpcCode.RESOURCE_EXHAUSTED, "full")
    assert chain.stats().failed == {int(RpcCode.RESOURCE_EXHAUSTED): 1}


async def test_an_undecodable_request_is_refused_here(chain: Chain) -> None:
    heir = Heir()
    chain.gate.change(deposed=True, epoch=0, forwarder=heir)
    assert (await chain.failure(body=b"\xff")).code is RpcCode.INTERNAL
    assert heir.calls == []


async def test_an_answer_of_an_ended_epoch_is_never_given_while_forwarding(chain: Chain) -> None:
    """The handler has run here, in a term that is over: neither its answer nor the heir's may follow."""
    heir = Heir()
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.failure(ALLOC_ID))
        await chain.role.entered.wait()
        chain.gate.change(holding=True)
        chain.gate.change(holding=False, deposed=True, epoch=0, forwarder=heir, state_code=State.Abnormal)
        chain.role.proceed.set()
    assert call.result().code is RpcCode.UNAVAILABLE
    assert heir.calls == [], "run twice, it might take effect twice"


async def test_a_sync_answer_of_an_ended_epoch_is_never_given_while_forwarding(chain: Chain) -> None:
    heir = Heir()
    chain.role.between = lambda: chain.gate.change(deposed=True, epoch=0, forwarder=heir)
    assert (await chain.failure()).code is RpcCode.UNAVAILABLE
    assert heir.calls == []


async def test_an_answer_held_back_by_silence_is_given_when_the_handover_failed(chain: Chain) -> None:
    chain.role.proceed.clear()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.alloc_id())
        await chain.role.entered.wait()
        chain.gate.change(holding=True, guard_valid=False)
        chain.role.proceed.set()
        await chain.gate.someone_waits.wait()
        assert not call.done()
        assert chain.gate.running == 1
        chain.gate.change(holding=False, guard_valid=True)
    assert call.result().ID == 42


async def test_a_forwarded_call_is_in_flight_and_runs_no_handler(chain: Chain) -> None:
    heir = Heir()
    heir.proceed.clear()
    chain.gate.change(deposed=True, epoch=0, forwarder=heir)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(chain.call(TIMESTAMP))
        await asyncio.sleep(0)
        assert (chain.dispatcher.in_flight, chain.gate.running) == (1, 0)
        heir.proceed.set()
    assert call.done()
    assert chain.dispatcher.in_flight == 0


@pytest.mark.parametrize("how", ["answered", "failed", "a bug", "cancelled", "deposed"])
async def test_a_handler_that_has_ended_somehow_runs_no_more(chain: Chain, how: str) -> None:
    chain.role.proceed.clear()
    chain.role.error = {"failed": FenceLost(committed=False), "a bug": KeyError("x")}.get(how)
    call = asyncio.get_running_loop().create_task(chain.call(ALLOC_ID))
    await chain.role.entered.wait()
    assert (chain.dispatcher.in_flight, chain.gate.running) == (1, 1)
    if how == "cancelled":
        call.cancel()
    elif how == "deposed":
        chain.gate.depose()
    chain.role.proceed.set()
    await asyncio.wait([call])
    assert call.cancelled() == (how == "cancelled")
    if not call.cancelled():
        assert isinstance(call.exception(), RpcFailure) == (how in ("failed", "deposed"))
    assert (chain.dispatcher.in_flight, chain.gate.running) == (0, 0)


# --- what handlers raise ---


@pytest.mark.parametrize(
    ("error", "code", "retriable", "text"),
    [
        (CollectionNotFound(collection="x"), 100, False, "collection not found[collection=x]"),
        (SomethingElse("no such thing", hint="try another"), 65535, False, "no such thing (try another)"),
        (etcd_errors.Unavailable("no etcd"), 2, True, "service unavailable: no etcd"),
        (etcd_errors.RequestTimeout("slow etcd"), 2, True, "service unavailable: slow etcd"),
        (etcd_errors.PermissionDenied("not allowed"), 65535, False, "not allowed"),
        (CommitsOverloaded("9 wait"), 2, True, "service unavailable: 9 wait"),
    ],
)
async def test_expected_errors_become_a_status(
    chain: Chain, error: Exception, code: int, retriable: bool, text: str
) -> None:
    chain.role.error = error
    for answer in (await chain.timestamp(), await chain.alloc_id()):
        assert (answer.status.code, answer.status.retriable, answer.status.reason) == (code, retriable, text)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (etcd_errors.OutcomeUnknown("sent, not answered"), RpcCode.UNKNOWN),
        (etcd_errors.NoSpace("quota"), RpcCode.UNKNOWN),
        (etcd_errors.LeaseLost("lease 1 is gone"), RpcCode.UNAVAILABLE),
        (FenceLost(committed=False), RpcCode.UNAVAILABLE),
        (FenceLost(committed=True), RpcCode.UNKNOWN),
        (FenceLost(committed=None), RpcCode.UNKNOWN),
        (RpcFailure(RpcCode.RESOURCE_EXHAUSTED, "full"), RpcCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_errors_of_leadership_fail_the_call(chain: Chain, error: Exception, code: RpcCode) -> None:
    chain.role.error = error
    assert (await chain.failure()).code is code
    assert (await chain.failure(ALLOC_ID)).code is code


async def test_a_bug_is_answered_and_logged_once_with_its_traceback(
    chain: Chain, log_lines: list[Any]
) -> None:
    chain.role.error = KeyError("secret")
    for _ in range(3):
        status = (await chain.timestamp()).status
        assert status.code == 65535
        assert (
            status.reason
            == "unexpected error in RootCoord.AllocTimestamp; the log of rootcoord 4 has its cause"
        )
        assert "secret" not in status.detail
    assert chain.stats().bugs == 3
    assert [line["event"] for line in log_lines] == ["unexpected error in a handler"]
    assert log_lines[0]["method"] == TIMESTAMP
    assert log_lines[0]["exc_info"] is chain.role.error


async def test_a_handler_that_returns_the_wrong_type_is_a_bug(chain: Chain, log_lines: list[Any]) -> None:
    answer = milvus_pb2.BoolResponse.FromString(await chain.call(f"{PREFIX}HasCollection"))
    assert answer.status.code == 65535
    assert "Status" in str(log_lines[0]["exc_info"])
