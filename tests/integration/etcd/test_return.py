"""How an etcd that was away is found again."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from coordd.etcd import EtcdClient, errors
from coordd.etcd.endpoints import Endpoint, parse_endpoints
from coordd.etcd.knock import knock
from coordd.etcd.settings import PlainSettings
from coordd.etcd.transport import Transport
from tests.integration.etcd.proxied import proxied
from tests.support.etcd import EtcdCluster, free_ports


def endpoint_of(port: int, host: str = "127.0.0.1") -> Endpoint:
    return parse_endpoints([f"{host}:{port}"], tls=False)[0]


@contextlib.contextmanager
def listening(port: int = 0, *, backlog: int = 16) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(backlog)
        yield listener


# --- knocking ---


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refusing_port_is_knocked_at_until_somebody_listens(host: str) -> None:
    (port,) = free_ports(1)
    async with asyncio.TaskGroup() as group:
        knocking = group.create_task(knock(endpoint_of(port, host)), name="knock")
        cpu = time.process_time()
        await asyncio.sleep(0.5)
        assert not knocking.done()
        assert time.process_time() - cpu < 0.25
        with listening(port):
            async with asyncio.timeout(2):
                await knocking


async def test_a_host_that_drops_packets_is_found_when_it_does_so_no_more() -> None:
    """A listener whose backlog is full answers no SYN at all."""
    with listening(backlog=0) as listener, contextlib.ExitStack() as stack:
        port = listener.getsockname()[1]
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with asyncio.TaskGroup() as group:
            knocking = group.create_task(knock(endpoint_of(port)), name="knock")
            await asyncio.sleep(0.5)
            assert not knocking.done()
            listener.setblocking(False)
            async with asyncio.timeout(5):
                while not knocking.done():
                    with contextlib.suppress(BlockingIOError):
                        stack.enter_context(listener.accept()[0])
                    await asyncio.sleep(0.01)


async def test_what_cannot_be_knocked_at_is_left_to_the_dial() -> None:
    async with asyncio.timeout(5):
        await knock(parse_endpoints(["unix:/nowhere"], tls=False)[0])
        await knock(endpoint_of(2379, "no-such-host.invalid"))


async def test_a_knock_that_is_cancelled_leaves_nothing_open() -> None:
    (port,) = free_ports(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await knock(endpoint_of(port))  # an unclosed socket would be a ResourceWarning, an error here


# --- requests ---


async def test_all_requests_share_one_search(etcd_server: EtcdCluster, root: str) -> None:
    async with proxied(etcd_server) as (proxy, client):
        await client.put(f"{root}k", b"")
        await proxy.refuse()
        proxy.cut()
        with pytest.raises(errors.Unavailable):
            await client.get(f"{root}k", timeout_s=0.2)
        before = proxy.accepted
        async with asyncio.TaskGroup() as group:
            puts = [group.create_task(client.put(f"{root}k", b"", timeout_s=10)) for _ in range(20)]
            await asyncio.sleep(0.3)
            await proxy.accept()
        assert all(put.result() for put in puts)
        assert proxy.accepted - before <= 4, "a knock and a dial, not twenty of them"


async def test_a_search_that_nobody_waits_for_ends(etcd_server: EtcdCluster) -> None:
    async with EtcdClient(PlainSettings(endpoints=("127.0.0.1:1",))) as client:
        with pytest.raises(errors.Unavailable):
            await client.get("k", timeout_s=0.2)
        await asyncio.sleep(0.1)
        assert not [task for task in asyncio.all_tasks() if "etcd dial" in task.get_name()]


async def test_the_only_endpoint_is_connected_to_anew_when_it_is_silent(
    etcd_server: EtcdCluster, root: str
) -> None:
    async with proxied(etcd_server) as (proxy, client):
        await client.put(f"{root}k", b"1")
        proxy.up.swallow = True
        started = time.monotonic()
        with pytest.raises(errors.OutcomeUnknown):
            await client.put(f"{root}k", b"2", timeout_s=1.2)
        with pytest.raises(errors.Unavailable):
            await client.put(f"{root}k", b"2", timeout_s=0.5)  # was not sent: there is no connection
        assert time.monotonic() - started < 5
        proxy.heal()
        await client.put(f"{root}k", b"3", timeout_s=10)
        found = await client.get(f"{root}k")
        assert found.kv is not None
        assert (found.kv.value, found.kv.version) == (b"3", 2)


async def test_pauses_end_with_the_first_write_that_is_answered_again(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    async with proxied(etcd_server) as (proxy, faulty):
        await faulty.put(f"{root}k", b"1")
        transport: Transport = faulty._transport
        proxy.stall_down()
        with pytest.raises(errors.OutcomeUnknown):
            await faulty.put(f"{root}k", b"2", timeout_s=0.3)
        async with asyncio.TaskGroup() as group:
            pausing = group.create_task(transport.pause(60), name="pause")
            proxy.heal()
            await asyncio.sleep(0.1)
            await faulty.get(f"{root}k")
            assert not pausing.done(), "that etcd answers reads says nothing of writes"
            await faulty.put(f"{root}k", b"3")
            async with asyncio.timeout(2):
                await pausing
        async with asyncio.TaskGroup() as group:
            pausing = group.create_task(transport.pause(0.5), name="pause")
            started = time.monotonic()
            await faulty.put(f"{root}k", b"4")
            await pausing
            assert time.monotonic() - started > 0.4, "in good times writes end no pauses"
