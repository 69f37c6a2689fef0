"""Leadership that is passed on or taken, by replicas on a real etcd: every revision of it, and its troubles.

After each test all that etcd has seen is judged (`EtcdAudit`), and at no moment of it two replicas served.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing

import pytest

from coordd.clock import boottime
from coordd.etcd import Delete, EtcdClient, Event, Op, Put, prefix_end
from coordd.etcd.errors import OutcomeUnknown, Unavailable
from coordd.ha.election_events import Refusal, TermCause
from coordd.ha.history import TermEnd, TermRecord, decode_term
from coordd.ha.standbys import decode_offer, decode_report
from coordd.ha.switchover import SwitchoverRequest, SwitchoverState, decode_request
from coordd.rpc.failure import RpcFailure
from coordd.rpc.port import PortInUse
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.etcd_audit import EtcdAudit
from tests.support.faulty_etcd import FaultyEtcd
from tests.support.memory import LEFT_MB, anonymous_mb, leave_free_memory
from tests.support.replicas import Group, RunningReplica, replica_group

ROLE = "rootcoord"
LIMIT_S = 15.0

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def faulty(etcd_server: EtcdCluster) -> AsyncIterator[FaultyEtcd]:
    """For the replica that is active first."""
    async with FaultyEtcd(etcd_server.settings()) as connected:
        yield connected


@pytest.fixture
async def group(client: EtcdClient) -> AsyncIterator[Group]:
    async with replica_group(client, unique_root()) as started:
        watching = asyncio.get_running_loop().create_task(never_two(started))
        yield started
        watching.cancel()
        await asyncio.wait([watching])
        assert watching.cancelled(), watching.exception()
        EtcdAudit(started.layout, ROLE).feed(await events_of(started))


async def never_two(group: Group) -> None:
    """Task: watches for as long as the test takes."""
    while True:
        serving = [member.server_id for member in group.members if member.serving]
        assert len(serving) <= 1, f"{serving} serve at once"
        await asyncio.sleep(0.001)


async def events_of(group: Group) -> list[Event]:
    """All that was ever written below the group's root, in order."""
    root = f"{group.layout.root}/"
    marker = f"{root}marker"
    now = await group.client.put(marker, b"as far as this")
    events: list[Event] = []
    watch = group.client.watch(root, prefix_end(root), from_revision=group.since)
    async with asyncio.timeout(LIMIT_S), aclosing(watch) as batches:
        async for batch in batches:
            events += [event for event in batch.events if event.mod_revision <= now and event.key != marker]
            if batch.revision >= now:
                break
    return events


async def active_and_standbys(
    group: Group, count: int = 1, *, active_client: EtcdClient | None = None, serve_guard_ms: int = 600
) -> tuple[RunningReplica, list[RunningReplica]]:
    """One that serves, and others that stand by and have reported so."""
    active = group.start(client=active_client, serve_guard_ms=serve_guard_ms)
    await eventually(lambda: active.serving, LIMIT_S)
    standbys = [group.start(serve_guard_ms=serve_guard_ms) for _ in range(count)]
    await eventually(lambda: standbys_seen_by(active) == {one.server_id for one in standbys}, LIMIT_S)
    return active, standbys


def standbys_seen_by(active: RunningReplica) -> set[int]:
    """Server IDs of the standbys whose session and report the active replica has seen."""
    seen = active.replica.tables.observed(ROLE, 0.0, 0).standbys
    return {standby.server_id for standby in seen if standby.report_revision}


async def ask(group: Group, epoch: int, to: int = 0) -> Callable[[], Awaitable[SwitchoverRequest]]:
    """Write an operator's request; returns what waits for its answer."""
    key = group.layout.switchover(ROLE)
    request = SwitchoverRequest(f"request for {to}", epoch, to, "test/1", at_ms=0)
    revision = await group.client.put(key, request.to_json())

    async def answer() -> SwitchoverRequest:
        async with asyncio.timeout(LIMIT_S):
            async with aclosing(group.client.watch(key, None, from_revision=revision + 1)) as batches:
                async for batch in batches:
                    for event in batch.events:
                        assert event.value is not None
                        return decode_request(key, event.value)
        raise AssertionError("the watch ended")

    return answer


async def history(group: Group) -> list[TermRecord]:
    prefix = group.layout.history_of(ROLE)
    found = await group.client.range(prefix, prefix_end(prefix))
    return [decode_term(kv.key, ROLE, int(kv.key.rpartition("/")[2]), kv.value) for kv in found.kvs]


