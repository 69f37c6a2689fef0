"""The same over TLS: our client and server with each other and with grpcio's."""

import asyncio
import ssl
from collections.abc import AsyncIterator

import grpc
import pytest
import structlog

from coordd.http2.client import Http2NotOffered
from coordd.rpc.failure import RpcCode
from coordd.rpc.server import ServerOptions
from coordd.rpc.tls import server_credentials
from tests.support.etcd import eventually
from tests.support.etcd_tls import TlsFiles, make_tls
from tests.support.http2_peers import (
    ECHO,
    FAIL,
    HOST,
    MAKE,
    SLOW,
    AioCaller,
    Caller,
    GrpcioServer,
    OwnServer,
    Server,
    failure,
    own_caller,
    serving,
)
from tests.support.http2_raw import dialled


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


def client_context(files: TlsFiles, *, mutual: bool = False, protocol: str = "h2") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols([protocol])
    if mutual:
        context.load_cert_chain(files.client_cert, files.client_key)
    return context


def own_server(files: TlsFiles, *, mutual: bool = False) -> OwnServer:
    tls = server_credentials(files.server_cert, files.server_key, files.ca if mutual else None)
    return OwnServer(ServerOptions(credentials=tls))


@pytest.fixture(params=["grpcio to ours", "ours to grpcio", "ours to ours"])
async def pair(request: pytest.FixtureRequest, files: TlsFiles) -> AsyncIterator[tuple[Caller, Server]]:
    if request.param == "ours to grpcio":
        key, certificate = files.server_key.read_bytes(), files.server_cert.read_bytes()
        server: GrpcioServer | OwnServer = GrpcioServer(grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server = own_server(files)
    async with serving(server):
        caller: Caller
        if request.param == "grpcio to ours":
            caller = AioCaller(server.port, grpc.ssl_channel_credentials(files.ca.read_bytes()))
        else:
            caller = await own_caller(server.port, tls=client_context(files))
        yield caller, server
        await caller.close()


async def test_calls(pair: tuple[Caller, Server]) -> None:
    caller, server = pair
    body = bytes(range(251)) * 41_000
    assert await caller.call(ECHO, body) == body
    assert len(await caller.call(MAKE, b"10000000")) == 10_000_000
    error = await failure(caller, FAIL, "9 ä€".encode())
    assert (error.code, error.text) == (RpcCode.FAILED_PRECONDITION, "ä€")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(caller.call(SLOW, b"%d" % number)) for number in range(50)]
        await eventually(lambda: server.service.running == 50)
        server.service.proceed.set()
    assert [task.result() for task in tasks] == [b"%d" % number for number in range(50)]


async def test_a_deadline(pair: tuple[Caller, Server]) -> None:
    caller, server = pair
    assert (await failure(caller, SLOW, timeout_s=0.2)).code is RpcCode.DEADLINE_EXCEEDED
    await eventually(lambda: server.service.cancelled == 1)


async def test_the_server_may_stop_in_mid_call(pair: tuple[Caller, Server]) -> None:
    caller, server = pair
    async with asyncio.TaskGroup() as group:
        call = group.create_task(caller.call(SLOW, b"done"))
        await eventually(lambda: server.service.running == 1)
        stop = group.create_task(server.stop(10))
        await asyncio.sleep(0.1)
        assert not stop.done()
        server.service.proceed.set()
    assert call.result() == b"done"


async def test_a_server_that_asks_for_a_certificate(files: TlsFiles) -> None:
    async with serving(own_server(files, mutual=True)) as server:
        named = await own_caller(server.port, tls=client_context(files, mutual=True))
        assert await named.call(ECHO, b"x") == b"x"
        await named.close()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await own_caller(server.port, tls=client_context(files))


async def test_a_server_that_nobody_vouches_for(files: TlsFiles) -> None:
    async with serving(own_server(files)) as server:
        stranger = ssl.create_default_context(cafile=str(files.other_ca))
        with pytest.raises(ssl.SSLError):
            await own_caller(server.port, tls=stranger)


async def test_who_does_not_speak_tls_is_sent_away(files: TlsFiles) -> None:
    async with serving(own_server(files)) as server:
        with pytest.raises(ConnectionError):
            await own_caller(server.port)
        async with dialled(server.port) as raw:
            raw.write(b"GET / HTTP/1.1\r\n\r\n")
            await raw.ended()
        caller = await own_caller(server.port, tls=client_context(files))
        assert await caller.call(ECHO, b"x") == b"x"
        await caller.close()


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None], ids=["400", "end", "nothing"]
)
async def test_a_peer_that_does_not_speak_http2_below_tls(files: TlsFiles, said: bytes | None) -> None:
    """Agreed on by ALPN; a server without it gets no call, and whatever it says is not the reason."""

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if said is not None:
            writer.write(said)
            writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server_cert, files.server_key)
    server = await asyncio.start_server(connected, HOST, 0, ssl=context)
    try:
        with pytest.raises(Http2NotOffered, match=r"chose nothing in its TLS handshake \(ALPN\)"):
            await own_caller(server.sockets[0].getsockname()[1], tls=client_context(files))
    finally:
        server.close()


async def test_clients_that_do_not_offer_http2_are_named_in_the_log_once(files: TlsFiles) -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(own_server(files)) as server:
            for protocol in ("http/1.1", "http/1.1", "h2"):
                tls = client_context(files, protocol=protocol)
                reader, writer = await asyncio.open_connection(HOST, server.port, ssl=tls)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                assert b"this is not HTTP/2" in await reader.read()
                writer.close()
    [line] = [line for line in lines if line["log_level"] == "warning"]
    assert line["event"] == "a client offers no HTTP/2 in its TLS handshake (ALPN)"
    assert line["peer"].startswith(f"ipv4:{HOST}:")
    assert line["reason"] == "this is not HTTP/2"
