"""Keepalives on real servers."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient, KeepAliveAck, errors
from tests.integration.etcd.proxied import proxied
from tests.support.etcd import EtcdCluster, etcd_cluster


async def test_acks_come_at_the_interval_and_bound_the_lease_from_below(
    client: EtcdClient, root: str
) -> None:
    lease = await client.grant(3)
    acks: list[KeepAliveAck] = []
    async with contextlib.aclosing(client.keep_alive(lease.id, 3, 0.2)) as stream:
        before = boottime()
        while len(acks) < 4:
            acks.append(await anext(stream))
    assert acks[0].sent_at >= before
    for ack in acks:
        assert ack.sent_at < ack.received_at
        assert ack.ttl_s == 3
    gaps = [later.sent_at - sooner.sent_at for sooner, later in itertools.pairwise(acks)]
    assert all(0.19 < gap < 1.0 for gap in gaps)


async def test_the_interval_is_a_third_of_the_ttl(client: EtcdClient) -> None:
    lease = await client.grant(2)
    async with contextlib.aclosing(client.keep_alive(lease.id, 2)) as stream:
        first, second = await anext(stream), await anext(stream)
    assert second.sent_at - first.sent_at == pytest.approx(2 / 3, abs=0.3)


async def test_a_lease_lives_while_it_is_kept_and_ends_when_it_is_not(root: str) -> None:
    async with (
        etcd_cluster(heartbeat_ms=50, election_ms=500) as cluster,
        EtcdClient(cluster.settings()) as client,
    ):
        lease = await client.grant(1)
        assert lease.ttl_s == 1
        await client.put(f"{root}k", b"v", lease=lease.id)
        async with contextlib.aclosing(client.keep_alive(lease.id, lease.ttl_s)) as stream:
            started = boottime()
            while (ack := await anext(stream)).sent_at < started + 1.8:
                pass
        assert (await client.get(f"{root}k")).kv is not None
        limit = time.monotonic() + 5
        while (await client.get(f"{root}k")).kv is not None:
            assert time.monotonic() < limit
            await asyncio.sleep(0.02)
        assert boottime() >= ack.sent_at + ack.ttl_s


async def test_a_lease_that_is_revoked_meanwhile_is_lost(client: EtcdClient) -> None:
    lease = await client.grant(30)
    async with contextlib.aclosing(client.keep_alive(lease.id, 30, 0.1)) as stream:
        await anext(stream)
        await client.revoke(lease.id)
        with pytest.raises(errors.LeaseLost):
            await exhaust(stream)


async def test_a_lease_that_never_was_is_lost(client: EtcdClient) -> None:
    async with contextlib.aclosing(client.keep_alive(12345, 30)) as stream:
        with pytest.raises(errors.LeaseLost, match="3039"):
            await anext(stream)


async def test_a_cut_connection_is_replaced_at_once(etcd_server: EtcdCluster, client: EtcdClient) -> None:
    async with proxied(etcd_server) as (proxy, faulty):
        lease = await client.grant(30)
        async with contextlib.aclosing(faulty.keep_alive(lease.id, 30, 0.1)) as stream:
            await anext(stream)
            proxy.cut()
            started = time.monotonic()
            await anext(stream)
            assert time.monotonic() - started < 1.5
            assert proxy.accepted == 2


async def test_an_answer_that_arrives_too_late_is_not_taken_for_a_later_one(
    etcd_server: EtcdCluster, client: EtcdClient
) -> None:
    """Answers are held back longer than they are waited for; each ack still counts from its own request."""
    async with proxied(etcd_server) as (proxy, faulty):
        lease = await client.grant(30)
        async with contextlib.aclosing(faulty.keep_alive(lease.id, 30, 0.1)) as stream:
            await anext(stream)
            proxy.stall_down()
            async with asyncio.TaskGroup() as group:
                task = group.create_task(anext(stream), name="ack")
                await asyncio.sleep(1.3)
                assert not task.done()
                released = boottime()
                proxy.heal()
                ack = await task
            assert ack.received_at > released
            assert ack.sent_at > released - 0.6


async def test_a_silent_endpoint_is_left_for_another(etcd_server: EtcdCluster, client: EtcdClient) -> None:
    async with proxied(etcd_server, direct=True) as (proxy, faulty):
        lease = await client.grant(30)
        async with contextlib.aclosing(faulty.keep_alive(lease.id, 30, 0.1)) as stream:
            await anext(stream)
            proxy.partition()
            started = time.monotonic()
            await anext(stream)
            assert time.monotonic() - started < 4.0


async def exhaust(stream: AsyncIterator[KeepAliveAck]) -> None:
    async for _ in stream:
        pass
