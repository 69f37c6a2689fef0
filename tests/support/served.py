"""A role behind the real gRPC server on a real port, and a client of it."""

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
import pytest

from coordd.pb import root_coord_pb2
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.server import GrpcServer, ServerOptions
from coordd.rpc.table import Method
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role

HOST = "127.0.0.1"
SETTING = "rootCoord.port"
TIMESTAMP = f"{PREFIX}AllocTimestamp"
ALLOC_ID = f"{PREFIX}AllocID"


class Served:
    """Listens from the beginning; a test starts it."""

    def __init__(self, options: ServerOptions, host: str = HOST) -> None:
        self.gate = FakeGate()
        self.role = Role()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        self.dispatcher = Dispatcher(table, self.gate, cluster="by-dev")
        self.server = GrpcServer(self.dispatcher, options)
        self.port = self.server.listen(host, 0, setting=SETTING)
        self.channel = grpc.aio.insecure_channel(
            f"{HOST}:{self.port}", options=[("grpc.max_receive_message_length", -1)]
        )

    def method(self, path: str = TIMESTAMP) -> Method:
        """An entry of the dispatch table, to be changed."""
        method = self.dispatcher.table.get(path)
        assert method is not None
        return method

    async def call(self, path: str, body: bytes = b"", *, timeout_s: float = 10, **metadata: str) -> bytes:
        answer: bytes = await self.channel.unary_unary(path)(
            body, timeout=timeout_s, metadata=tuple(metadata.items())
        )
        return answer

    async def timestamp(self, **options: Any) -> root_coord_pb2.AllocTimestampResponse:
        body = root_coord_pb2.AllocTimestampRequest(count=1).SerializeToString()
        return root_coord_pb2.AllocTimestampResponse.FromString(await self.call(TIMESTAMP, body, **options))

    async def failure(self, path: str = TIMESTAMP, body: bytes = b"", **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(path, body, **options)
        return caught.value

    async def close(self) -> None:
        await self.channel.close()
        await self.server.stop()


async def refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # reset while the listening socket went away; the next try is refused
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return False
