"""Calls while leadership is on its way out, and when it has been passed on."""

import asyncio
from collections.abc import Mapping

import pytest

from coordd.clock import boottime
from coordd.meta.commit import FenceLost
from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.support.chain import ALLOC_ID, TIMESTAMP, Chain
from tests.support.rpc import PREFIX

State = common_pb2.StateCode


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
