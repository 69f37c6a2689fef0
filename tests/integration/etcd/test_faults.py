"""What a client is told when the network or etcd fails, and what it does by itself."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable

import pytest

from coordd.etcd import Compare, EtcdClient, Get, Put, errors
from coordd.etcd.settings import PlainSettings
from tests.integration.etcd.proxied import proxied
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.tcp_proxy import tcp_proxy


async def test_etcd_unreachable_is_told_at_the_deadline_without_spinning() -> None:
    async with EtcdClient(PlainSettings(endpoints=("127.0.0.1:1", "127.0.0.1:2"))) as client:
        started, cpu = time.monotonic(), time.process_time()
        with pytest.raises(errors.Unavailable) as caught:
            await client.txn([], [Put("k", b"v")], timeout_s=0.7)
        assert 0.5 < time.monotonic() - started < 2.0
        assert time.process_time() - cpu < 0.35
    text = str(caught.value)
    assert "127.0.0.1:1: " in text
    assert "127.0.0.1:2: " in text
    assert "refused" in text
    assert "etcd.endpoints" in text


async def test_a_host_that_does_not_resolve_is_told() -> None:
    async with EtcdClient(PlainSettings(endpoints=("no-such-host.invalid:2379",))) as client:
        with pytest.raises(errors.Unavailable, match=r"no-such-host\.invalid"):
            await client.get("k", timeout_s=0.5)


async def test_a_write_whose_answer_is_lost_is_unknown_and_was_sent_once(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    async with proxied(etcd_server, direct=True) as (proxy, faulty):
        await faulty.put(f"{root}k", b"1")
        proxy.swallow_down = True
        with pytest.raises(errors.OutcomeUnknown):
            await faulty.txn([Compare.version(f"{root}k", 1)], [Put(f"{root}k", b"2")], timeout_s=0.5)
        assert (await read_version(client, f"{root}k")) == 2


async def test_a_write_whose_connection_breaks_is_unknown_at_once(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    key = f"{root}k"
    async with proxied(etcd_server) as (proxy, faulty):
        await faulty.put(key, b"1")
        proxy.stall_down()
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(fails_unknown(faulty, key), name="txn")
            await until_version(client, key, 2)
            proxy.cut()
            await task
        assert time.monotonic() - started < 3.0
        proxy.heal()
        assert (await faulty.get(key)).kv is not None
        assert await read_version(client, key) == 2


async def test_a_write_that_was_not_sent_is_sent_when_etcd_is_back(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    key = f"{root}k"
    async with proxied(etcd_server) as (proxy, faulty):
        await faulty.put(key, b"1")
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(errors.Unavailable):
            await faulty.get(key, timeout_s=0.1)  # from here on the client knows that it is disconnected
        async with asyncio.TaskGroup() as group:
            task = group.create_task(faulty.txn([], [Put(key, b"2")], timeout_s=5.0), name="txn")
            await asyncio.sleep(0.3)
            assert await read_version(client, key) == 1
            await proxy.accept()
        assert task.result().succeeded
        assert await read_version(client, key) == 2


async def test_a_read_goes_to_another_endpoint_within_its_deadline(
    etcd_server: EtcdCluster, root: str
) -> None:
    async with proxied(etcd_server, direct=True) as (proxy, client):
        await client.put(f"{root}k", b"1")
        assert proxy.accepted == 1
        proxy.partition()
        found = await client.get(f"{root}k", timeout_s=2.0)
        assert found.kv is not None


async def test_a_silent_endpoint_is_left_after_a_second(etcd_server: EtcdCluster, root: str) -> None:
    """The heartbeat's view: short transactions, one connection that goes silent, another endpoint."""
    key = f"{root}k"
    async with proxied(etcd_server, direct=True) as (proxy, client):
        await client.put(key, b"1")
        proxy.partition()
        started = time.monotonic()
        while True:
            try:
                await client.txn([], [Put(key, b"2")], timeout_s=0.5)
                break
            except errors.OutcomeUnknown:
                assert time.monotonic() - started < 4.0
        assert time.monotonic() - started < 3.0


async def test_overlapping_heartbeats_leave_a_silent_endpoint_without_short_timeouts(
    etcd_server: EtcdCluster, root: str
) -> None:
    """A beat each 200 ms, whether or not the one before was answered, each with a long time-out."""
    key = f"{root}k"
    async with proxied(etcd_server, direct=True) as (proxy, client):
        await client.put(key, b"")
        proxy.partition()
        acked = asyncio.Event()

        async def beat() -> None:
            with contextlib.suppress(errors.OutcomeUnknown):
                await client.put(key, b"", timeout_s=5)
                acked.set()

        async with asyncio.TaskGroup() as group:
            started = time.monotonic()
            while not acked.is_set():
                assert time.monotonic() - started < 3.0
                group.create_task(beat(), name="beat")
                await asyncio.sleep(0.2)
            proxy.heal()