async def wait_history(group: Group, terms: int) -> list[TermRecord]:
    """The log, once it has so many terms and all but the last of them an end."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            records = await history(group)
            if len(records) >= terms and all(record.end is not None for record in records[:-1]):
                return records
            await asyncio.sleep(0.02)


def hands_over(group: Group, ops: Sequence[Op]) -> bool:
    """Whether `ops` are those of a handover."""
    puts = any(isinstance(op, Put) and op.key == group.layout.session(ROLE) for op in ops)
    return puts and any(isinstance(op, Delete) and op.key == group.layout.heartbeat(ROLE) for op in ops)


def campaigns(group: Group, ops: Sequence[Op]) -> bool:
    """Whether `ops` are those of a campaign."""
    keys = {op.key for op in ops if isinstance(op, Put)}
    return {group.layout.session(ROLE), group.layout.heartbeat(ROLE)} <= keys


# --- planned ---


async def test_a_stop_hands_over_in_place_to_one_that_has_answered_the_offer(group: Group) -> None:
    active, (standby,) = await active_and_standbys(group)
    old_id, old_epoch, heir_id = active.server_id, active.replica.epoch, standby.server_id
    await active.stop()
    await eventually(lambda: standby.serving, LIMIT_S)
    assert standby.server_id == heir_id, "in the session in which it stood by"
    assert active.task.done()

    layout, events = group.layout, await events_of(group)
    key = layout.session(ROLE)
    writes = [event for event in events if event.key == key]
    assert all(event.value is not None for event in writes), "the ACTIVE key was never absent"
    assert [event.mod_revision for event in writes] == [old_epoch, standby.replica.epoch]
    at_once = {event.key: event.value for event in events if event.mod_revision == standby.replica.epoch}
    assert at_once[layout.heartbeat(ROLE)] is None
    assert at_once[layout.offer(ROLE)] is None
    assert at_once[layout.standby_report(ROLE, heir_id)] is None
    own = (await group.client.get(layout.session(ROLE, heir_id))).kv
    assert own is not None
    assert writes[-1].lease == own.lease

    (offer,) = (
        decode_offer(event.key, event.value, event.mod_revision)
        for event in events
        if event.key == layout.offer(ROLE) and event.value is not None
    )
    assert (offer.server_id, offer.to) == (old_id, 0)
    reports = [
        decode_report(event.key, event.value, event.mod_revision)
        for event in events
        if event.key == layout.standby_report(ROLE, heir_id) and event.value is not None
    ]
    assert reports[-1].offer == offer.mod_revision
    assert offer.mod_revision < reports[-1].mod_revision < standby.replica.epoch
    assert reports[-1].revision >= offer.mod_revision, "caught up to the offer, at least"
    assert (await group.client.get(layout.session(ROLE, old_id))).kv is None

    first, second = await wait_history(group, 2)
    assert (first.server_id, first.cause, first.end) == (old_id, TermCause.FIRST, TermEnd.HANDED_OVER)
    assert (second.server_id, second.cause, second.predecessor) == (heir_id, TermCause.HANDOVER, old_id)
    assert second.end is None
    assert first.ended_ms >= first.started_ms


async def test_the_heir_listens_before_leadership_is_its_own(group: Group, faulty: FaultyEtcd) -> None:
    active, (standby,) = await active_and_standbys(group, active_client=faulty)
    listening: list[list[str]] = []
    held: list[tuple[bool, bool]] = []

    async def look(ops: Sequence[Op]) -> None:
        if hands_over(group, ops):
            listening.append(list(standby.servers[-1].calls))
            held.append((active.replica.gate.holding, active.serving))

    faulty.before_txn = look
    await active.stop()
    await eventually(lambda: standby.serving, LIMIT_S)
    assert listening == [["listen"]]
    assert held == [(True, False)], "requests wait, and none is answered any more"
    assert active.servers[0].calls[:2] == ["listen", "start"]
    assert active.servers[0].calls[-1] == "stop 0"


async def test_a_standby_that_cannot_listen_does_not_inherit(group: Group) -> None:
    active = group.start()
    await eventually(lambda: active.serving, LIMIT_S)
    broken = group.start(listen_errors=[PortInUse("port in use")] * 100)
    await eventually(lambda: standbys_seen_by(active) == {broken.server_id}, LIMIT_S)
    answer = await ask(group, active.replica.epoch)
    refused = await answer()
    assert (refused.state, refused.reason) == (SwitchoverState.REFUSED, Refusal.NOT_READY.value)
    assert active.serving

    healthy = group.start()
    await eventually(lambda: len(standbys_seen_by(active)) == 2, LIMIT_S)
    answer = await ask(group, active.replica.epoch)
    assert (await answer()).heir == healthy.server_id
    await eventually(lambda: healthy.serving, LIMIT_S)


async def test_a_switchover_moves_leadership_and_the_old_one_stands_by_anew(group: Group) -> None:
    active, (standby,) = await active_and_standbys(group)
    old_id, old_epoch = active.server_id, active.replica.epoch
    answer = await ask(group, old_epoch)
    done = await answer()
    assert (done.state, done.heir) == (SwitchoverState.DONE, standby.server_id)
    answered = (await group.client.get(group.layout.switchover(ROLE))).kv
    await eventually(lambda: standby.serving, LIMIT_S)
    assert answered is not None
    assert answered.mod_revision == standby.replica.epoch, "answered in the very handover"
    await eventually(lambda: active.server_id != old_id and active.replica.state == "standby", LIMIT_S)
    assert not active.task.done()
    # And back.
    await eventually(lambda: active.server_id in standbys_seen_by(standby), LIMIT_S)
    answer = await ask(group, standby.replica.epoch, to=active.server_id)
    assert (await answer()).heir == active.server_id
    await eventually(lambda: active.serving, LIMIT_S)
    records = await wait_history(group, 3)
    assert [record.cause for record in records] == [TermCause.FIRST, TermCause.HANDOVER, TermCause.HANDOVER]
    assert [record.end for record in records] == [TermEnd.HANDED_OVER, TermEnd.HANDED_OVER, None]


async def test_what_a_term_has_needed_is_given_back(group: Group) -> None:
    active, (standby,) = await active_and_standbys(group)
    last = leave_free_memory()
    before_mb = anonymous_mb()
    await (await ask(group, active.replica.epoch))()
    await eventually(lambda: anonymous_mb() < before_mb - LEFT_MB, LIMIT_S)
    await eventually(lambda: active.server_id in standbys_seen_by(standby), LIMIT_S)

    last = leave_free_memory()
    before_mb = anonymous_mb()
    held = (await group.client.get(group.layout.session(ROLE))).kv
    assert held is not None
    await group.client.revoke(held.lease)
    await eventually(lambda: anonymous_mb() < before_mb - LEFT_MB, LIMIT_S)
    assert last


async def test_calls_are_forwarded_to_the_heirs_heir_once_leadership_has_passed_on(group: Group) -> None:
    """The heir may be gone before the last caller has moved away from the first."""
    first = group.start(forward_grace_ms=60_000)
    await eventually(lambda: first.serving, LIMIT_S)
    first_id, gate = first.server_id, first.replica.gate
    second, third = group.start(), group.start()
    await eventually(lambda: len(standbys_seen_by(first)) == 2, LIMIT_S)
    await (await ask(group, first.replica.epoch, to=second.server_id))()
    await eventually(lambda: second.serving, LIMIT_S)
    assert gate.forwarder is not None
    assert gate.forwarder.server_ids == (first_id, second.server_id)

    await eventually(lambda: third.server_id in standbys_seen_by(second), LIMIT_S)
    await (await ask(group, second.replica.epoch, to=third.server_id))()
    async with asyncio.timeout(LIMIT_S):
        while gate.forwarder is not None and gate.forwarder.server_ids != (first_id, third.server_id):
            with contextlib.suppress(RpcFailure):  # nobody listens; a caller keeps the forwarding up
                await gate.forwarder.forward("/a.Service/Method", b"", {}, boottime() + 0.02)
            await asyncio.sleep(0.01)
    assert gate.forwarder is not None


async def test_the_one_that_is_named_inherits_whoever_else_stands_by(group: Group) -> None:
    active, standbys = await active_and_standbys(group, 3)
    wanted = standbys[1]
    answer = await ask(group, active.replica.epoch, to=wanted.server_id)
    assert (await answer()).heir == wanted.server_id
    await eventually(lambda: wanted.serving, LIMIT_S)
    events = await events_of(group)
    answering = {
        event.key
        for event in events
        if event.key.startswith(group.layout.standby_prefix)
        and event.value is not None
        and decode_report(event.key, event.value, event.mod_revision).offer
    }
    assert answering == {group.layout.standby_report(ROLE, wanted.server_id)}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("no standby", Refusal.NO_STANDBY),
        ("unknown", Refusal.UNKNOWN_STANDBY),
        ("undrained", Refusal.NOT_DRAINED),
    ],
)
async def test_what_cannot_be_is_refused_and_the_active_goes_on(
    group: Group, case: str, reason: Refusal
) -> None:
    active, _ = await active_and_standbys(group, 0 if case == "no standby" else 1)
    epoch, gate = active.replica.epoch, active.replica.gate
    if case == "undrained":
        gate.call_began()
    answer = await ask(group, epoch, to=77 if case == "unknown" else 0)
    refused = await answer()
    assert (refused.state, refused.reason) == (SwitchoverState.REFUSED, reason.value)
    await eventually(lambda: active.serving and not gate.holding, LIMIT_S)
    assert (active.replica.epoch, active.replica.state) == (epoch, "active")
    if case == "undrained":
        gate.call_ended()
        answer = await ask(group, epoch)
        assert (await answer()).state is SwitchoverState.DONE, "asked again, it can be done"


async def test_a_request_for_a_term_that_is_over_is_refused_by_the_next(group: Group) -> None:
    active, _ = await active_and_standbys(group)
    answer = await ask(group, active.replica.epoch - 1)
    refused = await answer()
    assert refused.state is SwitchoverState.REFUSED
    assert f"{active.server_id} is active now" in refused.reason
    assert active.serving


async def test_pitfall_5_a_stop_does_not_wait_for_calls_that_never_end(group: Group) -> None:
    active, (standby,) = await active_and_standbys(group)
    active.replica.gate.call_began()
    await active.stop()
    await eventually(lambda: standby.serving, LIMIT_S)
    _, second = await wait_history(group, 2)
    assert second.cause is TermCause.HANDOVER


async def test_an_heir_that_wonders_where_the_heartbeats_are_still_inherits(
    group: Group, faulty: FaultyEtcd
) -> None:
    """It finds out whether etcd commits, and its report stays as the active has seen it."""
    active, (standby,) = await active_and_standbys(group, active_client=faulty, serve_guard_ms=8000)
    slow_until = 0.0

    async def be_slow(ops: Sequence[Op]) -> None:
        nonlocal slow_until
        if hands_over(group, ops) and not slow_until:
            slow_until = boottime() + 0.6  # four times as long as it takes to become suspicious
        await asyncio.sleep(max(0.0, slow_until - boottime()))

    faulty.before_txn = be_slow
    answer = await ask(group, active.replica.epoch)
    assert (await answer()).heir == standby.server_id
    await eventually(lambda: standby.serving, LIMIT_S)


# --- the heir is lost, the answer is lost ---


async def test_an_heir_whose_lease_is_gone_is_passed_over_when_stopping(
    group: Group, faulty: FaultyEtcd
) -> None:
    active, standbys = await active_and_standbys(group, 2, active_client=faulty)
    revoked: list[int] = []

    async def revoke(ops: Sequence[Op]) -> None:
        if hands_over(group, ops) and not revoked:
            (put,) = (op for op in ops if isinstance(op, Put) and op.key == group.layout.session(ROLE))
            revoked.append(put.lease)
            await group.client.revoke(put.lease)

    faulty.before_txn = revoke
    epoch = active.replica.epoch
    await active.stop()
    await eventually(lambda: any(one.serving for one in standbys), LIMIT_S)
    events = [event for event in await events_of(group) if event.key == group.layout.session(ROLE)]
    assert all(event.value is not None for event in events), "the ACTIVE key was never absent"
    assert events[0].mod_revision == epoch
    assert len(events) == 2
    assert events[1].lease not in revoked
    first, second = await wait_history(group, 2)
    assert (first.end, second.cause) == (TermEnd.HANDED_OVER, TermCause.HANDOVER)


async def test_an_heir_whose_lease_is_gone_ends_a_switchover_and_the_active_goes_on(
    group: Group, faulty: FaultyEtcd
) -> None:
    active, (standby,) = await active_and_standbys(group, active_client=faulty)
    epoch, lost_id = active.replica.epoch, standby.server_id

    async def revoke(ops: Sequence[Op]) -> None:
        if hands_over(group, ops):
            faulty.before_txn = None
            (put,) = (op for op in ops if isinstance(op, Put) and op.key == group.layout.session(ROLE))
            await group.client.revoke(put.lease)

    faulty.before_txn = revoke
    answer = await ask(group, epoch)
    refused = await answer()
    assert (refused.state, refused.reason) == (SwitchoverState.REFUSED, Refusal.FAILED.value)
    await eventually(lambda: active.serving and not active.replica.gate.holding, LIMIT_S)
    assert active.replica.epoch == epoch
    await eventually(lambda: standby.server_id != lost_id, LIMIT_S)
    await eventually(lambda: standby.server_id in standbys_seen_by(active), LIMIT_S)
    answer = await ask(group, epoch)
    assert (await answer()).heir == standby.server_id


@pytest.mark.parametrize("how", ["stop", "switchover"])
@pytest.mark.parametrize("lost", ["before", "after", "after, and the watch is late"])
async def test_a_handover_whose_answer_is_lost_is_found_out(
    group: Group, faulty: FaultyEtcd, how: str, lost: str
) -> None:
    active, (standby,) = await active_and_standbys(group, active_client=faulty)
    sent = answered = 0
    served_between: list[bool] = []

    async def send(ops: Sequence[Op]) -> None:
        nonlocal sent
        if hands_over(group, ops):
            sent += 1
            served_between.append(active.serving)
            if lost == "after, and the watch is late":
                faulty.deliver.clear()
            if lost == "before" and sent <= 2:
                raise OutcomeUnknown("the request was lost")

    async def answer_comes(ops: Sequence[Op]) -> None:
        nonlocal answered
        if hands_over(group, ops):
            answered += 1
            if lost != "before" and answered <= 2:
                raise OutcomeUnknown("the answer was lost")
            faulty.deliver.set()

    faulty.before_txn, faulty.after_txn = send, answer_comes
    if how == "stop":
        await active.stop()
    else:
        answer = await ask(group, active.replica.epoch)
        done = await answer()
        assert (done.state, done.heir) == (SwitchoverState.DONE, standby.server_id)
    await eventually(lambda: standby.serving, LIMIT_S)
    await eventually(
        active.task.done if how == "stop" else lambda: active.replica.state == "standby", LIMIT_S
    )
    if lost != "after":  # there the watch may tell before the answer would have come
        assert sent == 3
    assert not any(served_between), "it may be the heir's already: nothing is answered here"
    first, second = await wait_history(group, 2)
    assert (first.end, second.cause) == (TermEnd.HANDED_OVER, TermCause.HANDOVER)
    events = [event for event in await events_of(group) if event.key == group.layout.session(ROLE)]
    assert len(events) == 2, "handed over once"


async def test_a_stop_whose_handover_etcd_never_takes_ends_all_the_same(
    group: Group, faulty: FaultyEtcd
) -> None:
    active, (standby,) = await active_and_standbys(group, active_client=faulty)

    async def lose(ops: Sequence[Op]) -> None:
        if hands_over(group, ops):
            raise OutcomeUnknown("etcd is out of reach")

    faulty.before_txn = lose
    active.replica.request_stop()
    async with asyncio.timeout(LIMIT_S):
        await active.task
    await eventually(lambda: standby.serving, LIMIT_S)
    assert standby.replica.epoch > 0


async def test_who_is_deposed_while_handing_over_answers_nothing(group: Group, faulty: FaultyEtcd) -> None:
    """An operator deletes the ACTIVE key in that very moment."""
    active, (standby,) = await active_and_standbys(group, active_client=faulty)

    async def delete(ops: Sequence[Op]) -> None:
        if hands_over(group, ops):
            faulty.before_txn = None
            await group.client.delete(group.layout.session(ROLE))

    faulty.before_txn = delete
    await active.stop()
    await eventually(lambda: standby.serving, LIMIT_S)
    assert active.task.exception() is None


# --- silence ---


async def fall_silent(group: Group, faulty: FaultyEtcd, active: RunningReplica) -> None:
    """None of its transactions reaches etcd any more; its lease is renewed, its watch delivers."""

    async def refuse(_ops: Sequence[Op]) -> None:
        raise Unavailable("told to fail")

    assert active.serving
    await wait_history(group, 1)  # the beginning of its term is written a moment after it serves
    faulty.before_txn = refuse


async def test_a_silent_holder_is_replaced_in_place_and_its_lease_given_back(
    group: Group, faulty: FaultyEtcd
) -> None:
    active, (standby,) = await active_and_standbys(group, active_client=faulty)
    old_id, old_epoch = active.server_id, active.replica.epoch
    await fall_silent(group, faulty, active)
    await eventually(lambda: standby.serving, LIMIT_S)
    assert not active.serving
    faulty.before_txn = None
    # Its lease was revoked by the new one: its keys are gone long before the TTL of 30 s.
    await eventually(lambda: active.server_id != old_id and active.replica.state == "standby", LIMIT_S)
    assert (await group.client.get(group.layout.session(ROLE, old_id))).kv is None

    events = await events_of(group)
    writes = [event for event in events if event.key == group.layout.session(ROLE)]
    assert [event.mod_revision for event in writes] == [old_epoch, standby.replica.epoch]
    first, second = await wait_history(group, 2)
    assert (first.server_id, first.end) == (old_id, TermEnd.SILENCE)
    assert (second.cause, second.predecessor) == (TermCause.SILENCE, old_id)
    assert second.phases_ms["detect"] >= 500, "it was silent for longer than its guard"
    assert active.coordinator.terms[0].epoch == old_epoch
    assert len(active.coordinator.terms) == 1


async def test_of_many_standbys_one_takes_over_and_the_others_campaign_once_at_most(
    etcd_server: EtcdCluster, group: Group, faulty: FaultyEtcd
) -> None:
    active = group.start(client=faulty)
    await eventually(lambda: active.serving, LIMIT_S)
    campaigned: dict[int, int] = {}
    clients: list[FaultyEtcd] = []
    for number in range(4):
        mine = FaultyEtcd(etcd_server.settings())
        clients.append(mine)

        async def count(ops: Sequence[Op], number: int = number) -> None:
            if campaigns(group, ops):
                campaigned[number] = campaigned.get(number, 0) + 1

        mine.before_txn = count
        group.start(client=mine)
    standbys = group.members[1:]
    await eventually(lambda: len(standbys_seen_by(active)) == len(standbys), LIMIT_S)
    await fall_silent(group, faulty, active)
    await eventually(lambda: any(one.serving for one in standbys), LIMIT_S)
    await wait_history(group, 2)
    assert set(campaigned.values()) == {1}
    events = [event for event in await events_of(group) if event.key == group.layout.session(ROLE)]
    assert len(events) == 2, "one new term"
    faulty.before_txn = None
    for one in standbys:
        await one.stop()
    for mine in clients:
        await mine.close()


async def test_a_standby_that_cannot_commit_takes_nobodys_silence_for_death(
    etcd_server: EtcdCluster, group: Group, faulty: FaultyEtcd
) -> None:
    active = group.start(client=faulty)
    await eventually(lambda: active.serving, LIMIT_S)
    async with FaultyEtcd(etcd_server.settings()) as mine:
        standby = group.start(client=mine)
        await eventually(lambda: standby.server_id in standbys_seen_by(active), LIMIT_S)
        epoch = active.replica.epoch
        original = mine.put

        async def refuse(*_arguments: object, **_more: object) -> int:
            raise Unavailable("told to fail")

        mine.put = refuse  # type: ignore[method-assign]
        await fall_silent(group, faulty, active)
        await asyncio.sleep(2.0)  # more than twice guard and margin
        assert standby.replica.state == "standby"
        faulty.before_txn = None
        await eventually(lambda: active.serving, LIMIT_S)
        assert active.replica.epoch == epoch, "no role change"
        mine.put = original  # type: ignore[method-assign]
        await standby.stop()


async def test_a_resignation_without_a_standby_is_told_as_one(group: Group) -> None:
    active = group.start()
    await eventually(lambda: active.serving, LIMIT_S)
    await wait_history(group, 1)
    await active.stop()
    (record,) = await history(group)
    assert (record.cause, record.end) == (TermCause.FIRST, TermEnd.RESIGNED)
    found = await group.client.range(group.layout.heartbeat_prefix, group.layout.session_end)
    left = {kv.key for kv in found.kvs if not kv.key.startswith(group.layout.history_prefix)}
    assert left == {group.layout.server_id_counter}
    heir = group.start()
    await eventually(lambda: heir.serving, LIMIT_S)
    _, second = await wait_history(group, 2)
    assert (second.cause, second.predecessor) == (TermCause.RELEASED, 0)
