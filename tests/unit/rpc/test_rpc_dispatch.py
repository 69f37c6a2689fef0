"""The chain around handlers: what reaches them, what does not, and what becomes of what they raise."""

import asyncio
from collections.abc import Iterator
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
from tests.support.chain import ALLOC_ID, TIMESTAMP, Chain
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role, SomethingElse

State = common_pb2.StateCode


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