async def test_a_request_that_is_cancelled_does_not_discredit_its_connection(
    etcd_server: EtcdCluster, root: str
) -> None:
    async with proxied(etcd_server, direct=True) as (proxy, client):
        await client.put(f"{root}k", b"")
        proxy.stall_down()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(f"{root}k")
        proxy.heal()
        await asyncio.sleep(1.1)
        await client.put(f"{root}k", b"")
        assert client.connected_endpoint() == proxy.endpoint


async def test_an_endpoint_that_never_answers_does_not_hold_up_the_others(
    etcd_server: EtcdCluster, root: str
) -> None:
    async with tcp_proxy(etcd_server.endpoints[0]) as proxy:
        proxy.partition()
        settings = etcd_server.settings(endpoints=["127.0.0.1:1", proxy.endpoint, *etcd_server.endpoints])
        async with EtcdClient(settings) as client:
            started = time.monotonic()
            await client.put(f"{root}k", b"1")
            assert time.monotonic() - started < 2.0


async def test_an_etcd_restart_is_survived_by_the_same_client(root: str) -> None:
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        await client.put(f"{root}k", b"1")
        cluster.members[0].kill()
        with pytest.raises((errors.Unavailable, errors.OutcomeUnknown)):  # the connection may look alive yet
            await client.put(f"{root}k", b"2", timeout_s=0.3)
        cluster.members[0].start()
        await client.put(f"{root}k", b"3", timeout_s=10.0)
        found = await client.get(f"{root}k")
        assert found.kv is not None
        assert (found.kv.value, found.kv.version) == (b"3", 2)


async def test_cancelling_a_request_is_prompt_and_leaves_the_client_usable(
    etcd_server: EtcdCluster, root: str
) -> None:
    async with proxied(etcd_server) as (proxy, client):
        await client.put(f"{root}k", b"1")
        proxy.stall_down()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.txn([], [Get(f"{root}k")])
        proxy.heal()
        assert (await client.get(f"{root}k")).kv is not None


async def test_closing_the_client_ends_what_is_in_flight(etcd_server: EtcdCluster, root: str) -> None:
    async with tcp_proxy(etcd_server.endpoints[0]) as proxy:
        client = EtcdClient(etcd_server.settings(endpoints=[proxy.endpoint]))
        await client.put(f"{root}k", b"1")
        proxy.stall_down()
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(raises(errors.Unavailable, client.get(f"{root}k")), name="get")
            writer = group.create_task(
                raises(errors.OutcomeUnknown, client.put(f"{root}k", b"2")), name="put"
            )
            await asyncio.sleep(0.1)
            await client.close()
            async with asyncio.timeout(1.0):
                await reader
                await writer


async def until_version(client: EtcdClient, key: str, version: int) -> None:
    limit = time.monotonic() + 5
    while time.monotonic() < limit:
        if await read_version(client, key) == version:
            return
    raise AssertionError(f"{key} did not reach version {version}")


async def test_closing_the_client_ends_watches_and_keepalives(etcd_server: EtcdCluster, root: str) -> None:
    client = EtcdClient(etcd_server.settings())
    revision = await client.put(f"{root}k", b"1")
    lease = await client.grant(60)
    async with (
        contextlib.aclosing(client.watch(f"{root}k", None, from_revision=revision)) as watch,
        contextlib.aclosing(client.keep_alive(lease.id, 60, 0.1)) as acks,
    ):
        await anext(watch)
        await anext(acks)
        async with asyncio.TaskGroup() as group:
            group.create_task(raises(errors.Unavailable, exhaust(watch)), name="watch")
            group.create_task(raises(errors.Unavailable, exhaust(acks)), name="keepalive")
            await asyncio.sleep(0.05)
            await client.close()


async def exhaust(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


async def fails_unknown(client: EtcdClient, key: str) -> None:
    with pytest.raises(errors.OutcomeUnknown):
        await client.txn([], [Put(key, b"2")])


async def raises(kind: type[Exception], awaitable: Awaitable[object]) -> None:
    with pytest.raises(kind):
        await awaitable


async def read_version(client: EtcdClient, key: str) -> int:
    found = await client.get(key)
    return 0 if found.kv is None else found.kv.version
