"""What happens to an election and what it orders: plain data, the vocabulary of `coordd.ha.election`.

Events are things that happened, instructions are orders to the driver (`coordd.ha.candidacy`). Times are
seconds on CLOCK_BOOTTIME of the replica's machine.
"""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a replica stands in the election; the value is what logs and metrics show."""

    STANDBY = "standby"
    CAMPAIGNING = "campaigning"
    ACTIVATING = "activating"
    ACTIVE = "active"
    OFFERING = "offering"
    """Active, and asking the standbys which of them is ready to inherit."""
    HANDING_OVER = "handing over"
    """Requests are held: they are answered by the heir, or here again if the handover fails."""
    RESIGNING = "resigning"
    ENDED = "ended"


class TermCause(Enum):
    """How leadership came to a replica; the value is what logs, metrics and the history show."""

    FIRST = "first"
    """Nobody had it before; the election cannot tell this from `RELEASED`, the driver's history can."""
    RELEASED = "released"
    """The previous holder gave it up after its last answer."""
    LEASE_ENDED = "lease ended"
    """The ACTIVE key went with its lease, or by an operator's hand."""
    CRASH = "crash"
    """The holder's process is gone."""
    SILENCE = "silence"
    """The holder sent no heartbeat for longer than it may answer without one."""
    HANDOVER = "handover"
    """The holder passed it on."""
    UNKNOWN = "unknown"
    """Only in the history: not said there, or a word of another version."""


class EndReason(Enum):
    """Why a session's election is over."""

    STOPPED = "stopped"
    """A stop was requested; leadership, if held, was given up first."""
    HANDED_OVER = "handed over"
    """The ACTIVE key was passed on to a standby."""
    DEPOSED = "deposed"
    """The ACTIVE key is no longer the one this replica wrote."""
    LEASE_LOST = "lease lost"
    """etcd no longer knows this session's lease, so its keys are gone."""
    ACTIVATION_FAILED = "activation failed"
    """The role could not be made ready; leadership was given up for another replica to try."""
    EXCLUSIVE_HELD = "exclusive key held by another process"
    """Active-standby is off and another process holds the role."""


class Refusal(Enum):
    """Why a handover did not come about; the value is what the operator is told."""

    NO_STANDBY = "no standby of coordd is registered"
    UNKNOWN_STANDBY = "the replica asked for is not a registered standby of coordd"
    NOT_READY = "no standby asked for said in time that it is caught up and ready; it lags or hangs"
    NOT_DRAINED = "requests under way did not end in time"
    BUSY = "another handover is under way"
    NOT_SERVING = "the active replica is not serving yet"
    FAILED = "the standby was gone, or not ready any more, when leadership was to be passed on"


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """The offer key: the replica `by` asks for an heir; `to` 0 is any standby."""

    mod_revision: int
    by: int
    to: int


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby of coordd whose session exists.

    `report_revision` is the mod_revision of its report, `offer` that of the offer which the report answers;
    0: none.
    """

    server_id: int
    report_revision: int = 0
    offer: int = 0


@dataclass(frozen=True, slots=True)
class Observed:
    """The leadership keys as of one etcd revision, by the follower's ordered watch or a range read.

    A mod_revision of 0 means that the key is absent. `holder_guard_s` is what the heartbeat's author
    published as its serve guard; None if the heartbeat does not say. `holder_server_id` is who the ACTIVE
    key's record names; None if the key is absent or unreadable. It must be filled in: by it a replica finds
    out that a campaign of its own, given up as unanswered, was carried out after all, or that it inherits.
    `holder_is_safe`: the record says that its author honours fence and serve guard; only then may it be
    replaced while its key exists. `heartbeat_settled`: the heartbeat's author says that nobody before it can
    answer any more. `standbys` are all replicas of coordd but the holder, in order of their server IDs.
    """

    now: float
    revision: int
    active_mod_revision: int
    heartbeat_mod_revision: int
    holder_guard_s: float | None = None
    holder_server_id: int | None = None
    holder_is_safe: bool = False
    heartbeat_settled: bool = False
    offer: Offer | None = None
    standbys: tuple[Standby, ...] = ()


@dataclass(frozen=True, slots=True)
class HolderGone:
    """The process that wrote the ACTIVE key at this mod_revision is gone, and nothing listens there."""

    now: float
    active_mod_revision: int


@dataclass(frozen=True, slots=True)
class ProbeCommitted:
    """etcd has just committed a write of this replica."""

    now: float


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The write of a probe was not acknowledged."""

    now: float


