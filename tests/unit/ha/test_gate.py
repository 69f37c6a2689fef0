"""The gate: who may answer when, and whom the end of a term wakes."""

import asyncio

from coordd.clock import boottime
from coordd.ha.gate import LeadershipGate
from coordd.ha.guard import ServeGuard
from coordd.pb.common_pb2 import StateCode


def guard_until(seconds_from_now: float) -> ServeGuard:
    guard = ServeGuard(serve_guard_s=seconds_from_now)
    guard.heartbeat_acked(boottime())
    guard.keepalive_acked(boottime(), 3600)
    return guard


def test_before_the_first_term_nothing_is_served_and_nobody_is_deposed() -> None:
    gate = LeadershipGate("rootcoord")
    gate.new_session(7)
    assert not gate.serving()
    assert not gate.deposed
    assert (gate.server_id, gate.state_code) == (7, StateCode.StandBy)


def test_open_serves_and_close_deposes() -> None:
    gate = LeadershipGate("rootcoord")
    gate.new_session(7)
    guard = guard_until(60)
    gate.open(42, guard)
    assert gate.serving()
    assert (gate.epoch, gate.state_code) == (42, StateCode.Healthy)
    gate.close()
    assert not gate.serving()
    assert gate.deposed
    assert gate.epoch == 0
    guard.heartbeat_acked(boottime() + 60)
    assert not guard.valid(boottime()), "a late acknowledgement does not revive a closed term"


def test_a_session_that_never_led_is_not_deposed_by_its_end() -> None:
    gate = LeadershipGate("rootcoord")
    gate.new_session(7)
    gate.close()
    assert not gate.deposed


async def test_waiting_ends_with_the_next_heartbeat() -> None:
    gate = LeadershipGate("rootcoord")
    guard = ServeGuard(60)
    guard.keepalive_acked(boottime(), 3600)
    gate.open(42, guard)
    assert not gate.serving()
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(gate.wait_change(boottime() + 30)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters)
        guard.heartbeat_acked(boottime())
        gate.guard_extended()
    assert gate.serving()


async def test_waiting_ends_with_the_term() -> None:
    gate = LeadershipGate("rootcoord")
    gate.open(42, ServeGuard(60))
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(gate.wait_change(boottime() + 30))
        await asyncio.sleep(0)
        assert not waiter.done()
        gate.close()
    assert gate.deposed


async def test_waiting_ends_at_the_deadline() -> None:
    gate = LeadershipGate("rootcoord")
    gate.open(42, ServeGuard(60))
    deadline = boottime() + 0.02
    await gate.wait_change(deadline)
    assert boottime() >= deadline
    assert not gate.serving()
