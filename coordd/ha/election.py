"""The election of one replica, for the life of one session: a pure state machine.

Events are things that happened, instructions are orders to the driver (`coordd.ha.candidacy`); both are in
`coordd.ha.election_events`. The machine does no I/O and reads no clock: every time is passed in, so the same
code runs under simulated clocks (tests/simulation).

    STANDBY       opening -> CAMPAIGNING; the ACTIVE key names us -> ACTIVATING
    CAMPAIGNING   won -> ACTIVATING; lost, unanswered -> STANDBY
    ACTIVATING    settled and activated -> ACTIVE
    ACTIVE        handover asked for, or stop with standbys there -> OFFERING; stop without -> RESIGNING
    OFFERING      a standby is ready -> HANDING_OVER; none in time -> ACTIVE, or RESIGNING if stopping
    HANDING_OVER  handed over -> ENDED; refused -> ACTIVE, or OFFERING if stopping
    RESIGNING     resigned -> ENDED
    any           stop outside a term, lease lost, epoch lost -> ENDED

An *opening* is a sign that leadership may be taken: the ACTIVE key is gone; or its holder, which must be one
that honours fence and guard, has crashed; or that holder is silent.

What keeps two replicas from serving at once:

* A campaign compares the mod_revisions of the ACTIVE key (0: absent) and of the heartbeat with those that
  were observed, in etcd's own event order. The revision of the transaction is the term's *epoch*; every
  later write of the term compares `mod_revision(ACTIVE) == epoch` (the fence).
* The winner serves once the previous holder's serve guard has run out: at once if the heartbeat key is gone
  (the holder gave leadership up after its last answer) or the holder's process is, else
  `last heartbeat received + guard + margin`. A heartbeat is fenced, so none can be committed after the
  ACTIVE key went or was taken, and all earlier ones were observed before that. What counts is the heartbeat
  that the campaign compared, not one seen later. A silent holder's guard has run out before the campaign.
* Until then the winner is not *settled*, and the promise it took over is still running: its own heartbeats
  publish the longer of both guards and that they are not settled, and it leaves the heartbeat key behind if
  it ends. Whoever follows a process that crashed unsettled waits as if it had been silent.
* Leadership is handed over only when nothing will be answered here any more (`Drained`), and it is answered
  here again only when the handover is known not to have happened (`HandoverRefused`).
* The term ends at the first sign that the epoch is lost: a refused fence, an ACTIVE key with another
  mod_revision, a lost lease.

Silence is counted only while this replica can commit to etcd itself (`Probe`): a gap, or a probe that fails,
starts the count anew, so that an etcd which nobody could reach costs no role change; not even one that comes
and goes, and commits a probe each time but no heartbeat. The campaign follows upon a probe that was
acknowledged after the count was complete.

What it does not promise: that leadership is *held* at any moment (only the fence proves that, per write), and
anything about a Milvus coordinator as the other half of a pair, which knows neither fence nor guard. That the
holder is gone is the driver's word (`HolderGone`); if it is fooled, the fence still holds, and the holder
sees the new ACTIVE key within a watch delay.

Order of events is free: an event that arrives late (an answer to something already abandoned) changes
nothing. An event that no order of arrival can explain raises `IllegalEvent` and changes nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordd.ha import election_events as ev


class IllegalEvent(Exception):
    """An event that cannot happen in this state: a bug in the driver. The machine is unchanged."""


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Times of one replica's election.

    `server_id` is this session's; `serve_guard_s` and `margin_s` bound how long a previous holder may answer
    after its last heartbeat was received (see `coordd.config` for their validation); `heartbeat_interval_s`
    is how often a holder renews it. `retry_s` is the pause after a campaign that could not be carried out
    (Milvus: 100 ms). `stagger_s`: a standby waits so long for each standby with a lower server ID, so that
    usually one campaigns and the others see it win. `offer_patience_s` is how long a standby may take to
    answer an offer; a handover whose outcome is unknown holds a stopping replica up for as long again.

    With `exclusive` (active-standby off) a lost campaign is repeated `exclusive_attempts` times, with pauses
    that double from 0.2 s up to 3 s, as Milvus registers; then the election ends.
    """

    server_id: int
    serve_guard_s: float
    margin_s: float
    heartbeat_interval_s: float = 0.5
    retry_s: float = 0.1
    stagger_s: float = 0.01
    offer_patience_s: float = 1.0
    exclusive: bool = False
    exclusive_attempts: int = 30

    @property
    def suspicion_s(self) -> float:
        """Silence of this length is suspicious: etcd is probed from then on."""
        return 1.5 * self.heartbeat_interval_s

    @property
    def probe_interval_s(self) -> float:
        """How often etcd is probed during silence."""
        return self.heartbeat_interval_s / 2

    @property
    def commit_gap_s(self) -> float:
        """Longest time between two proofs that etcd commits; a longer one starts the count of silence anew.

        Long enough for the first probe, short enough for an etcd leader change to be a gap.
        """
        return 2 * self.heartbeat_interval_s


