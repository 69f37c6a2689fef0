"""The gRPC transport over TLS."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.server import GrpcServer, ServerOptions
from coordd.rpc.tls import CertificateError, server_credentials
from tests.support.etcd_tls import TlsFiles, make_tls
from tests.support.http2_client import raw_client
from tests.support.rpc import ROOT_COORD, FakeGate, Role
from tests.support.served import HOST, TIMESTAMP, Served


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def answer_over_tls(server: ssl.SSLContext, client: grpc.ChannelCredentials) -> bytes:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role())
    dispatcher = Dispatcher(table, FakeGate(), cluster="by-dev")
    listening = GrpcServer(dispatcher, ServerOptions(credentials=server))
    port = listening.listen("127.0.0.1", 0, setting="rootCoord.port")
    await listening.start()
    try:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", client) as channel:
            answer: bytes = await channel.unary_unary(TIMESTAMP)(b"", timeout=5)
            return answer
    finally:
        await listening.stop()


async def test_one_way(files: TlsFiles) -> None:
    server = server_credentials(files.server_cert, files.server_key)
    client = grpc.ssl_channel_credentials(files.ca.read_bytes())
    assert await answer_over_tls(server, client)


async def test_mutual_wants_a_certificate_of_its_authority(files: TlsFiles) -> None:
    server = server_credentials(files.server_cert, files.server_key, files.ca)
    named = grpc.ssl_channel_credentials(
        files.ca.read_bytes(), files.client_key.read_bytes(), files.client_cert.read_bytes()
    )
    assert await answer_over_tls(server, named)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer_over_tls(server, grpc.ssl_channel_credentials(files.ca.read_bytes()))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_file_that_is_not_there_is_named(files: TlsFiles, tmp_path: Path) -> None:
    missing = tmp_path / "server.key"
    with pytest.raises(CertificateError, match=r"server\.key"):
        server_credentials(files.server_cert, missing)


async def test_a_file_that_is_something_else_is_named(files: TlsFiles, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("not a certificate")
    with pytest.raises(CertificateError, match=r"wrong\.pem"):
        server_credentials(wrong, files.server_key)
    with pytest.raises(CertificateError, match=r"client-key\.pem"):
        server_credentials(files.server_cert, files.client_key)
    with pytest.raises(CertificateError, match=r"wrong\.pem"):
        server_credentials(files.server_cert, files.server_key, wrong)


async def test_a_key_with_a_password_is_refused_and_nobody_asked_for_it(
    files: TlsFiles, tmp_path: Path
) -> None:
    key = load_pem_private_key(files.server_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(CertificateError, match="without a password"):
        server_credentials(files.server_cert, locked)


def trusting(files: TlsFiles) -> ssl.SSLContext:
    client = ssl.create_default_context(cafile=files.ca)
    client.set_alpn_protocols(["h2"])
    return client


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_http2_is_agreed_upon(files: TlsFiles, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Go's clients insist on it."""

    async def agree() -> None:
        served = Served(ServerOptions(credentials=server_credentials(files.server_cert, files.server_key)))
        await served.server.start()
        async with raw_client(HOST, served.port, tls=trusting(files)) as client:
            tls: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
            assert tls.selected_alpn_protocol() == "h2"
            assert (await client.call()).status == 0
            await served.close()
            await client.until_closed()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(agree())


async def test_who_does_not_speak_tls_is_no_trouble(files: TlsFiles) -> None:
    served = Served(ServerOptions(credentials=server_credentials(files.server_cert, files.server_key)))
    await served.server.start()
    reader, writer = await asyncio.open_connection(HOST, served.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"PRI" not in await reader.read()
    writer.close()
    async with raw_client(HOST, served.port, tls=trusting(files)) as client:
        assert (await client.call()).status == 0
    await served.close()