@dataclass(frozen=True, slots=True)
class CampaignWon:
    """The campaign transaction was committed at revision `epoch`; it also wrote a heartbeat.

    `sent_at` is the moment before the transaction was sent.
    """

    now: float
    epoch: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class CampaignLost:
    """The campaign's compare failed; the rest describes the leadership keys at that moment.

    A mod_revision of 0 means that the key was absent; `holder_server_id` is None if the record is absent or
    unreadable. A holder with our own server ID is an earlier campaign of ours whose answer was lost, or an
    inheritance.
    """

    now: float
    holder_mod_revision: int
    holder_server_id: int | None
    heartbeat_mod_revision: int


@dataclass(frozen=True, slots=True)
class CampaignFailed:
    """The campaign could not be sent, or its outcome is unknown. Campaigning again is safe either way."""

    now: float


@dataclass(frozen=True, slots=True)
class Activated:
    """The role's state is complete: it could answer every request from now on."""

    now: float


@dataclass(frozen=True, slots=True)
class ActivationFailed:
    """The role cannot be made ready in this process (the driver logged why)."""


@dataclass(frozen=True, slots=True)
class FenceLost:
    """etcd refused a transaction of this term because the ACTIVE key is no longer ours."""


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """etcd no longer knows the session's lease."""


@dataclass(frozen=True, slots=True)
class HandoverRequested:
    """An operator asks the active replica to pass leadership on; `to` 0: to any standby."""

    now: float
    to: int = 0


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The process is asked to stop."""

    now: float


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is answered any more, until `Reopen`.

    `complete`: none is in flight; otherwise time was up, and those that are left will be turned away.
    """

    now: float
    complete: bool = True


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The handover transaction was committed."""


@dataclass(frozen=True, slots=True)
class HandoverRefused:
    """The handover transaction was not committed and never will be, and the ACTIVE key is still ours."""

    now: float


@dataclass(frozen=True, slots=True)
class HandoverUnknown:
    """What became of the handover transaction is not known (the driver has waited a little)."""

    now: float


@dataclass(frozen=True, slots=True)
class Resigned:
    """The transaction that gives leadership up was committed, refused, or not possible in time."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has reached what `Election.next_deadline` asked for."""

    now: float


Event = (
    Observed
    | HolderGone
    | ProbeCommitted
    | ProbeFailed
    | CampaignWon
    | CampaignLost
    | CampaignFailed
    | Activated
    | ActivationFailed
    | FenceLost
    | LeaseLost
    | HandoverRequested
    | StopRequested
    | Drained
    | HandedOver
    | HandoverRefused
    | HandoverUnknown
    | Resigned
    | Tick
)

# --- instructions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Campaign:
    """Listen on the port, then try the campaign transaction.

    It compares the mod_revisions of the ACTIVE key (0: absent; else this is a steal) and of the heartbeat.
    """

    expected_active_revision: int
    expected_heartbeat_revision: int
    cause: TermCause


@dataclass(frozen=True, slots=True)
class Probe:
    """Write something of our own to etcd (answer `ProbeCommitted` or `ProbeFailed`)."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Listen on the port, then say in our report that we are ready for this offer."""

    offer: int


@dataclass(frozen=True, slots=True)
class Unprepare:
    """Take the readiness back in our report, then stop listening."""


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Leadership is won: start heartbeats, then make the role ready (answer `Activated`)."""

    epoch: int
    cause: TermCause


@dataclass(frozen=True, slots=True)
class Serve:
    """Open the gate: requests may be answered while the serve guard is valid."""

    epoch: int


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """Write the offer key under the fence; `to` 0: any standby may answer."""

    epoch: int
    to: int


@dataclass(frozen=True, slots=True)
class WithdrawOffer:
    """Delete the offer key under the fence."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the operator who asked for a handover that there is none."""

    reason: Refusal


@dataclass(frozen=True, slots=True)
class Drain:
    """Hold new requests, finish those in flight, then answer nothing (answer `Drained`)."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Pass the ACTIVE key on under the fence, if the heir's report is still the one of that mod_revision.

    Answer `HandedOver`, `HandoverRefused` or `HandoverUnknown`. Sending it twice is safe.
    """

    epoch: int
    heir: int
    report_revision: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """Answer requests again, the held ones first."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Resign:
    """Delete the ACTIVE and the heartbeat key under the fence (answer `Resigned`)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EndSession:
    """Shut the gate at once, end everything of this session, revoke its lease."""

    reason: EndReason


Instruction = (
    Campaign
    | Probe
    | Prepare
    | Unprepare
    | BeginTerm
    | Serve
    | MakeOffer
    | WithdrawOffer
    | Refuse
    | Drain
    | HandOver
    | Reopen
    | Resign
    | EndSession
)
