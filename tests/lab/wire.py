"""Plain gRPC calls by method path, with no retries and a fresh channel when asked.

A channel that was refused once may wait seconds before it tries again, whatever its back-off options, so
polling needs fresh ones.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordd.pb import data_coord_pb2, proxy_pb2, query_coord_pb2, root_coord_pb2, worker_pb2

SERVICES: dict[str, ServiceDescriptor] = {
    "rootcoord": root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"],
    "datacoord": data_coord_pb2.DESCRIPTOR.services_by_name["DataCoord"],
    "querycoord": query_coord_pb2.DESCRIPTOR.services_by_name["QueryCoord"],
    "proxy": proxy_pb2.DESCRIPTOR.services_by_name["Proxy"],
    "datanode": data_coord_pb2.DESCRIPTOR.services_by_name["DataNode"],
    "indexnode": worker_pb2.DESCRIPTOR.services_by_name["IndexNode"],
    "querynode": query_coord_pb2.DESCRIPTOR.services_by_name["QueryNode"],
}
MAX_MESSAGE = 256 << 20


class Stub:
    """Calls the methods of one service at one address."""

    def __init__(self, service: ServiceDescriptor, address: str) -> None:
        self._service = service
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.insecure_channel(address, options=options)

    def __enter__(self) -> Stub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def request_class(self, method: str) -> type[Message]:
        """Message class of a method's request."""
        return GetMessageClass(self._service.methods_by_name[method].input_type)

    def call(
        self,
        method: str,
        request: Message,
        *,
        timeout_s: float = 10,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        """Call once. Raises: grpc.RpcError."""
        descriptor: MethodDescriptor = self._service.methods_by_name[method]
        unary = self._channel.unary_unary(
            f"/{self._service.full_name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(descriptor.output_type).FromString,
        )
        return unary(request, timeout=timeout_s, metadata=metadata)


def component_state(role: str, address: str, *, timeout_s: float = 1) -> str | None:
    """State code name of a component ("Healthy", "StandBy", ...), None while it does not answer."""
    with Stub(SERVICES[role], address) as stub:
        request = stub.request_class("GetComponentStates")()
        try:
            reply = stub.call("GetComponentStates", request, timeout_s=timeout_s)
        except grpc.RpcError:
            return None
    if reply.status.error_code or reply.status.code:
        return None
    state = reply.state
    code = state.DESCRIPTOR.fields_by_name["state_code"].enum_type.values_by_number[state.state_code]
    return str(code.name)
