"""The gate: who may answer when, and whom the end of a term wakes."""

import asyncio
from collections.abc import Mapping

import pytest

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


@pytest.mark.parametrize("why", ["activating", "holding", "silent"])
async def test_heartbeats_wake_nobody_who_does_not_wait_for_one(why: str) -> None:
    gate, guard = LeadershipGate("rootcoord"), guard_until(60)
    gate.activating()
    if why != "activating":
        gate.open(42, guard)
        gate.hold()
    if why == "silent":
        gate.silence()
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(gate.wait_change(boottime() + 30))
        for _ in range(5):
            await asyncio.sleep(0)
            guard.heartbeat_acked(boottime())
            gate.guard_extended()
        assert not waiter.done()
        if why == "activating":
            gate.open(42, guard)
        else:
            gate.reopen()
    assert gate.serving()


async def test_a_heartbeat_wakes_nobody_as_long_as_the_lease_is_in_doubt() -> None:
    gate, guard = LeadershipGate("rootcoord"), ServeGuard(60)
    gate.open(42, guard)
    gate.hold()  # who has begun is still answered
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(gate.wait_change(boottime() + 30))
        for _ in range(5):
            await asyncio.sleep(0)
            guard.heartbeat_acked(boottime())
            gate.guard_extended()
        assert not waiter.done()
        guard.keepalive_acked(boottime(), 3600)
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


# --- leadership on its way out, and on its way in ---


class Way:
    """A forwarder that only is one."""

    server_ids = (7, 8)
    idle_since = 0.0

    async def forward(
        self, path: str, body: bytes, metadata: Mapping[str, str], deadline: float | None
    ) -> bytes:
        raise AssertionError(f"{path} {body!r} {metadata} {deadline}: the gate itself forwards nothing")

    async def close(self) -> None:
        raise AssertionError("the gate does not own it")


def opened(epoch: int = 42) -> LeadershipGate:
    gate = LeadershipGate("rootcoord")
    gate.new_session(7)
    gate.open(epoch, guard_until(60))
    return gate


def test_holding_still_lets_what_is_under_way_be_answered_and_silence_nothing() -> None:
    gate = opened()
    gate.hold()
    assert (gate.holding, gate.serving(), gate.epoch) == (True, True, 42)
    gate.silence()
    assert (gate.holding, gate.serving(), gate.epoch) == (True, False, 42)
    assert gate.guard_remaining_s() > 0, "silence is not the end of the term"
    assert (gate.deposed, gate.state_code) == (False, StateCode.Healthy)


async def test_reopening_serves_the_same_term_and_wakes_who_waits() -> None:
    gate = opened()
    gate.hold()
    gate.silence()
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(gate.wait_change(boottime() + 30))
        await asyncio.sleep(0)
        assert not waiter.done()
        gate.reopen()
    assert (gate.holding, gate.serving(), gate.epoch, gate.deposed) == (False, True, 42, False)


def test_a_heartbeat_does_not_end_the_silence() -> None:
    gate = LeadershipGate("rootcoord")
    guard = guard_until(60)
    gate.open(42, guard)
    gate.hold()
    gate.silence()
    guard.heartbeat_acked(boottime())
    gate.guard_extended()
    assert not gate.serving()


async def test_closing_with_a_forwarder_wakes_the_held_calls_and_shows_them_the_way() -> None:
    gate, way = opened(), Way()
    gate.hold()
    gate.silence()
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(gate.wait_change(boottime() + 30))
        await asyncio.sleep(0)
        gate.close(way)
        await waiter
    assert gate.forwarder is way
    assert (gate.serving(), gate.holding, gate.epoch, gate.deposed) == (False, False, 0, True)
    gate.close(way)  # the end of the session closes once more
    assert gate.forwarder is way
    gate.end_forwarding()
    assert gate.forwarder is None
    assert gate.deposed


def test_forwarding_goes_on_while_the_replica_stands_by_anew() -> None:
    gate, way = opened(), Way()
    gate.close(way)
    gate.new_session(9)
    assert gate.forwarder is way
    gate.close()
    assert gate.forwarder is way, "a session that led nothing ends: that concerns no caller"
    assert gate.deposed


def test_activating_holds_and_ends_the_forwarding_of_an_earlier_term() -> None:
    gate = opened()
    gate.close(Way())
    gate.new_session(9)
    gate.activating()
    assert (gate.holding, gate.deposed, gate.forwarder) == (True, False, None)
    assert (gate.serving(), gate.epoch, gate.state_code) == (False, 0, StateCode.Initializing)
    gate.open(43, guard_until(60))
    assert (gate.holding, gate.serving(), gate.epoch) == (False, True, 43)


def test_an_activation_that_comes_to_nothing_turns_those_away_who_waited_for_it() -> None:
    gate = LeadershipGate("rootcoord")
    gate.new_session(7)
    gate.activating()
    gate.close()
    assert (gate.holding, gate.deposed, gate.forwarder) == (False, True, None)


def test_silence_of_one_term_is_not_that_of_the_next() -> None:
    gate = opened()
    gate.hold()
    gate.silence()
    gate.close()
    gate.new_session(8)
    gate.activating()
    gate.open(43, guard_until(60))
    assert gate.serving()


def test_a_guard_of_the_term_before_opens_nothing_after_its_end() -> None:
    gate = LeadershipGate("rootcoord")
    guard = guard_until(60)
    gate.open(42, guard)
    gate.close(Way())
    guard.heartbeat_acked(boottime())
    gate.guard_extended()
    gate.reopen()
    assert not gate.serving()
    assert gate.guard_remaining_s() == 0


async def test_idle_is_when_the_last_call_has_ended() -> None:
    gate = opened()
    assert await gate.wait_idle(0.0), "nothing runs"
    gate.call_began()
    gate.call_began()
    assert not await gate.wait_idle(0.02)
    gate.call_ended()
    assert not await gate.wait_idle(0.02)
    async with asyncio.TaskGroup() as group:
        idle = group.create_task(gate.wait_idle(30))
        await asyncio.sleep(0)
        assert not idle.done()
        gate.call_ended()
    assert idle.result()
