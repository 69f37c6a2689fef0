"""Replicas against real etcd: every way in which a session or a term begins and ends."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient, Put
from coordd.ha.leadership import encode_heartbeat
from coordd.ha.replica import RoleHeldExclusively
from coordd.ha.session import SessionRecord
from tests.support.etcd import etcd_cluster, eventually, unique_root
from tests.support.replicas import Group, replica_group


@pytest.fixture
async def group(client: EtcdClient) -> AsyncIterator[Group]:
    async with replica_group(client, unique_root()) as started:
        yield started


def milvus_record(server_id: int) -> bytes:
    return SessionRecord(
        server_id=server_id, server_name="rootcoord", address="10.9.9.9:1", version="2.3.5"
    ).to_json()


async def test_the_first_serves_and_the_second_stands_by(group: Group) -> None:
    first = group.start()
    await eventually(lambda: first.serving)
    second = group.start()
    await eventually(lambda: second.replica.state == "standby")
    active = (await group.client.get(group.layout.session("rootcoord"))).kv
    assert active is not None
    record = SessionRecord.from_json(active.value)
    assert record.server_id == first.server_id
    assert record.safety is not None
    assert active.mod_revision == first.replica.epoch
    assert first.coordinator.terms[0].epoch == first.replica.epoch
    own = (await group.client.get(group.layout.session("rootcoord", second.server_id))).kv
    assert own is not None
    assert own.lease == SessionRecord.from_json(own.value).lease_id
    assert not second.serving
    calls = [call for server in second.servers for call in server.calls]
    assert calls == [], "a standby's server does not listen, so a client that dials it is refused"


async def test_a_clean_stop_passes_the_role_on_at_once_and_leaves_nothing(group: Group) -> None:
    first, second = group.start(), group.start()
    await eventually(lambda: first.serving or second.serving)
    active, standby = (first, second) if first.serving else (second, first)
    own_key = group.layout.session("rootcoord", active.server_id)
    await active.stop()
    await eventually(lambda: standby.serving, 2)
    assert active.servers[0].calls == ["listen", "start", "stop 0"]
    assert (await group.client.get(own_key)).kv is None


async def test_the_heir_of_a_clean_stop_does_not_wait_for_the_guard(group: Group) -> None:
    """The heartbeat key is gone with the ACTIVE key: its owner has given its last answer."""
    first = group.start(serve_guard_ms=8000, margin_ms=2000)
    await eventually(lambda: first.serving)
    second = group.start(serve_guard_ms=8000, margin_ms=2000)
    await eventually(lambda: second.replica.state == "standby")
    await first.stop()
    await eventually(lambda: second.serving, 2)


async def test_the_heir_of_a_silent_end_waits_out_the_guard_of_the_dead(group: Group) -> None:
    """The ACTIVE key goes while the heartbeat stays: its author may still be answering."""
    layout, client = group.layout, group.client
    await client.txn([], [Put(layout.session("rootcoord"), milvus_record(900))])
    heir = group.start()
    await eventually(lambda: heir.replica.state == "standby" and heir.replica.follower.revision > 0)
    before = boottime()
    await client.put(layout.heartbeat("rootcoord"), encode_heartbeat(900, 1500, settled=True))
    await client.delete(layout.session("rootcoord"))
    await eventually(lambda: heir.replica.state == "activating", 1)
    await eventually(lambda: heir.serving, 4)
    assert boottime() - before >= 1.5 + 0.2


async def test_a_milvus_coordinator_is_only_waited_for(group: Group) -> None:
    layout, client = group.layout, group.client
    await client.txn([], [Put(layout.session("rootcoord"), milvus_record(900))])
    standby = group.start()
    await eventually(lambda: standby.replica.state == "standby")
    await asyncio.sleep(1.2)  # longer than guard + margin: silence must not tempt it
    assert standby.replica.state == "standby"
    await client.delete(layout.session("rootcoord"))
    await eventually(lambda: standby.serving, 1)


async def test_pitfall_1_a_standby_whose_lease_was_lost_comes_back_and_can_take_over(group: Group) -> None:
    first = group.start()
    await eventually(lambda: first.serving)
    standby = group.start(ttl_s=3)
    await eventually(lambda: standby.replica.state == "standby")
    lost = (await group.client.get(group.layout.session("rootcoord", standby.server_id))).kv
    assert lost is not None
    await group.client.revoke(lost.lease)
    old_id = standby.server_id
    await eventually(lambda: standby.server_id != old_id and standby.replica.state == "standby")
    await first.stop()
    await eventually(lambda: standby.serving, 2)


@pytest.mark.parametrize("how", ["lease revoked", "key deleted", "key overwritten"])
async def test_an_active_that_loses_its_key_is_deposed_and_stands_by_anew(group: Group, how: str) -> None:
    layout, client = group.layout, group.client
    active = group.start(ttl_s=30)
    await eventually(lambda: active.serving)
    old_id, epoch = active.server_id, active.replica.epoch
    held = (await client.get(layout.session("rootcoord"))).kv
    assert held is not None
    if how == "lease revoked":
        await client.revoke(held.lease)
    elif how == "key deleted":
        await client.delete(layout.session("rootcoord"))
    else:
        await client.put(layout.session("rootcoord"), milvus_record(900))
    await eventually(lambda: active.server_id != old_id, 3)
    if how == "key overwritten":
        await eventually(lambda: active.replica.state == "standby")
        await client.delete(layout.session("rootcoord"))
    await eventually(lambda: active.serving, 5)
    assert active.replica.epoch > epoch
    assert active.servers[0].calls[-1].startswith("stop")
    assert not active.task.done(), "the process goes on"


async def test_a_replica_that_cannot_activate_leaves_the_role_to_another(group: Group) -> None:
    broken = group.start(failures=1000)
    await eventually(lambda: broken.replica.state in ("activating", "resigning", "registering"))
    healthy = group.start()
    await eventually(lambda: healthy.serving, 8)
    assert not broken.serving
    assert not broken.task.done()


async def test_pitfall_3_a_stop_in_standby_ends_the_process_and_its_key(group: Group) -> None:
    first = group.start()
    await eventually(lambda: first.serving)
    standby = group.start()
    await eventually(lambda: standby.replica.state == "standby")
    key = group.layout.session("rootcoord", standby.server_id)
    await standby.stop()
    assert (await group.client.get(key)).kv is None
    assert first.serving


async def test_exclusive_registration_names_the_holder_and_the_switch(group: Group) -> None:
    first = group.start(active_standby=False)
    await eventually(lambda: first.serving)
    second = group.start(active_standby=False)
    with pytest.raises(RoleHeldExclusively, match=r"rootCoord\.enableActiveStandby") as raised:
        async with asyncio.timeout(10):
            await second.task
    assert f"server {first.server_id} at 127.0.0.1:1" in str(raised.value)
    assert first.serving


async def test_a_restart_on_the_same_address_replaces_the_predecessor(group: Group) -> None:
    """Active-standby off: Milvus deletes the record of an older process on its own address; so do we."""
    layout, client = group.layout, group.client
    predecessor = SessionRecord(server_id=0, server_name="rootcoord", address="127.0.0.1:1", version="2.3.5")
    await client.txn([], [Put(layout.session("rootcoord"), predecessor.to_json())])
    restarted = group.start(active_standby=False)
    await eventually(lambda: restarted.serving, 5)


@pytest.mark.timeout(60)
async def test_etcd_away_longer_than_the_lease_changes_no_role() -> None:
    async with (
        etcd_cluster() as etcd,
        EtcdClient(etcd.settings()) as client,
        replica_group(client, "by-dev") as group,
    ):
        active = group.start(ttl_s=2)
        await eventually(lambda: active.serving)
        standby = group.start(ttl_s=2)
        await eventually(lambda: standby.replica.state == "standby")
        epoch, server_id = active.replica.epoch, active.server_id
        etcd.members[0].kill()
        await eventually(lambda: not active.serving, 5)
        assert active.replica.state == "active", "a passed guard does not depose"
        await asyncio.sleep(4)  # twice the lease: while etcd is away no lease runs out
        etcd.members[0].start()
        await eventually(lambda: active.serving, 15)
        assert (active.replica.epoch, active.server_id) == (epoch, server_id)
        assert standby.replica.state == "standby"
