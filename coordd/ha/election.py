"""The election of one replica, for the life of one session: a pure state machine.

Events are things that happened, instructions are orders to the driver (`coordd.ha.replica`). The machine
does no I/O and reads no clock: every time is passed in (seconds, CLOCK_BOOTTIME), so the same code runs
under simulated clocks (tests/simulation).

    STANDBY --free--> CAMPAIGNING --won--> ACTIVATING --settled, activated--> ACTIVE --stop--> RESIGNING
       ^                   |                    |                               |                 |
       +------ lost -------+                    +----- lease or epoch lost -----+---> ENDED <-----+

What keeps two replicas from serving at once:

* A replica campaigns only after it has observed, in etcd's own event order, that the ACTIVE key is gone, and
  only with a transaction that compares the key's absence. The revision of that transaction is its *epoch*;
  every later write of the term compares `mod_revision(ACTIVE) == epoch` (the fence).
* The winner serves once the previous holder's serve guard has run out: at once if the heartbeat key is gone
  (the holder gave leadership up after its last answer), else `last heartbeat received + guard + margin`.
  A heartbeat is fenced, so none can be committed after the ACTIVE key went, and all earlier ones were
  observed before its DELETE. What counts is the heartbeat that the campaign compared, not one seen later.
* Until then the winner is not *settled*, and the promise it took over is still running: its own heartbeats
  publish the longer of both guards, and it leaves the heartbeat key behind if it ends.
* The term ends at the first sign that the epoch is lost: a refused fence, an ACTIVE key with another
  mod_revision, a lost lease.

What it does not promise: that leadership is *held* at any moment (only the fence proves that, per write), and
anything about a Milvus coordinator as the other half of a pair, which knows neither fence nor guard.

Order of events is free: an event that arrives late (an answer to something already abandoned) changes
nothing. An event that no order of arrival can explain raises `IllegalEvent` and changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """Where a replica stands in the election; the value is what logs and metrics show."""

    STANDBY = "standby"
    CAMPAIGNING = "campaigning"
    ACTIVATING = "activating"
    ACTIVE = "active"
    RESIGNING = "resigning"
    ENDED = "ended"


class EndReason(Enum):
    """Why a session's election is over."""

    STOPPED = "stopped"
    """A stop was requested; leadership, if held, was given up first."""
    DEPOSED = "deposed"
    """The ACTIVE key is no longer the one this replica wrote."""
    LEASE_LOST = "lease lost"
    """etcd no longer knows this session's lease, so its keys are gone."""
    ACTIVATION_FAILED = "activation failed"
    """The role could not be made ready; leadership was given up for another replica to try."""
    EXCLUSIVE_HELD = "exclusive key held by another process"
    """Active-standby is off and another process holds the role."""


# --- events -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Observed:
    """The leadership keys as of one etcd revision, by the follower's ordered watch or a range read.

    A mod_revision of 0 means that the key is absent. `holder_guard_s` is what the heartbeat's author
    published as its serve guard; None if the heartbeat does not say. `holder_server_id` is who the ACTIVE
    key's record names; None if the key is absent or unreadable. It must be filled in: by it a replica finds
    out that a campaign of its own, given up as unanswered, was carried out after all.
    """

    now: float
    revision: int
    active_mod_revision: int
    heartbeat_mod_revision: int
    holder_guard_s: float | None = None
    holder_server_id: int | None = None


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
    unreadable. A holder with our own server ID is an earlier campaign of ours whose answer was lost.
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
class StopRequested:
    """The process is asked to stop."""


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is in flight any more, and none will be answered."""


@dataclass(frozen=True, slots=True)
class Resigned:
    """The transaction that gives leadership up was committed, refused, or not possible in time."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has reached what `Election.next_deadline` asked for."""

    now: float


Event = (
    Observed
    | CampaignWon
    | CampaignLost
    | CampaignFailed
    | Activated
    | ActivationFailed
    | FenceLost
    | LeaseLost
    | StopRequested
    | Drained
    | Resigned
    | Tick
)

# --- instructions -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Campaign:
    """Listen on the port, then try the campaign transaction."""

    expected_heartbeat_revision: int


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Leadership is won: start heartbeats, then make the role ready (answer `Activated`)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Serve:
    """Open the gate: requests may be answered while the serve guard is valid."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new request, finish those in flight (answer `Drained`)."""


