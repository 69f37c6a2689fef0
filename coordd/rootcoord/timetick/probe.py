"""Asks at a proxy's address who is there; what the answer proves is decided in `gone`.

Source of the method: Milvus 2.3.5 internal/proxy/impl.go (GetComponentStates), served on the internal port.
"""

import asyncio
import contextlib

import grpc
import grpc.aio

from coordd.config.coordinators import split_address
from coordd.pb import milvus_pb2
from coordd.rootcoord.timetick.gone import Answer

COMPONENT_STATES = "/milvus.proto.proxy.Proxy/GetComponentStates"
_OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


async def who_is_there(address: str, server_id: int, timeout_s: float) -> Answer:
    """Ask at `address` (`ip:port`) for the proxy `server_id`; takes at most some `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            if await _refused(address):
                return Answer.REFUSED
            node_id = await _node_id(address)
    except (TimeoutError, OSError, ValueError, grpc.aio.AioRpcError):
        return Answer.NOTHING
    if node_id <= 0:  # it has not registered
        return Answer.NOTHING
    return Answer.ITSELF if node_id == server_id else Answer.ANOTHER


async def _refused(address: str) -> bool:
    """Whether a connect is answered with a refusal.

    Raises:
        OSError: it failed in another way.
        ValueError: no such address.
    """
    host, port = split_address(address)
    if not host or port is None or not 0 < port < 1 << 16:
        raise ValueError(f"{address!r} is not host:port")
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    try:
        # A port of this machine on which nobody listens can be given to the very socket that dials it.
        return bool(writer.get_extra_info("sockname") == writer.get_extra_info("peername"))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _node_id(address: str) -> int:
    """The server ID that is told there, without saying whom we look for: that would be refused.

    Raises:
        AioRpcError: no answer, or an error.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        ask = channel.unary_unary(
            COMPONENT_STATES,
            request_serializer=milvus_pb2.GetComponentStatesRequest.SerializeToString,
            response_deserializer=milvus_pb2.ComponentStates.FromString,
        )
        states: milvus_pb2.ComponentStates = await ask(milvus_pb2.GetComponentStatesRequest())
    return states.state.nodeID
