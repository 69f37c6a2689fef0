"""Asks at a proxy's address who is there; what the answer proves is decided in `gone`.

Source of the method: Milvus 2.3.5 internal/proxy/impl.go (GetComponentStates), served on the internal port.
"""

import asyncio

from google.protobuf.message import DecodeError

from coordd.http2.client import CallFailed, ClientSettings
from coordd.pb import milvus_pb2
from coordd.rootcoord.timetick.gone import Answer
from coordd.rpc.line import connect

COMPONENT_STATES = "/milvus.proto.proxy.Proxy/GetComponentStates"
_QUESTION = milvus_pb2.GetComponentStatesRequest().SerializeToString()


async def who_is_there(address: str, server_id: int, timeout_s: float) -> Answer:
    """Ask at `address` (`ip:port`) for the proxy `server_id`; takes at most some `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            node_id = await _node_id(address, timeout_s)
    except ConnectionRefusedError:
        return Answer.REFUSED
    except (TimeoutError, OSError, ValueError, CallFailed, DecodeError):
        return Answer.NOTHING
    if node_id <= 0:  # it has not registered
        return Answer.NOTHING
    return Answer.ITSELF if node_id == server_id else Answer.ANOTHER


async def _node_id(address: str, timeout_s: float) -> int:
    """The server ID that is told there, without saying whom we look for: that would be refused.

    Raises:
        ConnectionRefusedError: nobody listens there.
        OSError, ValueError: there is no connection for another reason, or no such address.
        CallFailed, DecodeError: no answer, an error, or an answer that is none.
    """
    channel = await connect(address, ClientSettings(max_receive_bytes=4 << 20))
    try:
        answer = await channel.unary(COMPONENT_STATES, _QUESTION, timeout_s=timeout_s)
    finally:
        channel.close()
    return milvus_pb2.ComponentStates.FromString(answer).state.nodeID
