"""The JSON of GetMetrics `system_info`, as Milvus' tools parse it.

Source of truth: Milvus 2.3.5 internal/rootcoord/metrics_requests.go, pkg/util/metricsinfo; a recorded reply.
"""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from coordd import clock
from coordd.rootcoord.hardware import DISK_BYTES, DISK_USED_BYTES, Hardware, read_hardware
from coordd.rpc.status import MetricNotFound, MilvusError

SYSTEM_INFO = "system_info"
KEEP_S = 5.0
"""How long an answer is given again; Milvus' metrics cache retention."""

DEPLOY_MODE_VARIABLE = "DEPLOY_MODE"


@dataclass(frozen=True, slots=True)
class Component:
    """Who answers. `address`: `ip:port`; `started_ns`: Unix nanoseconds."""

    role: str
    server_id: int
    address: str
    version: str
    milvus_version: str
    started_ns: int
    min_segment_size_to_enable_index: int

    @property
    def name(self) -> str:
        """`rootcoord12`."""
        return f"{self.role}{self.server_id}"


class SystemInfo:
    """Answers `system_info`, at most one reading of the machine each `KEEP_S` seconds."""

    def __init__(self, read: Callable[[], Hardware] = read_hardware) -> None:
        self._read = read
        self._answer = ""
        self._answered_for: Component | None = None
        self._answered_at = 0.0

    def json(self, component: Component) -> str:
        """The answer's text; the same one again while it is fresh."""
        now = clock.boottime()
        if component != self._answered_for or now - self._answered_at >= KEEP_S:
            self._answer = _render(component, self._read(), clock.unix_ns())
            self._answered_for, self._answered_at = component, now
        return self._answer


def check_metric_type(request: str) -> None:
    """Read `{"metric_type": ...}`; only `system_info` is known here.

    Raises:
        MilvusError: not such JSON, or another type.
    """
    try:
        fields = json.loads(request)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(request.rstrip())
        reason = (
            "unexpected end of JSON input" if ended else f"invalid JSON at offset {error.pos}: {error.msg}"
        )
        raise MilvusError(f"failed to decode the request: {reason}") from error
    if not isinstance(fields, dict):
        raise MilvusError(f"failed to decode the request: not a JSON object but {type(fields).__name__}")
    if "metric_type" not in fields:
        raise MilvusError("metric_type not found in request")
    if fields["metric_type"] != SYSTEM_INFO:
        raise MetricNotFound(metric=fields["metric_type"])


def go_time(unix_ns: int) -> str:
    """A time as Go prints it: `2026-11-23 18:22:35.862964579 +0000 UTC`, without trailing zeros."""
    seconds, ns = divmod(unix_ns, 1_000_000_000)
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def _render(component: Component, hardware: Hardware, now_ns: int) -> str:
    info = {
        "self": {
            "has_error": False,
            "error_reason": "",
            "name": component.name,
            "hardware_infos": {
                "ip": component.address,
                "cpu_core_count": hardware.cpu_count,
                "cpu_core_usage": hardware.cpu_usage,
                "memory": hardware.memory,
                "memory_usage": hardware.memory_used,
                "disk": DISK_BYTES,
                "disk_usage": DISK_USED_BYTES,
            },
            "system_info": {
                "system_version": component.version,
                "deploy_mode": os.environ.get(DEPLOY_MODE_VARIABLE, "DISTRIBUTED"),
                "build_version": f"v{component.milvus_version}",
                "build_time": "",
                "used_go_version": f"python {platform.python_version()}",
            },
            "created_time": go_time(component.started_ns),
            "updated_time": go_time(now_ns),
            "type": component.role,
            "id": component.server_id,
            "system_configurations": {
                "min_segment_size_to_enable_index": component.min_segment_size_to_enable_index
            },
        },
        "connections": {"name": component.name, "connected_components": []},
    }
    return json.dumps(info, separators=(",", ":"))
