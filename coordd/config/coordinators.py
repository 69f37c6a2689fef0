"""Settings of the roles: rootCoord, dataCoord, queryCoord, and mixCoord, which runs the three in one process.

Source of truth: Milvus 2.3.5 pkg/util/paramtable/component_param.go and grpc_param.go; `<role>.address` as in
the documentation and the compose files of Milvus 2.0 to 2.2.
"""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field

from coordd.config.keys import Fallback, Key
from coordd.config.sections import MessageBytes, Port, Section

_SWITCH = Key("{role}.enableActiveStandby", aliases=("{role}.activeStandby.enabled",))


def split_address(value: str) -> tuple[str, int | None]:
    """`host`, `host:port` or `[ipv6]:port` -> (host without brackets, port or None).

    A port that is no number counts as absent: Milvus itself reads neither part.
    """
    text = value.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    return host, int(port) if port.isascii() and port.isdigit() else None


def host_of_address(value: str) -> str:
    """The host that `<role>.address` advertises; "" when it names none.

    `localhost` and the unspecified addresses name none: they were Milvus' shipped values of this key, when
    it said where to listen.
    """
    host, _port = split_address(value)
    if host.lower() in {"", "localhost"}:
        return ""
    return "" if _is_unspecified(host) else host


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _advertised(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        address = ipaddress.ip_address(value.removeprefix("[").removesuffix("]"))
    except ValueError:
        return value
    if address.is_unspecified or address.is_multicast:
        raise ValueError("must be an address that other processes can connect to")
    return f"[{address}]" if address.version == 6 else str(address)


def _size(name: str) -> Key:
    return Key("{role}.grpc." + name, fallbacks=(Fallback(f"grpc.{name}"),))


class CoordinatorSettings(Section):
    """What every role has."""

    ip: Annotated[
        str | None,
        Field(pattern=r"^[^\s/]+$"),
        AfterValidator(_advertised),
        Key("{role}.ip", fallbacks=(Fallback("{role}.address", host_of_address),)),
    ] = None
    """IP address or host name under which this replica is advertised to other processes; each replica needs
    its own. It does not say where to listen. None (blank) = the host part of `address` if that is set
    (environment: `ROOT_COORD_ADDRESS` and the like, as in Milvus' compose files; `localhost` and `0.0.0.0`
    count as not set, and a port there is not used), else the first global unicast IPv4 address of the
    machine, else 127.0.0.1.
    """
    port: Annotated[Port, Key("{role}.port")] = 0
    """TCP port of the gRPC server; 0 = any free one. Replicas on one machine need different ports. (Milvus'
    code default is 19530 for every role, its shipped file sets the defaults used here.)
    """
    enable_active_standby: Annotated[bool, _SWITCH] = False
    """Whether several replicas of this role may run: one active, the others standing by. Off, a second
    process of the role ends with an error. `activeStandby.enabled` is another spelling of the same
    switch.
    """
    server_max_recv_size: Annotated[MessageBytes, _size("serverMaxRecvSize")] = 536_870_912
    """Largest request that this role takes, bytes; falls back to `grpc.serverMaxRecvSize`."""
    server_max_send_size: Annotated[MessageBytes, _size("serverMaxSendSize")] = 536_870_912
    """Largest answer that this role gives, bytes; falls back to `grpc.serverMaxSendSize`."""
    client_max_recv_size: Annotated[MessageBytes, _size("clientMaxRecvSize")] = 268_435_456
    """Largest answer that this role takes as a client, bytes; falls back to `grpc.clientMaxRecvSize`."""
    client_max_send_size: Annotated[MessageBytes, _size("clientMaxSendSize")] = 268_435_456
    """Largest request that this role sends as a client, bytes; falls back to `grpc.clientMaxSendSize`."""


class RootCoordSettings(CoordinatorSettings):
    """Databases, collections, users, timestamps, IDs."""

    port: Annotated[Port, Key("{role}.port")] = 53100
    """TCP port of the gRPC server; 0 = any free one. Replicas on one machine need different ports."""
    dml_channel_num: Annotated[int, Field(ge=1, le=65_536), Key("rootCoord.dmlChannelNum")] = 16
    """How many channels carry the inserts and deletes of all collections. Never lowered below what stored
    collections use.
    """
    max_partition_num: Annotated[int, Field(ge=1), Key("rootCoord.maxPartitionNum", live=True)] = 4096
    """Most partitions that a collection may have."""
    max_database_num: Annotated[int, Field(ge=1), Key("rootCoord.maxDatabaseNum", live=True)] = 64
    """Most databases that may be there, the default one included, when one more is created: so in the end
    there can be one more than this, as in Milvus.
    """
    min_segment_size_to_enable_index: Annotated[
        int, Field(ge=0), Key("rootCoord.minSegmentSizeToEnableIndex", live=True)
    ] = 1024  # fmt: skip
    """Rows below which a segment gets no index; RootCoord only reports it, in GetMetrics."""
    import_max_pending_task_count: Annotated[
        int, Field(ge=1), Key("rootCoord.importMaxPendingTaskCount", live=True)
    ] = 65_535  # fmt: skip
    """Most bulk inserts that may wait for a data node; one more is refused."""
    import_task_expiration_s: Annotated[
        float, Field(gt=0), Key("rootCoord.importTaskExpiration", live=True)
    ] = 900  # fmt: skip
    """How long a bulk insert may take from the moment a data node has it until it is done, in seconds; then
    it fails.
    """
    import_task_retention_s: Annotated[
        float, Field(gt=0), Key("rootCoord.importTaskRetention", live=True)
    ] = 86_400  # fmt: skip
    """How long the record of a bulk insert is kept from its creation, if it has ended by then, in seconds."""


class DataCoordSettings(CoordinatorSettings):
    """Segments, flush, compaction, indexes."""

    port: Annotated[Port, Key("{role}.port")] = 13333
    """TCP port of the gRPC server; 0 = any free one. Replicas on one machine need different ports."""


class QueryCoordSettings(CoordinatorSettings):
    """Loading and balancing of collections on query nodes."""

    port: Annotated[Port, Key("{role}.port")] = 19531
    """TCP port of the gRPC server; 0 = any free one. Replicas on one machine need different ports."""


class MixCoordSettings(Section):
    """A process that runs the three roles."""

    enable_active_standby: Annotated[bool | None, _SWITCH] = None
    """The switch of all three roles when they run in one process (key of Milvus 2.6); None (blank) = each
    role's own switch counts. `activeStandby.enabled` is another spelling of the same switch.
    """
