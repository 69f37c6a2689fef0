"""A process that is stopped in the middle of a handler: what it has read by then may be old when it wakes.

Nobody tells it of the pause. All that it has to go by is the clock, and what etcd says to its next heartbeat.
"""

import asyncio
from typing import Any

import pytest

from coordd import clock
from coordd.ha import gate as gate_module
from coordd.ha.gate import LeadershipGate
from coordd.ha.guard import ServeGuard
from coordd.pb import root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.support.etcd import eventually
from tests.support.rpc import PREFIX, ROOT_COORD, Role

ALLOC_ID = f"{PREFIX}AllocID"
EPOCH = 7
GUARD_S = 2.0
PAUSE_S = 10.0


class Reader(Role):
    """Answers with what it has read before it had to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 1

    async def alloc_id(self, request: Any, call: Call) -> root_coord_pb2.AllocIDResponse:
        read = self.value
        answer = await super().alloc_id(request, call)
        answer.ID = read
        return answer


class Paused:
    """A call whose handler has read, and its process, which then stood still for longer than its guard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._skipped_s = 0.0
        monkeypatch.setattr(gate_module, "boottime", self.now)
        self.guard = ServeGuard(GUARD_S)
        self.guard.keepalive_acked(self.now(), 3600)
        self.guard.heartbeat_acked(self.now())
        self.gate = LeadershipGate("rootcoord")
        self.gate.new_session(4)
        self.gate.open(EPOCH, self.guard)
        self.role = Reader()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        method = table.get(ALLOC_ID)
        assert method is not None
        self._stats = method.stats
        self._dispatcher = Dispatcher(table, self.gate, cluster="by-dev")

    def now(self) -> float:
        return clock.boottime() + self._skipped_s

    async def answer(self) -> int:
        """What the caller gets."""
        body = await self._dispatcher.dispatch(ALLOC_ID, b"", Call(ALLOC_ID, {}))
        return root_coord_pb2.AllocIDResponse.FromString(body).ID

    async def wake(self, call: asyncio.Task[int]) -> None:
        """Have the call read, stop, and go on; then it waits, since the time of the guard is over."""
        self.role.proceed.clear()
        await self.role.entered.wait()
        self._skipped_s += PAUSE_S
        self.role.proceed.set()
        await eventually(lambda: self._stats.held == 1 or call.done())
        assert not call.done()

    def heartbeat_acked(self, sent_at: float) -> None:
        self.guard.heartbeat_acked(sent_at)
        self.gate.guard_extended()


@pytest.fixture
async def paused(monkeypatch: pytest.MonkeyPatch) -> Paused:
    return Paused(monkeypatch)


async def test_what_was_read_before_somebody_else_led_is_never_told(paused: Paused) -> None:
    async with asyncio.TaskGroup() as group:
        call = group.create_task(refused(paused.answer()))
        await paused.wake(call)
        paused.role.value += 1  # somebody else has written: the tables tell of it before the heartbeat does
        paused.gate.close()
    assert call.result() is RpcCode.UNAVAILABLE


async def test_what_was_read_is_told_once_it_is_certain_that_nobody_else_led(paused: Paused) -> None:
    """Then nobody else can have written: a heartbeat is committed under the fence of the same epoch."""
    async with asyncio.TaskGroup() as group:
        call = group.create_task(paused.answer())
        await paused.wake(call)
        paused.heartbeat_acked(paused.now())
    assert call.result() == paused.role.value == 1


async def test_a_heartbeat_that_was_sent_before_the_pause_says_nothing(paused: Paused) -> None:
    before = paused.now()
    async with asyncio.TaskGroup() as group:
        call = group.create_task(refused(paused.answer()))
        await paused.wake(call)
        paused.heartbeat_acked(before)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not call.done()
        paused.gate.close()
    assert call.result() is RpcCode.UNAVAILABLE


async def refused(answer: Any) -> RpcCode:
    with pytest.raises(RpcFailure) as caught:
        await answer
    return caught.value.code
