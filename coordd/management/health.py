"""Health answers as pure functions of what the replicas say.

`/healthz` is Milvus' (2.3.5 internal/http/healthz/healthz_handler.go), words and codes included; the others
are for load balancers and orchestrators: `/readyz`, `/leader`, `/standby`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordd.management.view import ReplicaView
from coordd.pb.common_pb2 import StateCode

OK = "OK"
_STATE_NAMES = {value.number: value.name for value in StateCode.DESCRIPTOR.values}
_WELL = (StateCode.Healthy, StateCode.StandBy)

HTTP_OK = 200
HTTP_FAILED = 500
HTTP_NOT_NOW = 503


@dataclass(frozen=True, slots=True)
class Health:
    """Milvus' health of a process: `state` is `OK` or names the last component that is not well."""

    state: str
    components: tuple[tuple[str, int], ...]

    @property
    def http_status(self) -> int:
        return HTTP_OK if self.state == OK else HTTP_FAILED

    def json(self) -> str:
        """Milvus' JSON; `code` is the number of the `common.StateCode`."""
        detail = [{"name": name, "code": code} for name, code in self.components]
        return json.dumps({"state": self.state, "detail": detail}, separators=(",", ":"))


def health(replicas: Sequence[ReplicaView]) -> Health:
    """Well is Healthy or StandBy; a serve guard that has passed makes no replica ill."""
    state = OK
    for replica in replicas:
        if replica.state_code not in _WELL:
            name = _STATE_NAMES.get(replica.state_code, str(replica.state_code))
            state = f"component {replica.role} state is {name}"
    return Health(state, tuple((replica.role, replica.state_code) for replica in replicas))


def is_leader(replica: ReplicaView) -> bool:
    """ACTIVE, and allowed to answer right now."""
    return replica.serving


def is_standby(replica: ReplicaView) -> bool:
    """Standing by with warm tables."""
    return replica.state_code == StateCode.StandBy and replica.following


def is_ready(replica: ReplicaView) -> bool:
    """Does its part: leads, or could take over at once."""
    return is_leader(replica) or is_standby(replica)


def verdict(replicas: Sequence[ReplicaView], test: Callable[[ReplicaView], bool]) -> tuple[int, str]:
    """HTTP status and a line per replica; 200 only if every one passes `test`."""
    passed = bool(replicas) and all(test(replica) for replica in replicas)
    lines = [f"{replica.role} {replica.server_id} is {replica.state}\n" for replica in replicas]
    return HTTP_OK if passed else HTTP_NOT_NOW, "".join(lines)