@dataclass(frozen=True, slots=True)
class Resign:
    """Delete the ACTIVE and the heartbeat key under the fence (answer `Resigned`)."""

    epoch: int


@dataclass(frozen=True, slots=True)
class EndSession:
    """Shut the gate at once, end everything of this session, revoke its lease."""

    reason: EndReason


Instruction = Campaign | BeginTerm | Serve | Drain | Resign | EndSession


class IllegalEvent(Exception):
    """An event that cannot happen in this state: a bug in the driver. The machine is unchanged."""


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Times of one replica's election.

    `server_id` is this session's; `serve_guard_s` and `margin_s` bound how long a previous holder may answer
    after its last heartbeat was received (see `coordd.config` for their validation); `retry_s` is the pause
    after a campaign that could not be carried out (Milvus: 100 ms). With `exclusive` (active-standby off) a
    lost campaign is repeated `exclusive_attempts` times, with pauses that double from 0.2 s up to 3 s, as
    Milvus registers; then the election ends.
    """

    server_id: int
    serve_guard_s: float
    margin_s: float
    retry_s: float = 0.1
    exclusive: bool = False
    exclusive_attempts: int = 30


EXCLUSIVE_BACKOFF_FIRST_S = 0.2
EXCLUSIVE_BACKOFF_MAX_S = 3.0


@dataclass(slots=True)
class Election:
    """See the module's docstring. `handle` is the only way in."""

    settings: ElectionSettings
    state: State = State.STANDBY
    epoch: int = 0
    """The current term's epoch; 0 while no campaign was won."""
    serve_after: float = 0.0
    """When the previous holder's guard has run out, known from the moment a campaign is ordered."""
    _predecessor_guard_s: float = 0.0
    _settled: bool = False
    _drained_once: bool = False
    _activated: bool = False
    _stop_reason: EndReason = EndReason.STOPPED
    _campaign_at: float | None = None
    _campaign_from_revision: int = 0
    _expected_heartbeat_revision: int = 0
    _refused_heartbeat_revision: int | None = None
    _exclusive_losses: int = 0
    _view: Observed | None = None
    _heartbeat_received_at: float = 0.0
    _handlers: dict[type, Callable[..., Sequence[Instruction]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._handlers = {
            Observed: self._observed,
            CampaignWon: self._campaign_won,
            CampaignLost: self._campaign_lost,
            CampaignFailed: self._campaign_failed,
            Activated: self._activation_done,
            ActivationFailed: self._activation_failed,
            FenceLost: self._fence_lost,
            LeaseLost: self._lease_lost,
            StopRequested: self._stop_requested,
            Drained: self._drained,
            Resigned: self._resigned,
            Tick: self._tick,
        }

    def handle(self, event: Event) -> Sequence[Instruction]:
        """Take one event, return the orders that follow from it, in order.

        Raises:
            IllegalEvent: the event cannot happen in this state; nothing changed.
        """
        if self.state is State.ENDED:
            return ()
        if type(event) not in _EXPECTED[self.state]:
            raise IllegalEvent(f"{event} in state {self.state.value}")
        return self._handlers[type(event)](event)

    @property
    def published_guard_s(self) -> float:
        """The serve guard that this replica's heartbeats, the campaign's included, must carry at this moment.

        Its own; while it is not settled the previous holder's if that is longer, for whoever succeeds it then
        sees no heartbeat but this one.
        """
        own = self.settings.serve_guard_s
        return own if self._settled else max(own, self._predecessor_guard_s)

    def next_deadline(self) -> float | None:
        """When the machine wants its next `Tick`; None if only an event can move it."""
        if self.state is State.STANDBY:
            return self._campaign_at
        if self.state is State.ACTIVATING and self._activated:
            return self.serve_after
        return None

    def check_invariants(self) -> None:
        """Raise AssertionError if the machine contradicts itself; for tests."""
        leading = self.state in (State.ACTIVATING, State.ACTIVE, State.RESIGNING)
        broken = {
            "leading without an epoch": leading and self.epoch <= 0,
            "an epoch without a term": self.epoch > 0 and self.state in (State.STANDBY, State.CAMPAIGNING),
            "serving before activation": self.state is State.ACTIVE and not self._activated,
            "serving or releasing within the previous holder's guard": not self._settled
            and self.state in (State.ACTIVE, State.RESIGNING),
            "a campaign is due outside STANDBY": self._campaign_at is not None
            and self.state is not State.STANDBY,
        }
        for what, is_broken in broken.items():
            if is_broken:
                raise AssertionError(f"{what}: {self}")

    # --- standing by ---

    def _observed(self, event: Observed) -> Sequence[Instruction]:
        previous = self._view
        if previous is not None and event.revision < previous.revision:
            return ()
        if previous is None or event.heartbeat_mod_revision != previous.heartbeat_mod_revision:
            self._heartbeat_received_at = event.now
        self._view = event
        if self.state is State.STANDBY:
            return self._campaign_if_free(event.now)
        if self._is_deposed():
            return self._end(EndReason.DEPOSED)
        self._settle(event.now)
        return ()

    def _is_deposed(self) -> bool:
        view = self._view
        return (
            self.epoch > 0
            and view is not None
            and view.revision >= self.epoch
            and view.active_mod_revision != self.epoch
        )

    def _campaign_if_free(self, now: float) -> Sequence[Instruction]:
        view = self._view
        if view is None:
            return ()
        if view.active_mod_revision and view.holder_server_id == self.settings.server_id:
            return self._begin_term(view.active_mod_revision, now)  # by a campaign that was never answered
        if self._is_refused(view) or (view.active_mod_revision and not self.settings.exclusive):
            self._campaign_at = None  # nothing to do before the next observation
            return ()
        if self._campaign_at is not None and now < self._campaign_at:
            return ()
        self._campaign_at = None
        self.state = State.CAMPAIGNING
        self._expected_heartbeat_revision = view.heartbeat_mod_revision
        self._take_on_predecessor(view, now)
        return (Campaign(view.heartbeat_mod_revision),)

    def _is_refused(self, view: Observed) -> bool:
        """Whether a campaign from this view is bound to be lost, as one was already."""
        return (
            view.revision < self._campaign_from_revision
            or view.heartbeat_mod_revision == self._refused_heartbeat_revision
        )

    def _take_on_predecessor(self, view: Observed, now: float) -> None:
        """Note until when the author of the heartbeat that the campaign compares may answer, and its guard.

        Never less than for an earlier campaign: its outcome may be unknown, and it may be the one that wins.
        """
        if view.heartbeat_mod_revision == 0:
            self.serve_after = max(self.serve_after, now)
            return
        guard = self.settings.serve_guard_s if view.holder_guard_s is None else view.holder_guard_s
        guard_end = self._heartbeat_received_at + guard + self.settings.margin_s
        self.serve_after = max(self.serve_after, guard_end)
        self._predecessor_guard_s = max(self._predecessor_guard_s, guard)

    # --- campaigning ---

    def _campaign_won(self, event: CampaignWon) -> Sequence[Instruction]:
        return self._begin_term(event.epoch, event.now)

    def _campaign_lost(self, event: CampaignLost) -> Sequence[Instruction]:
        if event.holder_server_id == self.settings.server_id:
            return self._begin_term(event.holder_mod_revision, event.now)
        self.state = State.STANDBY
        if not self.settings.exclusive:
            # A refusal proves that one of the two keys has changed since the view that led to the campaign.
            # Both lie in the followed range, so the watch will deliver the change: campaign on no older view
            # than that, however slow the watch is. The DELETE of a heartbeat has no revision here to wait
            # for, but a view that still shows the heartbeat is too old.
            self._campaign_from_revision = max(event.holder_mod_revision, event.heartbeat_mod_revision)
            expected = self._expected_heartbeat_revision
            if expected and event.heartbeat_mod_revision != expected:
                self._refused_heartbeat_revision = expected
            self._campaign_at = event.now + self.settings.retry_s
            return ()
        self._exclusive_losses += 1
        if self._exclusive_losses > self.settings.exclusive_attempts:
            return self._end(EndReason.EXCLUSIVE_HELD)
        doubled = EXCLUSIVE_BACKOFF_FIRST_S * 2 ** min(self._exclusive_losses - 1, 10)
        self._campaign_at = event.now + min(doubled, EXCLUSIVE_BACKOFF_MAX_S)
        return ()

    def _campaign_failed(self, event: CampaignFailed) -> Sequence[Instruction]:
        self.state = State.STANDBY
        self._campaign_at = event.now + self.settings.retry_s
        return self._campaign_if_free(event.now)  # the watch may have told already that it was carried out

    def _begin_term(self, epoch: int, now: float) -> Sequence[Instruction]:
        self._campaign_at = None
        self.epoch = epoch
        if self._is_deposed():  # the watch was faster than the answer, and the key is gone again
            return self._end(EndReason.DEPOSED)
        self.state = State.ACTIVATING
        self._settle(now)
        return (BeginTerm(epoch),)

    def _settle(self, now: float) -> None:
        if self.state is State.ACTIVATING and now >= self.serve_after:
            self._settled = True

    # --- leading ---

    def _activation_done(self, event: Activated) -> Sequence[Instruction]:
        if self.state is not State.ACTIVATING:
            return ()
        self._activated = True
        return self._serve_if_settled(event.now)

    def _serve_if_settled(self, now: float) -> Sequence[Instruction]:
        self._settle(now)
        if not self._activated or not self._settled:
            return ()
        self.state = State.ACTIVE
        return (Serve(self.epoch),)

    def _activation_failed(self, _event: ActivationFailed) -> Sequence[Instruction]:
        return self._give_up(EndReason.ACTIVATION_FAILED) if self.state is State.ACTIVATING else ()

    def _tick(self, event: Tick) -> Sequence[Instruction]:
        if self.state is State.STANDBY:
            return self._campaign_if_free(event.now)
        if self.state is State.ACTIVATING:
            return self._serve_if_settled(event.now)
        return ()

    # --- endings ---

    def _stop_requested(self, _event: StopRequested) -> Sequence[Instruction]:
        if self.state in (State.ACTIVATING, State.ACTIVE):
            return self._give_up(EndReason.STOPPED)
        if self.state is State.RESIGNING:
            self._stop_reason = EndReason.STOPPED
            return ()
        return self._end(EndReason.STOPPED)

    def _give_up(self, reason: EndReason) -> Sequence[Instruction]:
        if not self._settled:
            # Nothing was served, so there is nothing to drain; and the heartbeat key must stay, for it makes
            # the next one wait until the previous holder's guard has run out. The lease takes the ACTIVE key.
            return self._end(reason)
        self._stop_reason = reason
        self.state = State.RESIGNING
        return (Drain(),)

    def _drained(self, event: Drained) -> Sequence[Instruction]:
        if self._drained_once:
            raise IllegalEvent(f"{event} a second time")
        self._drained_once = True
        return (Resign(self.epoch),)

    def _resigned(self, event: Resigned) -> Sequence[Instruction]:
        if not self._drained_once:
            raise IllegalEvent(f"{event} before {Drained()}")
        return self._end(self._stop_reason)

    def _fence_lost(self, _event: FenceLost) -> Sequence[Instruction]:
        return self._end(EndReason.DEPOSED)

    def _lease_lost(self, _event: LeaseLost) -> Sequence[Instruction]:
        return self._end(EndReason.LEASE_LOST)

    def _end(self, reason: EndReason) -> Sequence[Instruction]:
        if self.state is State.RESIGNING:  # leadership was on its way out: why is already decided
            reason = self._stop_reason
        self.state = State.ENDED
        self._campaign_at = None
        return (EndSession(reason),)


_ALWAYS = frozenset({Observed, LeaseLost, StopRequested, Tick})
_EXPECTED: dict[State, frozenset[type]] = {
    State.STANDBY: _ALWAYS,
    State.CAMPAIGNING: _ALWAYS | {CampaignWon, CampaignLost, CampaignFailed},
    State.ACTIVATING: _ALWAYS | {Activated, ActivationFailed, FenceLost},
    State.ACTIVE: _ALWAYS | {FenceLost},
    State.RESIGNING: _ALWAYS | {Activated, ActivationFailed, FenceLost, Drained, Resigned},
}
