"""Replicas against a real etcd when something fails at the worst moment: no role is lost, nothing hangs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest
from structlog.testing import capture_logs

from coordd.clock import boottime
from coordd.etcd import Delete, EtcdClient, Op, Put, prefix_end
from coordd.etcd.errors import AuthenticationFailed, Compacted, NoSpace, OutcomeUnknown, WatchCancelled
from coordd.ha.switchover import SwitchoverRequest
from coordd.meta.commit import FenceLost
from coordd.rpc.port import PortInUse
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.faulty_etcd import FaultyEtcd
from tests.support.replicas import Group, replica_group


@pytest.fixture
async def faulty(etcd_server: EtcdCluster) -> AsyncIterator[FaultyEtcd]:
    async with FaultyEtcd(etcd_server.settings()) as connected:
        yield connected


@pytest.fixture
async def group(client: EtcdClient) -> AsyncIterator[Group]:
    async with replica_group(client, unique_root()) as started:
        yield started


@pytest.fixture
def lines() -> Iterator[Callable[[str], int]]:
    """How many log lines say what."""
    with capture_logs() as captured:
        yield lambda text: sum(text in line["event"] for line in captured)


async def session_keys(group: Group) -> set[str]:
    prefix = group.layout.session_prefix
    found = await group.client.range(prefix, prefix_end(prefix))
    return {kv.key.removeprefix(prefix) for kv in found.kvs} - {"id"}


def takes(group: Group, ops: Sequence[Op]) -> bool:
    """Whether `ops` are those of a campaign."""
    return any(isinstance(op, Put) and op.key == group.layout.session("rootcoord") for op in ops)


# --- stop ---


async def test_a_stop_during_the_registration_ends_it(group: Group, faulty: FaultyEtcd) -> None:
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    faulty.before_grant = hang
    member = group.start(client=faulty)
    await asked.wait()
    before = boottime()
    member.replica.request_stop()
    member.replica.request_stop()
    await member.stop()
    assert boottime() - before < 1
    assert await session_keys(group) == set()


async def test_a_stop_in_the_moment_of_the_registration_is_not_lost(group: Group, faulty: FaultyEtcd) -> None:
    async def stop(ops: Sequence[Op]) -> None:
        if any(isinstance(op, Put) and op.lease for op in ops):
            faulty.after_txn = None
            member.replica.request_stop()

    faulty.after_txn = stop
    member = group.start(client=faulty)
    async with asyncio.timeout(5):
        await member.task
    assert await session_keys(group) == set()
    assert member.coordinator.terms == []


async def test_a_registration_that_is_stopped_half_done_leaves_no_key(
    group: Group, faulty: FaultyEtcd
) -> None:
    put = asyncio.Event()

    async def hang(ops: Sequence[Op]) -> None:
        if any(isinstance(op, Put) and op.lease for op in ops):
            put.set()
            await asyncio.Event().wait()

    faulty.after_txn = hang
    member = group.start(client=faulty)
    await put.wait()
    assert await session_keys(group) == {"rootcoord-1"}
    await member.stop()
    assert await session_keys(group) == set()


async def test_nothing_can_be_served_once_the_leadership_is_being_deleted(
    group: Group, faulty: FaultyEtcd
) -> None:
    """The heir serves as soon as the heartbeat key is gone."""
    member = group.start(client=faulty)
    await eventually(lambda: member.serving)
    serving: list[bool] = []

    async def look(ops: Sequence[Op]) -> None:
        if any(isinstance(op, Delete) for op in ops):
            serving.append(member.serving)

    faulty.before_txn = look
    await member.stop()
    assert serving == [False]


async def test_a_term_that_is_lost_while_it_drains_still_stops_its_server(group: Group) -> None:
    member = group.start()
    await eventually(lambda: member.serving)
    server = member.servers[0]
    member.replica.gate.call_began()  # and never ends
    member.replica.request_stop()
    await eventually(lambda: member.replica.gate.holding)
    assert "stop 0" not in server.calls, "it listens until leadership is given up"
    await group.client.delete(group.layout.session("rootcoord"))
    async with asyncio.timeout(5):
        await member.task
    assert server.calls[-1] == "stop 0"
    assert server.calls[-1] == "stop 0"


# --- registration ---


async def test_a_registration_whose_answer_is_lost_leaves_no_ghost(group: Group, faulty: FaultyEtcd) -> None:
    async def lose(ops: Sequence[Op]) -> None:
        if any(isinstance(op, Put) and op.lease for op in ops):
            faulty.after_txn = None
            raise OutcomeUnknown("the answer was lost")

    faulty.after_txn = lose
    member = group.start(client=faulty)
    await eventually(lambda: member.serving)
    assert member.server_id == 2
    assert await session_keys(group) == {"rootcoord", "rootcoord-2"}


async def test_a_corrupt_counter_of_server_ids_does_not_end_a_replica_that_ran_before(
    group: Group, lines: Callable[[str], int]
) -> None:
    member = group.start()
    await eventually(lambda: member.serving)
    counter = group.layout.server_id_counter
    await group.client.put(counter, b"seven")
    await group.client.delete(group.layout.session("rootcoord"))
    await eventually(lambda: lines("cannot register") == 1)
    await group.client.put(counter, b"7")
    await eventually(lambda: member.serving and member.server_id == 7, 5)


# --- campaign ---


async def test_a_campaign_whose_answer_is_lost_serves_all_the_same(group: Group, faulty: FaultyEtcd) -> None:
    async def lose(ops: Sequence[Op]) -> None:
        if takes(group, ops):
            faulty.after_txn = None
            raise OutcomeUnknown("the answer was lost")

    faulty.after_txn = lose
    member = group.start(client=faulty)
    await eventually(lambda: member.serving)
    assert member.servers[-1].calls == ["listen", "start"]


async def test_a_campaign_that_finds_the_lease_gone_registers_anew_at_once(group: Group) -> None:
    first = group.start()
    await eventually(lambda: first.serving)
    standby = group.start(ttl_s=30)
    await eventually(lambda: standby.replica.state == "standby")
    lost = (await group.client.get(group.layout.session("rootcoord", standby.server_id))).kv
    assert lost is not None
    await group.client.revoke(lost.lease)
    await first.stop()
    await eventually(lambda: standby.serving, 3)  # the next keepalive would tell after 10 s


async def test_campaigns_that_fail_again_and_again_are_told_once(
    group: Group, faulty: FaultyEtcd, lines: Callable[[str], int]
) -> None:
    attempts = 0

    async def refuse(ops: Sequence[Op]) -> None:
        nonlocal attempts
        if takes(group, ops):
            attempts += 1
            raise NoSpace("etcdserver: mvcc: database space exceeded")

    faulty.before_txn = refuse
    member = group.start(client=faulty)
    await eventually(lambda: attempts >= 8)
    assert lines("could not campaign") == 1
    assert lines("update rootcoord state") <= 2
    faulty.before_txn = None
    await eventually(lambda: member.serving)


async def test_a_port_that_is_taken_at_the_takeover_leaves_the_role_to_another(group: Group) -> None:
    member = group.start(listen_errors=[PortInUse("port in use")] * 1000)
    await eventually(lambda: len(member.servers) >= 2)
    healthy = group.start()
    await eventually(lambda: healthy.serving, 5)
    assert not member.task.done()


# --- lease, watch ---


async def test_a_lease_whose_renewal_is_refused_is_not_taken_for_lost(
    group: Group, faulty: FaultyEtcd
) -> None:
    faulty.renewal_errors = [AuthenticationFailed("invalid auth token")] * 2
    member = group.start(client=faulty)
    await eventually(lambda: member.serving and not faulty.renewal_errors)
    assert member.server_id == 1, "the first session goes on"


@pytest.mark.parametrize("error", [WatchCancelled("for no reason"), Compacted("too old")])
async def test_a_watch_that_etcd_ends_again_and_again_does_not_spin(
    group: Group, faulty: FaultyEtcd, lines: Callable[[str], int], error: Exception
) -> None:
    faulty.watch_errors = [error] * 4
    member = group.start(client=faulty)
    before = boottime()
    await eventually(lambda: faulty.watches > 4 and member.replica.follower.synced)
    assert boottime() - before > 0.1 + 0.2 + 0.4 + 0.8
    assert faulty.ranges == 5
    assert lines("following etcd anew") == 1
    await eventually(lambda: member.serving)


# --- bugs of a role ---


async def test_a_role_that_fails_at_the_end_of_a_term_does_not_end_the_process(group: Group) -> None:
    member = group.start()
    await eventually(lambda: member.serving)
    epoch = member.replica.epoch
    member.coordinator.deactivate = _bug  # type: ignore[method-assign]
    await group.client.delete(group.layout.session("rootcoord"))
    await eventually(lambda: member.serving and member.replica.epoch > epoch, 5)


async def test_a_task_of_the_term_that_fails_ends_the_term_and_not_the_process(group: Group) -> None:
    member = group.start()
    await eventually(lambda: member.serving)
    epoch = member.replica.epoch

    async def fail() -> None:
        _bug()

    member.coordinator.terms[0].start_task(fail(), "fails")
    await eventually(lambda: not member.serving)
    await eventually(lambda: member.serving and member.replica.epoch > epoch, 5)


async def test_nothing_is_served_while_a_failed_term_is_being_cleared_away(group: Group) -> None:
    member = group.start(serve_guard_ms=5000)
    await eventually(lambda: member.serving)
    cancelled, cleared = asyncio.Event(), asyncio.Event()

    async def clear_away_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await cleared.wait()

    async def fail() -> None:
        _bug()

    term = member.coordinator.terms[0]
    term.start_task(clear_away_slowly(), "slow")
    await asyncio.sleep(0)
    term.start_task(fail(), "fails")
    await cancelled.wait()
    await asyncio.sleep(0)
    try:
        assert not member.serving
    finally:
        cleared.set()


async def test_a_switchover_asked_for_while_a_lost_term_is_cleared_away_is_not_its_concern(
    group: Group,
) -> None:
    active = group.start()
    await eventually(lambda: active.serving)
    old_id, epoch = active.server_id, active.replica.epoch
    key = group.layout.switchover("rootcoord")
    await group.client.delete(group.layout.session("rootcoord"))
    await eventually(lambda: active.replica.state == "ended")
    asked = SwitchoverRequest("some-id", epoch + 1, to=0, by="test/1", at_ms=0)
    await group.client.put(key, asked.to_json())
    await eventually(lambda: active.server_id != old_id or active.task.done())
    await eventually(lambda: active.serving or active.task.done())
    assert not active.task.done(), active.task.exception()


async def test_a_task_of_the_term_may_end_with_the_fence(group: Group) -> None:
    """The committer tells the election; that the task hears of it too is no failure of its own."""
    member = group.start()
    await eventually(lambda: member.serving)

    async def lose() -> None:
        raise FenceLost(committed=False)

    member.coordinator.terms[0].start_task(lose(), "loses")
    await asyncio.sleep(0.1)
    assert (member.serving, member.server_id) == (True, 1)


def _bug() -> None:
    raise RuntimeError("a bug")