@dataclass(frozen=True, slots=True)
class Promise:
    """What a heartbeat must say: for how long its author may go on answering, and whether it is settled."""

    serve_guard_s: float
    settled: bool


EXCLUSIVE_BACKOFF_FIRST_S = 0.2
EXCLUSIVE_BACKOFF_MAX_S = 3.0


@dataclass(slots=True)
class Election:
    """See the module's docstring. `handle` is the only way in."""

    settings: ElectionSettings
    state: ev.State = ev.State.STANDBY
    epoch: int = 0
    """The current term's epoch; 0 while no campaign was won."""
    cause: ev.TermCause | None = None
    """How the current term came about; None while there is none."""
    serve_after: float = 0.0
    """When the previous holder's guard has run out, known from the moment a campaign is ordered."""
    prepared: int = 0
    """Mod_revision of the offer for which we listen; 0: none."""
    _predecessor_guard_s: float = 0.0
    _campaigned: bool = False
    _settled: bool = False
    _activated: bool = False
    _stopping: bool = False
    _stop_reason: ev.EndReason = ev.EndReason.STOPPED
    # Standing by.
    _view: ev.Observed | None = None
    _stagger_s: float = 0.0
    _heartbeat_received_at: float = 0.0
    _quiet_since: float = 0.0
    _proof_at: float = 0.0
    _probing: bool = False
    _next_probe_at: float = 0.0
    _probe_not_before: float = -math.inf
    _gone_revision: int = 0
    _opening: tuple[ev.TermCause, int] | None = None
    _opened_at: float = 0.0
    _campaign_not_before: float = -math.inf
    _campaign_from_revision: int = 0
    _campaign_cause: ev.TermCause | None = None
    _expected_heartbeat_revision: int = 0
    _expected_active_revision: int = 0
    _refused_heartbeat_revision: int | None = None
    _refused_active_revision: int | None = None
    _exclusive_losses: int = 0
    # Passing leadership on.
    _offer_to: int = 0
    _offer_until: float = 0.0
    _heir: ev.Standby | None = None
    _refused_report: int = 0
    _drained: bool = False
    _handlers: dict[type, Callable[..., Sequence[ev.Instruction]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._handlers = {
            ev.Observed: self._observed,
            ev.HolderGone: self._holder_gone,
            ev.ProbeCommitted: self._probe_committed,
            ev.ProbeFailed: self._probe_failed,
            ev.CampaignWon: self._campaign_won,
            ev.CampaignLost: self._campaign_lost,
            ev.CampaignFailed: self._campaign_failed,
            ev.Activated: self._activation_done,
            ev.ActivationFailed: self._activation_failed,
            ev.FenceLost: self._fence_lost,
            ev.LeaseLost: self._lease_lost,
            ev.HandoverRequested: self._handover_requested,
            ev.StopRequested: self._stop_requested,
            ev.Drained: self._drain_done,
            ev.HandedOver: self._handed_over,
            ev.HandoverRefused: self._handover_refused,
            ev.HandoverUnknown: self._handover_unknown,
            ev.Resigned: self._resigned,
            ev.Tick: self._tick,
        }

    def handle(self, event: ev.Event) -> Sequence[ev.Instruction]:
        """Take one event, return the orders that follow from it, in order.

        Raises:
            IllegalEvent: the event cannot happen in this state; nothing changed.
        """
        if self.state is ev.State.ENDED:
            return ()
        if type(event) not in _EXPECTED[self.state]:
            raise IllegalEvent(f"{event} in state {self.state.value}")
        return self._handlers[type(event)](event)

    @property
    def heir(self) -> int:
        """Server ID of the standby to which leadership is being, or was, passed on; 0: none."""
        return self._heir.server_id if self._heir else 0

    @property
    def last_sign_at(self) -> float:
        """When the holder's last heartbeat, or its campaign, was received."""
        return self._heartbeat_received_at

    def promise(self, now: float) -> Promise:
        """What this replica's heartbeats, the campaign's included, must say if they are sent at `now`.

        While it is not settled, its guard is the previous holder's if that is longer, for whoever succeeds it
        then sees no heartbeat but this one.
        """
        settled = self._settled or now >= self.serve_after
        own = self.settings.serve_guard_s
        return Promise(own if settled else max(own, self._predecessor_guard_s), settled)

    def next_deadline(self) -> float | None:
        """When the machine wants its next `Tick`; None if only an event can move it."""
        if self.state is ev.State.STANDBY:
            wanted = [when for when in (self._campaign_due(), self._probe_due()) if when is not None]
            return min(wanted, default=None)
        if self.state is ev.State.ACTIVATING and self._activated:
            return self.serve_after
        return self._offer_until if self.state is ev.State.OFFERING else None

    def check_invariants(self) -> None:
        """Raise AssertionError if the machine contradicts itself; for tests."""
        leading = self.state in _LEADING
        serving = self.state in (ev.State.ACTIVE, ev.State.OFFERING, ev.State.HANDING_OVER)
        broken = {
            "leading without an epoch": leading and (self.epoch <= 0 or self.cause is None),
            "an epoch without a term": self.epoch > 0
            and self.state in (ev.State.STANDBY, ev.State.CAMPAIGNING),
            "serving before activation": serving and not self._activated,
            "serving or releasing within the previous holder's guard": not self._settled
            and (serving or self.state is ev.State.RESIGNING),
            "handing over to nobody": self.state is ev.State.HANDING_OVER and self._heir is None,
            "ready for an offer while leading": leading and self.prepared > 0,
        }
        for what, is_broken in broken.items():
            if is_broken:
                raise AssertionError(f"{what}: {self}")

    # --- observing ---

    def _observed(self, event: ev.Observed) -> Sequence[ev.Instruction]:
        previous = self._view
        if previous is not None and event.revision < previous.revision:
            return ()
        if previous is None or event.heartbeat_mod_revision != previous.heartbeat_mod_revision:
            self._heartbeat_received_at = event.now
            self._count_silence_from(event.now)
        if previous is not None and event.active_mod_revision != previous.active_mod_revision:
            self._count_silence_from(event.now)
        self._view = event
        if previous is None or event.standbys is not previous.standbys:
            before_us = sum(other.server_id < self.settings.server_id for other in event.standbys)
            self._stagger_s = self.settings.stagger_s * before_us
        if self.state is ev.State.STANDBY:
            return self._stand_by(event.now)
        if self._is_deposed():
            return self._end(self._why_deposed(event))
        self._settle(event.now)
        return self._pick_heir(event.now)

    def _stand_by(self, now: float) -> Sequence[ev.Instruction]:
        """What the present view asks of a standby: to campaign, else to be ready for an offer or not."""
        orders = self._campaign_if_open(now)
        view = self._view
        if self.state is not ev.State.STANDBY or view is None:
            return orders  # it goes on listening
        return (*self._keep_prepared(view), *orders)

    def _count_silence_from(self, now: float) -> None:
        """A change that was received is a sign of life, and a proof that etcd commits."""
        self._quiet_since = self._proof_at = now
        self._next_probe_at = now + self.settings.suspicion_s

    def _is_deposed(self) -> bool:
        view = self._view
        return (
            self.epoch > 0
            and view is not None
            and view.revision >= self.epoch
            and view.active_mod_revision != self.epoch
        )

    def _why_deposed(self, view: ev.Observed) -> ev.EndReason:
        passed_on = self.state is ev.State.HANDING_OVER and view.holder_server_id == self.heir
        return ev.EndReason.HANDED_OVER if passed_on and self._drained else ev.EndReason.DEPOSED

    def _keep_prepared(self, view: ev.Observed) -> Sequence[ev.Instruction]:
        """Be ready for the holder's offer, if it is meant for us, for as long as it stands."""
        offer, me = view.offer, self.settings.server_id
        wanted = 0
        if offer is not None and view.active_mod_revision and offer.by == view.holder_server_id != me:
            wanted = offer.mod_revision if offer.to in (0, me) else 0
        if wanted == self.prepared or view.holder_server_id == me:
            return ()
        self.prepared = wanted
        return (ev.Prepare(wanted),) if wanted else (ev.Unprepare(),)

    # --- openings ---

    def _find_opening(self, view: ev.Observed, now: float) -> ev.TermCause | None:
        """Why leadership may be taken; None if it may not."""
        if not view.active_mod_revision:
            return ev.TermCause.LEASE_ENDED if view.heartbeat_mod_revision else ev.TermCause.RELEASED
        if self.settings.exclusive:
            return ev.TermCause.LEASE_ENDED  # the campaign finds the key and loses, as Milvus' does
        if not view.holder_is_safe:
            return None
        if self._gone_revision == view.active_mod_revision:
            return ev.TermCause.CRASH
        return ev.TermCause.SILENCE if self._proof_at >= self._silent_at(view) <= now else None

    def _silent_at(self, view: ev.Observed) -> float:
        """When the holder has been silent for long enough, if nothing is heard of it until then."""
        own = self.settings
        guard_s = own.serve_guard_s if view.holder_guard_s is None else view.holder_guard_s
        return self._quiet_since + guard_s + own.margin_s + self._stagger_s

    def _holder_gone(self, event: ev.HolderGone) -> Sequence[ev.Instruction]:
        self._gone_revision = max(self._gone_revision, event.active_mod_revision)
        return self._campaign_if_open(event.now) if self.state is ev.State.STANDBY else ()

    def _campaign_if_open(self, now: float) -> Sequence[ev.Instruction]:
        view = self._view
        if view is None:
            return ()
        if view.active_mod_revision and view.holder_server_id == self.settings.server_id:
            return self._take_up(view.active_mod_revision, view.heartbeat_mod_revision, now)
        cause = self._find_opening(view, now)
        if cause is None or self._is_refused(view):
            self._opening = None  # nothing to do before the next observation, proof or sign
            return ()
        opening = (cause, view.active_mod_revision)
        if opening != self._opening:
            self._opening, self._opened_at = opening, now
        due = self._campaign_due()
        if due is not None and now < due:
            return ()
        return self._campaign(view, cause, now)

    def _campaign_due(self) -> float | None:
        """When the next campaign is to be sent; None while there is no opening."""
        if self._opening is None:
            return None
        # A silent holder's time has the stagger in it already; alone, there is nobody to wait for.
        wait_s = 0.0 if self._opening[0] is ev.TermCause.SILENCE else self._stagger_s
        return max(self._opened_at + wait_s, self._campaign_not_before)

    def _campaign(self, view: ev.Observed, cause: ev.TermCause, now: float) -> Sequence[ev.Instruction]:
        self._opening = None
        self.state = ev.State.CAMPAIGNING
        self._campaigned = True
        self._campaign_cause = cause
        self._expected_active_revision = view.active_mod_revision
        self._expected_heartbeat_revision = view.heartbeat_mod_revision
        self._take_on_predecessor(view, now, crashed=cause is ev.TermCause.CRASH)
        expected_active = 0 if self.settings.exclusive else view.active_mod_revision
        return (ev.Campaign(expected_active, view.heartbeat_mod_revision, cause),)

    def _is_refused(self, view: ev.Observed) -> bool:
        """Whether a campaign from this view is bound to be lost, as one was already."""
        return (
            view.revision < self._campaign_from_revision
            or view.heartbeat_mod_revision == self._refused_heartbeat_revision
            or view.active_mod_revision == self._refused_active_revision
        )

    def _take_on_predecessor(self, view: ev.Observed, now: float, *, crashed: bool) -> None:
        """Note until when the author of the heartbeat that the campaign compares may answer, and its guard.

        Never less than for an earlier campaign: its outcome may be unknown, and it may be the one that wins.
        """
        if view.heartbeat_mod_revision == 0 or (crashed and view.heartbeat_settled):
            self.serve_after = max(self.serve_after, now)
            return
        guard = self.settings.serve_guard_s if view.holder_guard_s is None else view.holder_guard_s
        guard_end = self._heartbeat_received_at + guard + self.settings.margin_s
        self.serve_after = max(self.serve_after, guard_end)
        self._predecessor_guard_s = max(self._predecessor_guard_s, guard)

    # --- silence ---

    def _probe_due(self) -> float | None:
        """When etcd is to be probed next; None if there is nobody whose silence would mean something."""
        view = self._view
        if view is None or self._probing or self._opening is not None or self.settings.exclusive:
            return None
        if not (view.active_mod_revision and view.holder_is_safe) or self._is_refused(view):
            return None
        silent_at = self._silent_at(view)
        wanted = min(self._next_probe_at, silent_at) if self._proof_at < silent_at else self._next_probe_at
        return max(wanted, self._probe_not_before)

    def _probe_if_due(self, now: float) -> Sequence[ev.Instruction]:
        due = self._probe_due()
        if due is None or now < due:
            return ()
        self._probing = True
        self._next_probe_at = now + self.settings.probe_interval_s
        return (ev.Probe(),)

    def _probe_committed(self, event: ev.ProbeCommitted) -> Sequence[ev.Instruction]:
        self._probing = False
        if event.now - self._proof_at > self.settings.commit_gap_s:
            self._quiet_since = event.now
        self._proof_at = event.now
        return self._campaign_if_open(event.now) if self.state is ev.State.STANDBY else ()

    def _probe_failed(self, event: ev.ProbeFailed) -> Sequence[ev.Instruction]:
        self._probing = False
        self._proof_at = -math.inf  # etcd may have been away from the holder as well
        self._next_probe_at = self._probe_not_before = event.now + self.settings.probe_interval_s
        return ()

    # --- campaigning ---

    def _campaign_won(self, event: ev.CampaignWon) -> Sequence[ev.Instruction]:
        cause = self._campaign_cause or ev.TermCause.LEASE_ENDED
        return self._begin_term(event.epoch, event.now, cause)

    def _campaign_lost(self, event: ev.CampaignLost) -> Sequence[ev.Instruction]:
        self.state = ev.State.STANDBY
        if event.holder_server_id == self.settings.server_id:
            return self._take_up(event.holder_mod_revision, event.heartbeat_mod_revision, event.now)
        if not self.settings.exclusive:
            # A refusal proves that one of the two keys has changed since the view that led to the campaign.
            # Both lie in the followed range, so the watch will deliver the change: campaign on no older view
            # than that, however slow the watch is. The DELETE of a key has no revision here to wait for, but
            # a view that still shows the key is too old.
            self._campaign_from_revision = max(event.holder_mod_revision, event.heartbeat_mod_revision)
            expected = self._expected_heartbeat_revision
            if expected and event.heartbeat_mod_revision != expected:
                self._refused_heartbeat_revision = expected
            expected = self._expected_active_revision
            if expected and event.holder_mod_revision != expected:
                self._refused_active_revision = expected
            if self._campaign_cause is not ev.TermCause.CRASH:  # the dead change nothing any more
                self._campaign_not_before = event.now + self.settings.retry_s
            return self._stand_by(event.now)
        self._exclusive_losses += 1
        if self._exclusive_losses > self.settings.exclusive_attempts:
            return self._end(ev.EndReason.EXCLUSIVE_HELD)
        doubled = EXCLUSIVE_BACKOFF_FIRST_S * 2 ** min(self._exclusive_losses - 1, 10)
        self._campaign_not_before = event.now + min(doubled, EXCLUSIVE_BACKOFF_MAX_S)
        return self._campaign_if_open(event.now)

    def _campaign_failed(self, event: ev.CampaignFailed) -> Sequence[ev.Instruction]:
        self.state = ev.State.STANDBY
        self._proof_at = -math.inf  # etcd did not answer, so whoever is silent may have had no chance either
        self._campaign_not_before = event.now + self.settings.retry_s
        return self._stand_by(event.now)  # the watch may have told already that it was carried out

    def _take_up(self, epoch: int, heartbeat: int, now: float) -> Sequence[ev.Instruction]:
        """The ACTIVE key is ours: by a campaign that was never answered, or passed on to us.

        A campaign writes a heartbeat, a handover deletes it, and nobody else has written one since.
        """
        if heartbeat == 0:
            self.serve_after = max(self.serve_after, now)  # the one who passed it on answers nothing any more
            return self._begin_term(epoch, now, ev.TermCause.HANDOVER)
        if not self._campaigned and self._view is not None:  # nothing explains this; so be careful
            self._take_on_predecessor(self._view, now, crashed=False)
        return self._begin_term(epoch, now, self._campaign_cause or ev.TermCause.LEASE_ENDED)

    def _begin_term(self, epoch: int, now: float, cause: ev.TermCause) -> Sequence[ev.Instruction]:
        self._opening = None
        self.prepared = 0
        self.epoch, self.cause = epoch, cause
        if self._is_deposed():  # the watch was faster than the answer, and the key is gone again
            return self._end(ev.EndReason.DEPOSED)
        self.state = ev.State.ACTIVATING
        self._settle(now)
        return (ev.BeginTerm(epoch, cause),)

    def _settle(self, now: float) -> None:
        if self.state is ev.State.ACTIVATING and now >= self.serve_after:
            self._settled = True

    # --- leading ---

    def _activation_done(self, event: ev.Activated) -> Sequence[ev.Instruction]:
        if self.state is not ev.State.ACTIVATING:
            return ()
        self._activated = True
        return self._serve_if_settled(event.now)

    def _serve_if_settled(self, now: float) -> Sequence[ev.Instruction]:
        self._settle(now)
        if not self._activated or not self._settled:
            return ()
        self.state = ev.State.ACTIVE
        return (ev.Serve(self.epoch),)

    def _activation_failed(self, _event: ev.ActivationFailed) -> Sequence[ev.Instruction]:
        return self._give_up(ev.EndReason.ACTIVATION_FAILED) if self.state is ev.State.ACTIVATING else ()

    def _tick(self, event: ev.Tick) -> Sequence[ev.Instruction]:
        match self.state:
            case ev.State.STANDBY:
                return self._campaign_if_open(event.now) or self._probe_if_due(event.now)
            case ev.State.ACTIVATING:
                return self._serve_if_settled(event.now)
            case ev.State.OFFERING if event.now >= self._offer_until:
                return self._offer_failed(ev.Refusal.NOT_READY, event.now)
            case _:
                return ()

    # --- passing leadership on ---

    def _handover_requested(self, event: ev.HandoverRequested) -> Sequence[ev.Instruction]:
        if self.state is not ev.State.ACTIVE:
            passing_on = self.state in (ev.State.OFFERING, ev.State.HANDING_OVER, ev.State.RESIGNING)
            return (ev.Refuse(ev.Refusal.BUSY if passing_on else ev.Refusal.NOT_SERVING),)
        standbys = self._view.standbys if self._view else ()
        if not standbys:
            return (ev.Refuse(ev.Refusal.NO_STANDBY),)
        if event.to and all(standby.server_id != event.to for standby in standbys):
            return (ev.Refuse(ev.Refusal.UNKNOWN_STANDBY),)
        return self._offer(event.to, event.now)

    def _offer(self, to: int, now: float) -> Sequence[ev.Instruction]:
        self.state = ev.State.OFFERING
        self._offer_to, self._offer_until = to, now + self.settings.offer_patience_s
        self._heir, self._drained = None, False
        return (ev.MakeOffer(self.epoch, to),)

    def _pick_heir(self, now: float) -> Sequence[ev.Instruction]:
        """The first standby that said that it is ready inherits."""
        view = self._view
        if self.state is not ev.State.OFFERING or view is None:
            return ()
        asked = [standby for standby in view.standbys if self._offer_to in (0, standby.server_id)]
        if not asked:
            return self._offer_failed(ev.Refusal.FAILED, now)
        if view.offer is None or view.offer.by != self.settings.server_id:
            return ()
        ready = [
            standby
            for standby in asked
            if standby.offer == view.offer.mod_revision and standby.report_revision != self._refused_report
        ]
        if not ready:
            return ()
        self.state = ev.State.HANDING_OVER
        self._heir = min(ready, key=lambda standby: standby.report_revision)
        return (ev.Drain(),)

    def _offer_failed(self, why: ev.Refusal, now: float) -> Sequence[ev.Instruction]:
        refuse = (ev.Refuse(why),)
        if not self._stopping:
            self.state = ev.State.ACTIVE
            return (ev.WithdrawOffer(self.epoch), *refuse)
        if self._offer_to:  # better any other than none
            return (*refuse, *self._offer(0, now))
        return (*refuse, *self._give_up(ev.EndReason.STOPPED))

    def _drain_done(self, event: ev.Drained) -> Sequence[ev.Instruction]:
        if self._drained:
            raise IllegalEvent(f"{event} a second time")
        if self.state is ev.State.HANDING_OVER and not event.complete and not self._stopping:
            return self._reopen(ev.Refusal.NOT_DRAINED)
        self._drained = True
        if self.state is ev.State.HANDING_OVER:
            return self._hand_over()
        return (ev.Resign(self.epoch),)

    def _hand_over(self) -> Sequence[ev.Instruction]:
        if self._heir is None or self._view is None:
            raise IllegalEvent("a handover without an heir")
        for standby in self._view.standbys:  # it may have written its report again since it was picked
            if standby.server_id == self._heir.server_id and standby.offer == self._heir.offer:
                self._heir = standby
        return (ev.HandOver(self.epoch, self._heir.server_id, self._heir.report_revision),)

    def _reopen(self, why: ev.Refusal) -> Sequence[ev.Instruction]:
        """Go on as before the handover was tried."""
        self.state = ev.State.ACTIVE
        self._heir, self._drained = None, False
        return (ev.Reopen(self.epoch), ev.WithdrawOffer(self.epoch), ev.Refuse(why))

    def _handed_over(self, event: ev.HandedOver) -> Sequence[ev.Instruction]:
        self._require_drained(event)
        return self._end(ev.EndReason.HANDED_OVER)

    def _handover_refused(self, event: ev.HandoverRefused) -> Sequence[ev.Instruction]:
        self._require_drained(event)
        if self._heir is None:
            raise IllegalEvent(f"{event} without an heir")
        self._refused_report = self._heir.report_revision
        if not self._stopping:
            return self._reopen(ev.Refusal.FAILED)
        self.state = ev.State.OFFERING  # look for another; `_offer_until` is unchanged
        self._heir, self._drained = None, False
        return (ev.Reopen(self.epoch), *self._pick_heir(event.now))

    def _handover_unknown(self, event: ev.HandoverUnknown) -> Sequence[ev.Instruction]:
        self._require_drained(event)
        if self._stopping and event.now > self._offer_until + self.settings.offer_patience_s:
            return self._end(ev.EndReason.STOPPED)  # etcd is out of reach; the lease takes what is left
        return self._hand_over()

    # --- endings ---

    def _stop_requested(self, event: ev.StopRequested) -> Sequence[ev.Instruction]:
        self._stopping = True
        match self.state:
            case ev.State.ACTIVE if self._view is not None and self._view.standbys:
                return self._offer(0, event.now)
            case ev.State.ACTIVATING | ev.State.ACTIVE:
                return self._give_up(ev.EndReason.STOPPED)
            case ev.State.RESIGNING:
                self._stop_reason = ev.EndReason.STOPPED
                return ()
            case ev.State.OFFERING | ev.State.HANDING_OVER:
                return ()
            case _:
                return self._end(ev.EndReason.STOPPED)

    def _give_up(self, reason: ev.EndReason) -> Sequence[ev.Instruction]:
        if not self._settled:
            # Nothing was served, so there is nothing to drain; and the heartbeat key must stay, for it makes
            # the next one wait until the previous holder's guard has run out. The lease takes the ACTIVE key.
            return self._end(reason)
        self._stop_reason = reason
        self.state = ev.State.RESIGNING
        self._drained = False
        return (ev.Drain(),)

    def _resigned(self, event: ev.Resigned) -> Sequence[ev.Instruction]:
        self._require_drained(event)
        return self._end(self._stop_reason)

    def _require_drained(self, event: ev.Event) -> None:
        if not self._drained:
            raise IllegalEvent(f"{event} before a drain was done")

    def _fence_lost(self, _event: ev.FenceLost) -> Sequence[ev.Instruction]:
        if self.state is ev.State.HANDING_OVER and self._drained:
            return ()  # by our own handover, most likely; its answer or the watch will tell
        return self._end(ev.EndReason.DEPOSED)

    def _lease_lost(self, _event: ev.LeaseLost) -> Sequence[ev.Instruction]:
        return self._end(ev.EndReason.LEASE_LOST)

    def _end(self, reason: ev.EndReason) -> Sequence[ev.Instruction]:
        if self.state is ev.State.RESIGNING:  # leadership was on its way out: why is already decided
            reason = self._stop_reason
        self.state = ev.State.ENDED
        self._opening = None
        self.prepared = 0
        return (ev.EndSession(reason),)


_LEADING = (
    ev.State.ACTIVATING,
    ev.State.ACTIVE,
    ev.State.OFFERING,
    ev.State.HANDING_OVER,
    ev.State.RESIGNING,
)
_ALWAYS = frozenset(
    {ev.Observed, ev.HolderGone, ev.ProbeCommitted, ev.ProbeFailed, ev.LeaseLost, ev.StopRequested, ev.Tick}
)
_TERM = _ALWAYS | {ev.FenceLost, ev.HandoverRequested}
_PASSING_ON = _TERM | {ev.Drained, ev.HandedOver, ev.HandoverRefused, ev.HandoverUnknown}
_EXPECTED: dict[ev.State, frozenset[type]] = {
    ev.State.STANDBY: _ALWAYS,
    ev.State.CAMPAIGNING: _ALWAYS | {ev.CampaignWon, ev.CampaignLost, ev.CampaignFailed},
    ev.State.ACTIVATING: _TERM | {ev.Activated, ev.ActivationFailed},
    ev.State.ACTIVE: _TERM,
    ev.State.OFFERING: _TERM,
    ev.State.HANDING_OVER: _PASSING_ON,
    ev.State.RESIGNING: _TERM | {ev.Activated, ev.ActivationFailed, ev.Drained, ev.Resigned},
}
