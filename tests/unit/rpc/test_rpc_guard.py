"""The serve guard around handlers: calls and answers that are held, and answers of a term that is over."""

import asyncio

import pytest

from coordd.pb import common_pb2, root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import CollectionNotFound
from tests.support.chain import ALLOC_ID, TIMESTAMP, Chain

State = common_pb2.StateCode


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


async def test_guard_that_passes_inside_a_sync_handler_holds_the_answer(chain: Chain) -> None:
    chain.role.between = lambda: chain.gate.change(guard_valid=False)
    async with asyncio.TaskGroup() as group:
        held = group.create_task(chain.timestamp(), name="held")
        await chain.gate.someone_waits.wait()
        assert not held.done()
        chain.gate.change(guard_valid=True)
    assert held.result().timestamp == 1001
    assert len(chain.role.calls) == 1


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
