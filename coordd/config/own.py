"""coordd's own settings, the section `coordd:` of milvus.yaml (Milvus ignores it).

The failover timers are validated together: an active replica may serve until `serveGuard` after it sent its
last acknowledged heartbeat, and a standby that has seen no heartbeat for `serveGuard + margin` may take over.
That is safe only while the margin covers what the two clocks can drift apart in that time.
"""

from typing import Annotated

from pydantic import Field, model_validator

from coordd.config.keys import Key
from coordd.config.sections import Port, Section

HEARTBEATS_PER_GUARD = 3
"""The guard must outlast this many heartbeat intervals: one heartbeat may be lost and the next be a whole
interval under way, and the replica still does not stop serving."""


class FailoverSettings(Section):
    """Timers of leadership. All replicas of a role must have the same values."""

    heartbeat_interval_ms: Annotated[
        int, Field(ge=10, le=60_000), Key("coordd.failover.heartbeatInterval")
    ] = 500  # fmt: skip
    """How often the active replica rewrites its heartbeat key in etcd, milliseconds. Each is one small etcd
    commit, so much less would load etcd.
    """
    serve_guard_ms: Annotated[int, Field(ge=30, le=600_000), Key("coordd.failover.serveGuard")] = 2000
    """How long after sending its last acknowledged heartbeat the active replica may still answer,
    milliseconds. Long enough for an etcd leader change (about 1 s) to pass unnoticed.
    """
    margin_ms: Annotated[int, Field(ge=10, le=600_000), Key("coordd.failover.margin")] = 500
    """What a standby waits beyond `serveGuard` before it takes a silent replica's place, milliseconds. It
    covers clock drift and an answer that is just leaving.
    """
    clock_rate_error: Annotated[float, Field(ge=0, le=0.1), Key("coordd.failover.clockRateError")] = 0.001
    """Most that the clocks of two machines may differ in rate; no unit (0.001 = 1 ms per second). Crystals
    keep to 0.0001, and a time daemon slews by 0.0005 at most.
    """

    crash_detection: Annotated[bool, Key("coordd.failover.crashDetection")] = True
    """Whether a standby takes over at once when the active replica's process is gone: on the same machine it
    watches the process itself, elsewhere a connection to it. Switch it off where something between the
    machines may refuse connections in the name of a process that lives; then only silence counts.
    """
    forward_grace_ms: Annotated[int, Field(ge=0, le=600_000), Key("coordd.failover.forwardGrace")] = 5000
    """For how long a replica that has handed leadership over forwards calls that still come to it, at most,
    milliseconds. It ends sooner when none has come for a second. A process that is asked to stop lives on for
    as long.
    """

    @model_validator(mode="after")
    def _safe_and_live(self) -> "FailoverSettings":
        heartbeat, guard, margin = self.heartbeat_interval_ms, self.serve_guard_ms, self.margin_ms
        least = HEARTBEATS_PER_GUARD * heartbeat
        drift = self.clock_rate_error * (guard + margin)
        wrong: list[str] = []
        if guard < least:
            wrong.append(
                f"coordd.failover.serveGuard must be at least {HEARTBEATS_PER_GUARD} x"
                f" coordd.failover.heartbeatInterval, but {guard} ms <"
                f" {HEARTBEATS_PER_GUARD} x {heartbeat} ms = {least} ms"
            )
        if margin < drift:
            wrong.append(
                "coordd.failover.margin must be at least coordd.failover.clockRateError x"
                f" (coordd.failover.serveGuard + coordd.failover.margin), but {margin} ms <"
                f" {self.clock_rate_error:g} x ({guard} ms + {margin} ms) = {drift:g} ms"
            )
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class RpcSettings(Section):
    """The gRPC server of a role."""

    listen_host: Annotated[str, Key("coordd.rpc.listenHost")] = ""
    """Address that the gRPC port is bound to; "" = all interfaces, as Milvus does."""
    max_concurrent_rpcs: Annotated[int, Field(ge=1, le=1_000_000), Key("coordd.rpc.maxConcurrentRpcs")] = (
        10_240
    )
    """Most requests under way at once, held ones included; more are refused at once (RESOURCE_EXHAUSTED).
    The length of Milvus' own task queue.
    """


class ManagementSettings(Section):
    """The HTTP port for health checks, metrics and the log level."""

    listen_host: Annotated[str, Key("coordd.management.listenHost")] = ""
    """Address that the management port is bound to; "" = all interfaces, as Milvus does."""
    port: Annotated[Port, Key("coordd.management.port", env=("METRICS_PORT",))] = 9091
    """TCP port of the management server; 0 = any free one. Replicas on one machine need different ports.
    Also set by the environment variable `METRICS_PORT`, as in Milvus.
    """
    allow_remote_changes: Annotated[bool, Key("coordd.management.allowRemoteChanges")] = False
    """Whether other machines may change something through the port (the log level). The port asks for no
    password, so by default only this machine may.
    """


class WatchdogSettings(Section):
    """The parent process of `coordd run`, which kills and restarts a replica that hangs."""

    enabled: Annotated[bool, Key("coordd.watchdog.enabled")] = True
    """Whether a replica that hangs is killed. Off, the parent process only forwards signals and the exit
    code; `coordd run --no-watchdog`, or this in the environment (COORDD_WATCHDOG_ENABLED=false), makes do
    without it.
    """
    timeout_ms: Annotated[int, Field(ge=200, le=600_000), Key("coordd.watchdog.timeout")] = 1000
    """How long the replica's event loop may give no sign of life before it is killed, milliseconds. Time
    that it waits for a processor does not count.
    """


class CoorddSettings(Section):
    """Settings that Milvus does not have."""

    failover: FailoverSettings = FailoverSettings()
    """Timers of leadership."""
    rpc: RpcSettings = RpcSettings()
    """The gRPC server of a role."""
    management: ManagementSettings = ManagementSettings()
    """The HTTP port for health checks, metrics and the log level."""
    watchdog: WatchdogSettings = WatchdogSettings()
    """The parent process of `coordd run`, which kills and restarts a replica that hangs."""
