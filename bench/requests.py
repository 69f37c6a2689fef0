"""The calls that are measured, by name, and what a good reply looks like."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from bench.schema import user_fields
from bench.wire import Call
from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2, schema_pb2

SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
COLLECTION = "all_types"
PARTITION = "one"


def _base(kind: str) -> common_pb2.MsgBase:
    return common_pb2.MsgBase(msg_type=common_pb2.MsgType.Value(kind))


def measured() -> dict[str, Message]:
    """Method -> request, in the order of the table."""
    return {
        "AllocTimestamp": root_coord_pb2.AllocTimestampRequest(base=_base("RequestTSO"), count=1),
        "AllocID": root_coord_pb2.AllocIDRequest(base=_base("RequestID"), count=1),
        "DescribeCollection": _describe(COLLECTION),
        "ShowCollections": milvus_pb2.ShowCollectionsRequest(base=_base("ShowCollections")),
        "ListDatabases": milvus_pb2.ListDatabasesRequest(base=_base("ListDatabases")),
    }


def about(method: str, collection: str) -> Message:
    """The request of a method about one collection; the one of ``measured`` if it is about none."""
    match method:
        case "CreateCollection":
            schema = schema_pb2.CollectionSchema(name=collection, fields=user_fields())
            return milvus_pb2.CreateCollectionRequest(
                base=_base(method),
                collection_name=collection,
                schema=schema.SerializeToString(),
                shards_num=1,
                consistency_level=common_pb2.ConsistencyLevel.Value("Bounded"),
            )
        case "DropCollection":
            return milvus_pb2.DropCollectionRequest(base=_base(method), collection_name=collection)
        case "CreatePartition":
            return milvus_pb2.CreatePartitionRequest(
                base=_base(method), collection_name=collection, partition_name=PARTITION
            )
        case "DescribeCollection":
            return _describe(collection)
        case _:
            return measured()[method]


def _describe(collection: str) -> Message:
    return milvus_pb2.DescribeCollectionRequest(base=_base("DescribeCollection"), collection_name=collection)


def call_of(method: str, server_id: int = 0, *, timeout: str = "10S", request: Message | None = None) -> Call:
    """The call of a method with the headers of Milvus' clients; without a server ID any server takes it.

    ``request``: by default the one of ``measured``.
    """
    if request is None:
        request = {**measured(), "GetComponentStates": milvus_pb2.GetComponentStatesRequest()}[method]
    metadata = [("cluster", "by-dev")]
    if server_id:
        metadata.append(("serverid", str(server_id)))
    return Call(f"/{SERVICE.full_name}/{method}", request.SerializeToString(), tuple(metadata), timeout)


def parse(method: str, body: bytes) -> Any:
    """The reply's message."""
    return GetMessageClass(SERVICE.methods_by_name[method].output_type).FromString(body)


def succeeded(reply: Any) -> bool:
    """Tell whether Milvus' status inside a reply, or which a reply is, is success."""
    status = status_of(reply)
    return status.code == 0 and status.error_code == 0


def status_of(reply: Any) -> common_pb2.Status:
    """The status inside a reply, or which a reply is."""
    status: common_pb2.Status = reply if isinstance(reply, common_pb2.Status) else reply.status
    return status


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
