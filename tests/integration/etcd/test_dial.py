"""The way to one endpoint: names with several addresses, sockets with a path, and what ends a connection."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordd.etcd import EtcdClient, errors
from coordd.etcd.settings import PlainSettings
from tests.support.etcd import EtcdCluster, etcd_cluster

NAME = "etcd.test"


@contextlib.contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """A process that hangs: its kernel takes connections, nobody answers."""
    with socket.create_server((address, port)):
        yield


@pytest.fixture
async def resolver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `NAME` resolves to, by the loop: asyncio's asks a thread, uvloop's has a resolver of its own."""
    addresses: list[str] = []
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **more: Any) -> Any:
        if host != NAME:
            return await real(host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    return addresses


async def test_an_address_that_hangs_or_refuses_holds_up_none_of_the_others(
    etcd_server: EtcdCluster, root: str, resolver: list[str]
) -> None:
    port = int(etcd_server.endpoints[0].rpartition(":")[2])
    resolver += ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
    with silent("127.0.0.2", port):
        async with EtcdClient(PlainSettings((f"{NAME}:{port}",))) as client:
            await client.put(f"{root}k", b"1", timeout_s=5)
            assert client.connected_endpoint() == f"{NAME}:{port}"


async def test_a_name_all_of_whose_addresses_fail_is_told_with_each_reason_once(resolver: list[str]) -> None:
    resolver += ["127.0.0.1", "127.0.0.2"]
    async with EtcdClient(PlainSettings((f"{NAME}:1",))) as client:
        with pytest.raises(errors.Unavailable, match=f"{NAME}:1: Connection refused ") as caught:
            await client.get("k", timeout_s=0.3)
    assert str(caught.value).count("refused") == 1


async def test_localhost_is_whichever_of_its_addresses_etcd_has(etcd_server: EtcdCluster, root: str) -> None:
    port = etcd_server.endpoints[0].rpartition(":")[2]
    async with EtcdClient(PlainSettings((f"localhost:{port}",))) as client:
        await client.put(f"{root}k", b"1")


async def test_a_socket_with_a_path(etcd_server: EtcdCluster, tmp_path: Path, root: str) -> None:
    path = tmp_path / "etcd.sock"
    host, _, port = etcd_server.endpoints[0].rpartition(":")

    over = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(pump(reader, there), name="up")
            group.create_task(pump(back, writer), name="down")
        over.set()

    settings = PlainSettings((f"unix:{path}",))
    async with EtcdClient(settings) as client:
        with pytest.raises(errors.Unavailable, match="No such file"):
            await client.get("k", timeout_s=0.3)
    async with await asyncio.start_unix_server(carry, path):
        async with EtcdClient(settings) as client:
            revision = await client.put(f"{root}k", b"1")
            async with contextlib.aclosing(client.watch(f"{root}k", None, from_revision=revision)) as watch:
                assert (await anext(watch)).revision == revision
        await over.wait()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_what_does_not_speak_http_2_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with EtcdClient(PlainSettings((f"127.0.0.1:{port}",))) as client:
            with pytest.raises(errors.Unavailable, match=r"etcd\.ssl\.enabled"):
                await client.get("k", timeout_s=0.5)


async def test_an_etcd_that_is_stopped_in_order_loses_no_write_and_repeats_none(root: str) -> None:
    """It says goodbye first, and finishes what it has begun."""
    key = f"{root}k"
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        member = cluster.members[0]
        first = await client.put(key, b"0")
        async with contextlib.aclosing(client.watch(key, None, from_revision=first)) as watch:
            await anext(watch)
            acknowledged, unknown = 1, 0
            async with asyncio.TaskGroup() as group:
                stopping = group.create_task(asyncio.to_thread(member.stop), name="stop")
                while not stopping.done():
                    try:
                        await client.put(key, b"1", timeout_s=0.5)
                        acknowledged += 1
                    except errors.OutcomeUnknown:
                        unknown += 1
                    except errors.Unavailable:
                        continue
            member.start()
            last = await client.put(key, b"2", timeout_s=10)
            found = await client.get(key)
            assert found.kv is not None
            assert acknowledged + 1 <= found.kv.version <= acknowledged + unknown + 1
            batch = await anext(watch)
            while batch.revision < last:
                batch = await anext(watch)
            assert batch.events[-1].version == found.kv.version
