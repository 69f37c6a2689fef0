"""Requests on their way through one session: started, held, forwarded to an heir, answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordd.ha import election_events as ev

if TYPE_CHECKING:
    from .coordd_model import Session

HELD_AT_MOST = 20
NO_TIMESTAMP_PAUSE_S = 0.05


class Request:
    """One request. What it gets must lie above `answered_before`, the highest answer when it came.

    `forwarded`: a former active passed it on; it must not fail just because leadership was handed over.
    """

    __slots__ = ("answered_before", "forwarded", "timestamp")

    def __init__(self, answered_before: int) -> None:
        self.answered_before = answered_before
        self.forwarded = False
        self.timestamp = 0


class Gate:
    """What stands around every request of a session; see `coordd.ha.gate`."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.in_flight = 0
        self.accepting = False
        """Between `Serve` or `Reopen` and `Drain`: requests may start."""
        self.answering = False
        """Between `Serve` or `Reopen` and the moment of `Drained`: requests may be answered."""
        self.draining = False
        self._drains = 0
        self._held: list[Request] = []

    def may_answer(self) -> bool:
        """The check that precedes every answer: the term serves, and the serve guard has not passed."""
        return self.answering and self.session.guard.valid(self.session.process.clock())

    def may_start(self) -> bool:
        """The check before a handler starts."""
        return self.accepting and self.may_answer()

    def could_answer(self) -> bool:
        """Whether an answer could leave now, given a request that has come or is in flight."""
        return self.answering and (self.accepting or self.in_flight > 0) and self.may_answer()

    def client_request(self) -> None:
        """A client's request: it starts if it may, and is held while leadership is being handed over."""
        held = self.session.election.state is ev.State.HANDING_OVER and not self.accepting
        if held or self.may_start():
            self.take(Request(self.session.world.invariants.highest_answered))

    def take(self, request: Request) -> None:
        """Start a request, or hold it until that is possible."""
        if self.may_start():
            self._start(request)
        elif self.session.election.state is ev.State.RESIGNING or len(self._held) >= HELD_AT_MOST:
            self.session.world.invariants.failed(request, "it was turned away")
        else:
            self._held.append(request)

    def _start(self, request: Request) -> None:
        """A handler starts; its work takes a while."""
        world = self.session.world
        self.in_flight += 1
        if world.random() < 0.5:
            request.timestamp = self.session.timestamps.allocate()
        self.session.process.after(world.scenario.work_s * world.random(), self._finish, request)

    def _finish(self, request: Request) -> None:
        session = self.session
        if not request.timestamp:
            request.timestamp = session.timestamps.allocate()
        may = not session.ended and self.may_answer()
        patient = request.forwarded or session.world.scenario.quiet
        if may and not request.timestamp and patient:
            session.process.after(NO_TIMESTAMP_PAUSE_S, self._finish, request)
            return
        if may and request.timestamp:
            session.world.invariants.answered(session, request)
        else:
            session.world.invariants.failed(request, "its handler was too late")
        self.in_flight -= 1
        if not self.in_flight and self.draining:
            self.drained(self._drains)

    # --- opening and closing ---

    def open(self) -> None:
        """`Serve` and `Reopen`: the held ones first."""
        self.accepting = self.answering = True
        self.draining = False
        self.flush()

    def flush(self) -> None:
        """The guard, or the gate, may let through what was held."""
        if self._held and self.may_start():
            held, self._held = self._held, []
            for request in held:
                self.take(request)

    def drain(self) -> None:
        """Start nothing new, wait for what is in flight, but not for ever."""
        self.accepting = False
        self.draining = True
        self._drains += 1
        wait_s = self.session.world.scenario.drain_s if self.in_flight and self.answering else 0.0
        self.session.process.after(wait_s, self.drained, self._drains)

    def drained(self, drain: int) -> None:
        """Nothing will be answered any more, unless the gate is opened again."""
        session = self.session
        if session.ended or not self.draining or drain != self._drains:
            return
        self.draining = self.answering = False
        if session.election.state is ev.State.RESIGNING:
            session.beating = False
        session.handle(ev.Drained(session.process.clock(), complete=not self.in_flight))

    def close(self) -> list[Request]:
        """The session is over; what was held comes back."""
        self.accepting = self.answering = self.draining = False
        held, self._held = self._held, []
        return held
