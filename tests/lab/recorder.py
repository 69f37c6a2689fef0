"""Calls every read RPC of RootCoord over a matrix of requests and keeps the replies as plain data.

``gather`` asks a running RootCoord what there is, ``tests.lab.probes`` makes the list of requests from it,
and ``record`` sends that list to any RootCoord. Two recordings compare with ``tests.lab.compare``. Direct
gRPC, no proxy between.

A reply is kept as ``{"reply": {...}}`` (protobuf JSON names as in the .proto files, default values left
out), with ``"unknown": true`` if it carried fields that the .proto files lack, or as
``{"grpc": CODE, "details": TEXT}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2
from tests.lab.wire import SERVICES, Stub

REPLY_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Probe:
    """One request. ``name`` is stable between runs, the request holds this run's ids."""

    name: str
    method: str
    request: Message
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a RootCoord holds, by "database/collection" (descriptions; ``dropped``: by the Internal call)."""

    databases: tuple[str, ...]
    collections: dict[str, Any]
    dropped: dict[str, Any]
    now: int
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


def base(kind: str) -> common_pb2.MsgBase:
    """Message base with a type, as Milvus' own clients send it."""
    return common_pb2.MsgBase(msg_type=common_pb2.MsgType.Value(kind))


def open_rootcoord(address: str) -> Stub:
    """Stub for a RootCoord address."""
    return Stub(SERVICES["rootcoord"], address)


def gather(stub: Stub, dropped: dict[str, int] | None = None) -> Facts:
    """Ask a healthy RootCoord for everything the matrix needs."""
    databases = stub.call("ListDatabases", milvus_pb2.ListDatabasesRequest(base=base("ListDatabases")))
    collections: dict[str, Any] = {}
    for db in databases.db_names:
        shown = stub.call(
            "ShowCollections", milvus_pb2.ShowCollectionsRequest(base=base("ShowCollections"), db_name=db)
        )
        for name in shown.collection_names:
            key = f"{db}/{name}"
            collections[key] = stub.call(
                "DescribeCollection",
                milvus_pb2.DescribeCollectionRequest(
                    base=base("DescribeCollection"), db_name=db, collection_name=name
                ),
            )
    stamp = stub.call("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1))
    users = stub.call("ListCredUsers", milvus_pb2.ListCredUsersRequest(base=base("ListCredUsernames")))
    roles = stub.call("SelectRole", milvus_pb2.SelectRoleRequest(base=base("SelectRole")))
    return Facts(
        databases=tuple(sorted(databases.db_names)),
        collections=dict(sorted(collections.items())),
        dropped={key: _describe_dropped(stub, id_) for key, id_ in (dropped or {}).items()},
        now=stamp.timestamp,
        users=tuple(sorted(users.usernames)),
        roles=tuple(sorted(r.role.name for r in roles.results)),
    )


def _describe_dropped(stub: Stub, collection_id: int) -> Any:
    request = milvus_pb2.DescribeCollectionRequest(
        base=base("DescribeCollection"), collectionID=collection_id
    )
    return stub.call("DescribeCollectionInternal", request)


def has_unknown_fields(message: Message) -> bool:
    """Tell whether a message, or one inside it, carries fields its .proto file does not know."""
    if len(UnknownFieldSet(message)):
        return True
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        inner = value if descriptor.is_repeated else [value]
        if any(has_unknown_fields(item) for item in inner):
            return True
    return False


def send(stub: Stub, probe: Probe) -> dict[str, Any]:
    """Send one probe; never raises for what the server answers."""
    try:
        reply = stub.call(probe.method, probe.request, timeout_s=REPLY_TIMEOUT_S, metadata=probe.metadata)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call):
            raise
        return {"grpc": error.code().name, "details": error.details()}
    kept: dict[str, Any] = {"reply": json_format.MessageToDict(reply, preserving_proto_field_name=True)}
    if has_unknown_fields(reply):
        kept["unknown"] = True
    return kept


def record(stub: Stub, probes: Sequence[Probe]) -> dict[str, dict[str, Any]]:
    """Send all probes in order: probe name -> reply."""
    return {probe.name: send(stub, probe) for probe in probes}
