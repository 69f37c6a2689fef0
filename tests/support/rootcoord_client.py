"""A plain gRPC client of one RootCoord, as a test uses it."""

from types import TracebackType
from typing import Any, Self

import grpc.aio
from google.protobuf.message import Message

from coordd.pb import milvus_pb2, root_coord_pb2

SERVICE = "/milvus.proto.rootcoord.RootCoord/"


class RootCoordClient:
    """One connection to one address; calls carry no server ID unless `server_id` is given."""

    def __init__(self, address: str, server_id: int | None = None) -> None:
        self.channel = grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self._metadata = () if server_id is None else (("serverid", str(server_id)),)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def call(
        self, method: str, request: Message, response: type[Message], timeout_s: float = 5.0
    ) -> Any:
        rpc = self.channel.unary_unary(SERVICE + method, type(request).SerializeToString, response.FromString)
        return await rpc(request, timeout=timeout_s, metadata=self._metadata)

    async def alloc_timestamp(self, count: int = 1, timeout_s: float = 5.0) -> tuple[int, int]:
        """First and count of a block."""
        answer = await self.call(
            "AllocTimestamp",
            root_coord_pb2.AllocTimestampRequest(count=count),
            root_coord_pb2.AllocTimestampResponse,
            timeout_s,
        )
        assert answer.status.code == 0, answer
        return answer.timestamp, answer.count

    async def alloc_id(self, count: int = 1) -> tuple[int, int]:
        """First and count of a block."""
        answer = await self.call(
            "AllocID", root_coord_pb2.AllocIDRequest(count=count), root_coord_pb2.AllocIDResponse
        )
        assert answer.status.code == 0, answer
        return answer.ID, answer.count

    async def state_code(self) -> int:
        """common.StateCode of the component."""
        answer = await self.call(
            "GetComponentStates", milvus_pb2.GetComponentStatesRequest(), milvus_pb2.ComponentStates
        )
        code: int = answer.state.state_code
        return code
