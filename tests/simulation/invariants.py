"""What must hold whatever goes wrong. Checked after every event of every process, in true time.

* exclusive: from the moment a replica of epoch e may answer, none of an older epoch may, ever again. What
  counts is whether it *could*, a paused one if it woke now: an overlap shows even if no request hits it.
* fenced: no term writes after its ACTIVE key was replaced or deleted.
* polite: nobody campaigns who has seen that the ACTIVE key is there, and no campaign replaces one.
* ordered: timestamps are unique, and a request that starts after another was answered gets a higher one.
* lively: when the faults end some replica serves within a bound, whoever was told to stop has ended, and no
  standby campaigned again and again in vain.

Of Milvus' own coordinator nothing is promised, so nothing is checked.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from .etcd_model import Answer
from .process_model import Process

if TYPE_CHECKING:
    from .coordd_model import Session
    from .world import World


class Violation(AssertionError):
    """A promise was broken."""


CAMPAIGNS_PER_VACANCY = 2
"""Campaigns that a standby may lose each time the ACTIVE key vanishes: one to a faster standby, and one
because its watch was behind. It must not knock again and again while the watch stays behind."""


class Invariants:
    """The checks of one run, and what they must remember."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._serving_epoch = 0
        self._answered_epoch = 0
        self._answered: set[int] = set()
        self.highest_answered = 0
        self.lost_campaigns = 0

    @property
    def answers(self) -> int:
        """Requests answered so far."""
        return len(self._answered)

    def after_event(self, process: Process) -> None:
        """Something happened in `process`."""
        session = process.session
        if session is None or not could_answer(session):
            return
        epoch = session.election.epoch
        if epoch == self._serving_epoch:
            return
        if epoch < self._serving_epoch:
            raise Violation(
                f"exclusive: server {session.server_id} may answer under epoch {epoch}, "
                f"but epoch {self._serving_epoch} serves"
            )
        for other in self._world.processes:
            rival = other.session
            if other is not process and not other.dead and rival is not None and could_answer(rival):
                raise Violation(
                    f"exclusive: server {session.server_id} serves epoch {epoch} while server "
                    f"{rival.server_id} may answer under epoch {rival.election.epoch} for "
                    f"{rival.guard.remaining_s(other.clock()):.6f} s more"
                )
        self._serving_epoch = epoch

    def answered(self, session: Session, timestamp: int, answered_before: int) -> None:
        """A request was answered with `timestamp`; the highest answered when it started was the other."""
        self._world.note(session.process, f"answers {timestamp}")
        epoch = session.election.epoch
        if epoch < self._answered_epoch:
            raise Violation(
                f"exclusive: an answer of epoch {epoch} after one of epoch {self._answered_epoch}"
            )
        if timestamp <= answered_before:
            raise Violation(f"ordered: timestamp {timestamp}, though {answered_before} was answered before")
        if timestamp in self._answered:
            raise Violation(f"ordered: timestamp {timestamp} was answered twice")
        self._answered_epoch = epoch
        self._answered.add(timestamp)
        self.highest_answered = max(self.highest_answered, timestamp)

    def campaigning(self, session: Session) -> None:
        """A campaign is about to be sent."""
        view = session.process.view
        if view is None or view.active_mod_revision:
            raise Violation(f"polite: server {session.server_id} campaigns although it sees the role held")

    def campaigned(self, session: Session, answer: Answer) -> None:
        """A campaign was carried out."""
        if answer.succeeded and self._world.etcd.history[-2].active_mod_revision:
            raise Violation(f"polite: server {session.server_id} replaced an ACTIVE key")

    def committed(self, session: Session, active_mod_revision: int) -> None:
        """A write of a term was committed while the ACTIVE key had that revision."""
        if session.election.epoch != active_mod_revision:
            raise Violation(
                f"fenced: server {session.server_id} wrote under epoch {session.election.epoch} "
                f"at ACTIVE revision {active_mod_revision}"
            )

    def recovered(self) -> bool:
        """Whether some replica serves and everyone who was told to stop has ended."""
        return self._world.somebody_serves() and not any(
            process.condemned and not process.dead for process in self._world.processes
        )

    def at_end(self) -> None:
        """The run is over."""
        history = self._world.etcd.history
        vacancies = sum(
            not after.active_mod_revision and before.active_mod_revision > 0
            for before, after in pairwise(history)
        )
        bound = CAMPAIGNS_PER_VACANCY * (vacancies + 1) * len(self._world.machines)
        if self.lost_campaigns > bound:
            raise Violation(f"lively: {self.lost_campaigns} lost campaigns for {vacancies} vacancies")


def could_answer(session: Session) -> bool:
    """Whether an answer could leave now, given a request that has come or is in flight."""
    return session.answering and (session.accepting or session.in_flight > 0) and session.may_answer()
