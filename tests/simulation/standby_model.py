"""What a session does while it stands by: reports, probes, readiness for an offer, the sight of a death.

After `coordd.ha.standing_by`. One report is written at a time, and says what is true when it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordd.ha import election_events as ev

from .etcd_model import LEASE_NOT_FOUND, Answer, Leadership, report_key

if TYPE_CHECKING:
    from .coordd_model import Session

REPORT_INTERVAL_S = 5.0
REPORT_RETRY_S = 0.1

Told = Callable[[bool], None]


class StandingBy:
    """The duties of one session until it leads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._offer = 0
        self._said = 0
        self._writing = False
        self._next: list[Told] = []
        self._evidence_for: set[int] = set()

    @property
    def _waiting(self) -> bool:
        session = self._session
        return not session.ended and session.election.state in (ev.State.STANDBY, ev.State.CAMPAIGNING)

    # --- reports ---

    def report_regularly(self) -> None:
        """Keep the report fresh until this replica leads."""
        if self._waiting:
            self.report(_nothing)
            self._session.process.after(REPORT_INTERVAL_S, self.report_regularly)

    def probe(self) -> None:
        """Find out whether etcd commits what we write."""
        self.report(self._probed)

    def _probed(self, written: bool) -> None:
        now = self._session.process.clock()
        self._session.handle(ev.ProbeCommitted(now) if written else ev.ProbeFailed(now))

    def be_ready_for(self, offer: int) -> None:
        """Say that we are ready for the offer of this revision; 0: for none."""
        self._offer = offer
        self.report(self._prepared)

    def readiness_changed(self) -> None:
        """The watch has fallen silent, or delivers again: whoever counts on us as the heir must know."""
        if self._waiting and self._offer:
            self.report(_nothing)

    def _prepared(self, written: bool) -> None:
        if not written and self._waiting and self._said != self._offer:
            self._session.process.after(REPORT_RETRY_S, self.report, self._prepared)

    def report(self, told: Told) -> None:
        """Write the report, then tell whether that was acknowledged."""
        self._next.append(told)
        if not self._writing:
            self._write()

    def _write(self) -> None:
        session, told = self._session, self._next
        self._next, self._writing = [], True
        # A replica whose watch is known to be silent is nobody's heir.
        said = self._offer if session.process.synced else 0

        def done(answer: Answer | None, _sent_at: float) -> None:
            self._written(answer, said, told)

        puts = ((report_key(session.server_id), said, session.lease_id),)
        session.world.network.call(session.process, session.process.guard_s, done, session.etcd.txn, (), puts)

    def _written(self, answer: Answer | None, said: int, told: list[Told]) -> None:
        session = self._session
        self._writing = False
        if session.ended:
            return
        if answer is LEASE_NOT_FOUND:
            session.handle(ev.LeaseLost())
            return
        if answer is not None:
            self._said = said
        for tell in told:
            tell(answer is not None)
        if self._next and not self._writing and self._waiting:
            self._write()

    # --- the holder ---

    def look(self, view: Leadership) -> None:
        """If the holder's process is gone, and this machine can see that, notice it a moment later."""
        session, epoch = self._session, view.active_mod_revision
        if not epoch or not view.holder_is_safe or epoch in self._evidence_for or not self._waiting:
            return
        if session.world.is_seen_gone(view.holder, session.process.machine):
            self._evidence_for.add(epoch)
            delay_s = session.world.scenario.evidence_s * session.world.random()
            session.process.after(delay_s, self.notice, epoch)

    def notice(self, epoch: int) -> None:
        """Evidence, right or wrong, that who wrote the ACTIVE key is gone."""
        self._session.handle(ev.HolderGone(self._session.process.clock(), epoch))


def _nothing(_written: bool) -> None:
    """For reports whose fate changes nothing."""
