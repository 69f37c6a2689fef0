"""What the management port reads of a replica: plain values, at the moment of asking, without waiting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from coordd.ha.election_events import State
from coordd.ha.history import TermLog
from coordd.ha.replica import Replica

REGISTERING = "registering"
STATES = (REGISTERING, *(state.value for state in State))
"""All values of `ReplicaView.state`."""


class ReplicaView(Protocol):
    """One replica, as seen from outside."""

    @property
    def role(self) -> str:
        """`rootcoord`, `datacoord` or `querycoord`."""

    @property
    def server_id(self) -> int:
        """Own server id; -1 before registration."""

    @property
    def state(self) -> str:
        """One of `STATES`."""

    @property
    def state_code(self) -> int:
        """`common.StateCode`, as GetComponentStates answers it."""

    @property
    def epoch(self) -> int:
        """The term led; 0 outside one."""

    @property
    def serving(self) -> bool:
        """ACTIVE, and the serve guard has not passed."""

    @property
    def following(self) -> bool:
        """The tables are loaded and the watch delivers: ready to take over."""

    @property
    def guard_remaining_s(self) -> float:
        """How long answers may leave without another heartbeat; 0 outside a term."""

    @property
    def followed_revision(self) -> int:
        """The etcd revision that the tables contain in full; 0 before the first load."""

    @property
    def revision_lag(self) -> int | None:
        """How many revisions etcd is known to be ahead of the tables; None before the first load.

        An upper bound: revisions of keys outside the followed range count until the next event inside it,
        such as the active replica's heartbeat.
        """

    @property
    def quarantined_keys(self) -> int:
        """Keys whose value does not decode and is not served."""

    @property
    def quarantined_total(self) -> int:
        """How many values were ever quarantined."""

    @property
    def takeover_phases_s(self) -> Mapping[str, float]:
        """Seconds that each phase of the latest take-over took; empty if there was none."""

    @property
    def term_log(self) -> TermLog:
        """The terms of this process so far, counted."""


@dataclass(frozen=True, slots=True)
class HaReplicaView:
    """`ReplicaView` of a `coordd.ha` replica."""

    replica: Replica

    @property
    def role(self) -> str:
        return self.replica.gate.role

    @property
    def server_id(self) -> int:
        return self.replica.gate.server_id

    @property
    def state(self) -> str:
        return self.replica.state

    @property
    def state_code(self) -> int:
        return self.replica.gate.state_code

    @property
    def epoch(self) -> int:
        return self.replica.gate.epoch

    @property
    def serving(self) -> bool:
        return self.replica.gate.serving()

    @property
    def following(self) -> bool:
        return self.replica.follower.synced

    @property
    def guard_remaining_s(self) -> float:
        return self.replica.gate.guard_remaining_s()

    @property
    def followed_revision(self) -> int:
        return self.replica.follower.revision

    @property
    def revision_lag(self) -> int | None:
        followed = self.replica.follower.revision
        return max(0, self.replica.client.known_revision - followed) if followed else None

    @property
    def quarantined_keys(self) -> int:
        return len(self.replica.fold.quarantine)

    @property
    def quarantined_total(self) -> int:
        return self.replica.fold.quarantine.total

    @property
    def takeover_phases_s(self) -> Mapping[str, float]:
        return self.replica.phases.durations_s()

    @property
    def term_log(self) -> TermLog:
        return self.replica.term_log
