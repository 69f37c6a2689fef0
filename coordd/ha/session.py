"""The session record: the leased JSON value that announces a replica, as Milvus writes and reads it.

coordd adds one object, `Coordd`, which says that this replica honours the fence and the serve guard; Milvus'
readers ignore fields they do not know. Records of Milvus 2.2.3 to 2.5 parse.

Source: Milvus 2.3.5 internal/util/sessionutil/session_util.go (type Session).
"""

import json
import os
import socket
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import psutil

from coordd.clock import unix_ms
from coordd.errors import CoorddError
from coordd.ha.procfs import boot_id, pid_namespace, start_ticks

T = TypeVar("T")

BARRED_FIELD = "CoorddBarred"
"""In the record of a proxy: it could not be told of a change (`coordd.rootcoord.proxies.bar_record`)."""


class SessionRecordError(CoorddError):
    """The value of a session key is not a session record."""


@dataclass(frozen=True, slots=True)
class LocalIdentity:
    """Where this process runs, to be compared with where a record's author runs. "" = unknown."""

    host_name: str
    boot_id: str
    pid_namespace: str

    @classmethod
    def of_this_process(cls) -> Self:
        """The identity of the running process."""
        return cls(host_name=host_name(), boot_id=boot_id(), pid_namespace=pid_namespace())


@dataclass(frozen=True, slots=True)
class Safety:
    """What a coordd replica promises about itself.

    `serve_guard_ms`: it answers nothing later than this after sending its last acknowledged heartbeat.
    `since_ms` is the wall clock (Unix ms) when the key was written: for people, not for decisions.
    `boot_id`, `pid_namespace` and `pid` name the process to observers on the same machine, and `start_ticks`
    (clock ticks from boot to its start, 0 = unknown) tells it from a later one with the same pid.
    """

    serve_guard_ms: int
    since_ms: int = 0
    boot_id: str = ""
    pid_namespace: str = ""
    pid: int = 0
    start_ticks: int = 0

    @classmethod
    def of_this_process(cls, serve_guard_ms: int) -> Self:
        """The promise of the running process."""
        pid = os.getpid()
        return cls(
            serve_guard_ms=serve_guard_ms,
            since_ms=unix_ms(),
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            pid=pid,
            start_ticks=start_ticks(pid),
        )


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One session. `server_id` is unique in the cluster and never used again.

    `barred`: of a proxy, that RootCoord gives it no timestamps.
    """

    server_id: int
    server_name: str
    address: str
    version: str
    lease_id: int = 0
    exclusive: bool = True
    stopping: bool = False
    trigger_kill: bool = True
    host_name: str = ""
    enable_disk: bool = False
    safety: Safety | None = None
    barred: bool = False

    def with_lease(self, lease_id: int) -> Self:
        """The same record on a lease."""
        return replace(self, lease_id=lease_id)

    def written_now(self) -> Self:
        """The same record, with the present moment as the one it is written at."""
        if self.safety is None:
            return self
        return replace(self, safety=replace(self.safety, since_ms=unix_ms()))

    def to_json(self) -> bytes:
        """The value as Milvus marshals it: its field order, empty optional fields left out."""
        record: dict[str, Any] = {}
        if self.server_id:
            record["ServerID"] = self.server_id
        record["ServerName"] = self.server_name
        record["Address"] = self.address
        if self.exclusive:
            record["Exclusive"] = True
        if self.stopping:
            record["Stopping"] = True
        record["TriggerKill"] = self.trigger_kill
        record["Version"] = self.version
        record["IndexEngineVersion"] = {}
        if self.lease_id:
            record["LeaseID"] = self.lease_id
        record["HostName"] = self.host_name
        if self.enable_disk:
            record["EnableDisk"] = True
        if self.barred:
            record[BARRED_FIELD] = True
        if self.safety is not None:
            record["Coordd"] = {
                "ServeGuardMs": self.safety.serve_guard_ms,
                "SinceMs": self.safety.since_ms,
                "BootID": self.safety.boot_id,
                "PidNamespace": self.safety.pid_namespace,
                "Pid": self.safety.pid,
                "StartTicks": self.safety.start_ticks,
            }
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, value: bytes) -> Self:
        """Parse a record; unknown fields are ignored.

        Raises:
            SessionRecordError: not JSON, not an object, or a field of the wrong type.
        """
        try:
            fields = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise SessionRecordError(f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise SessionRecordError(f"not a JSON object but {type(fields).__name__}")
        return cls(
            server_id=_field(fields, "ServerID", int, default=0),
            server_name=_field(fields, "ServerName", str, default=""),
            address=_field(fields, "Address", str, default=""),
            version=_field(fields, "Version", str, default=""),
            lease_id=_field(fields, "LeaseID", int, default=0),
            exclusive=_field(fields, "Exclusive", bool, default=False),
            stopping=_field(fields, "Stopping", bool, default=False),
            trigger_kill=_field(fields, "TriggerKill", bool, default=False),
            host_name=_field(fields, "HostName", str, default=""),
            enable_disk=_field(fields, "EnableDisk", bool, default=False),
            safety=_safety(fields.get("Coordd")),
            barred=fields.get(BARRED_FIELD) is True,
        )


def advertised_address(ip: str | None, port: int) -> str:
    """`ip:port` as the record carries it; without an `ip` the machine's first global unicast IPv4 address.

    Milvus falls back to 127.0.0.1 when the machine has none, and so does this.
    """
    return f"{ip or _first_global_ipv4()}:{port}"


def host_name() -> str:
    """What Milvus writes as HostName."""
    return socket.gethostname()


def _first_global_ipv4() -> str:
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family is socket.AF_INET and not address.address.startswith(("127.", "169.254.")):
                return address.address
    return "127.0.0.1"


def _safety(value: object) -> Safety | None:
    if not isinstance(value, dict):
        return None
    return Safety(
        serve_guard_ms=_field(value, "ServeGuardMs", int, default=0),
        since_ms=_field(value, "SinceMs", int, default=0),
        boot_id=_field(value, "BootID", str, default=""),
        pid_namespace=_field(value, "PidNamespace", str, default=""),
        pid=_field(value, "Pid", int, default=0),
        start_ticks=_field(value, "StartTicks", int, default=0),
    )


def _field(fields: dict[str, Any], name: str, kind: type[T], *, default: T) -> T:
    value = fields.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SessionRecordError(f"{name} is {value!r}, not {kind.__name__}")
    return value
