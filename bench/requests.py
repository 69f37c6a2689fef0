"""The calls that are measured, by name, and what a good reply looks like."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.wire import Call
from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
COLLECTION = "all_types"


def _base(kind: str) -> common_pb2.MsgBase:
    return common_pb2.MsgBase(msg_type=common_pb2.MsgType.Value(kind))


def measured() -> dict[str, Message]:
    """Method -> request, in the order of the table."""
    return {
        "AllocTimestamp": root_coord_pb2.AllocTimestampRequest(base=_base("RequestTSO"), count=1),
        "AllocID": root_coord_pb2.AllocIDRequest(base=_base("RequestID"), count=1),
        "DescribeCollection": milvus_pb2.DescribeCollectionRequest(
            base=_base("DescribeCollection"), collection_name=COLLECTION
        ),
        "ShowCollections": milvus_pb2.ShowCollectionsRequest(base=_base("ShowCollections")),
        "ListDatabases": milvus_pb2.ListDatabasesRequest(base=_base("ListDatabases")),
    }


def call_of(method: str, server_id: int = 0, *, timeout: str = "10S") -> Call:
    """The call of a method with the headers of Milvus' clients; without a server ID any server takes it."""
    requests = {**measured(), "GetComponentStates": milvus_pb2.GetComponentStatesRequest()}
    metadata = [("cluster", "by-dev")]
    if server_id:
        metadata.append(("serverid", str(server_id)))
    return Call(
        f"/{SERVICE.full_name}/{method}", requests[method].SerializeToString(), tuple(metadata), timeout
    )


def parse(method: str, body: bytes) -> Any:
    """The reply's message."""
    return GetMessageClass(SERVICE.methods_by_name[method].output_type).FromString(body)


def succeeded(reply: Any) -> bool:
    """Tell whether Milvus' status inside a reply is success."""
    return reply.status.code == 0 and reply.status.error_code == 0


def status_prefix(method: str, body: bytes) -> bytes:
    """The first bytes of a good reply: its status, which each good reply of the method begins with.

    Raises: ValueError when this one is not good, or does not begin with its status.
    """
    reply = parse(method, body)
    if not succeeded(reply):
        raise ValueError(f"{method}: {reply.status.code} {reply.status.reason}")
    status = reply.status.SerializeToString()
    prefix = bytes([0x0A, len(status)]) + status
    if not body.startswith(prefix):
        raise ValueError(f"{method}: a reply that begins with {body[:16]!r}, not with its status")
    return prefix
