"""The gRPC transport over TLS."""

from pathlib import Path

import grpc
import grpc.aio
import pytest

from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.server import GrpcServer, ServerOptions
from coordd.rpc.tls import CertificateError, server_credentials
from tests.support.etcd_tls import TlsFiles, make_tls
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role

TIMESTAMP = f"{PREFIX}AllocTimestamp"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return make_tls(tmp_path_factory.mktemp("tls"))


async def answer_over_tls(server: grpc.ServerCredentials, client: grpc.ChannelCredentials) -> bytes:
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
