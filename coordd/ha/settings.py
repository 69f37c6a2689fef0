"""What high availability needs to know of one replica."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Settings of one replica.

    `address` is what clients connect to. `ttl_s` is the session lease's (Milvus: `common.session.ttl`),
    `registration_attempts` Milvus' `common.session.retryTimes`. With `active_standby` off the replica
    registers exclusively, as Milvus does. `drain_s` bounds how long a stopping replica finishes calls in
    flight before it gives leadership up; it is asked when that happens. `forward_grace_ms` bounds for how
    long it forwards calls after a handover.
    """

    role: str
    address: str
    active_standby: bool
    ttl_s: int
    registration_attempts: int
    heartbeat_interval_ms: int
    serve_guard_ms: int
    margin_ms: int
    forward_grace_ms: int
    drain_s: Callable[[], float]
    milvus_version: str
    switch_key: str
    """The setting that turns active-standby on, for error messages: rootCoord.enableActiveStandby."""

    @property
    def display_name(self) -> str:
        """The role as Milvus' log lines spell it: RootCoord."""
        return {"rootcoord": "RootCoord", "datacoord": "DataCoord", "querycoord": "QueryCoord"}.get(
            self.role, self.role
        )
