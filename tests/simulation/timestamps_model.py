"""The timestamps of one term: the real allocator over a window that is persisted under the fence.

Nothing below a window's end is handed out before that end was persisted. A write whose outcome is unknown is
read back before the next one, and every write compares the window's last known revision: one that comes late
must not put an older end back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordd.ha import election_events as ev
from coordd.rootcoord.tso import TimestampAllocator

from .etcd_model import WINDOW, Answer

if TYPE_CHECKING:
    from .coordd_model import Compares, Session

RETRY_S = 0.2


class Timestamps:
    """Allocator and window of one session's term. Loading it is what makes the simulated role ready."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._allocator: TimestampAllocator | None = None
        self._known_revision = 0
        self._in_doubt = False
        self._persisting = False

    def allocate(self) -> int:
        """A timestamp, or 0 if there is none right now; the request then fails."""
        if self._allocator is None:
            return 0
        allocated = self._allocator.allocate(1, self.session.process.wall_ms())
        self._persist()
        return allocated if isinstance(allocated, int) else 0

    def load(self) -> None:
        """Read what was persisted last, by whomever; without it nothing can be handed out."""
        session = self.session
        if not session.ended:
            session.call(self._loaded, session.etcd.txn, session.fence())

    def _loaded(self, answer: Answer | None, _sent_at: float) -> None:
        if self.session.ended:
            return
        if answer is None:
            self.unreadable()
        elif not answer.succeeded:
            self.session.handle(ev.FenceLost())
        else:
            stored = answer.keys.get(WINDOW)
            self.start(stored.value if stored else 0, stored.mod_revision if stored else 0)

    def unreadable(self) -> None:
        """Try again: no answer is not the same as a window of zero."""
        self.session.process.after(RETRY_S, self.load)

    def start(self, end_ms: int, revision: int) -> None:
        """Go on from a persisted window."""
        session = self.session
        self._in_doubt = False
        self._known_revision = revision
        if self._allocator is None:
            if session.world.faults.activation_fails():
                session.handle(ev.ActivationFailed())
                return
            self._allocator = TimestampAllocator(floor_ms=end_ms, now_ms=session.process.wall_ms())
        self._allocator.extend(end_ms)
        self._persist()

    def _persist(self) -> None:
        session = self.session
        if self._allocator is None or self._persisting or session.ended:
            return
        end_ms = self._allocator.wanted_window_ms(session.process.wall_ms())
        if end_ms is None:
            self._tell_activated()
        elif self._in_doubt:
            self.load()
        else:
            self._persisting = True
            session.call(self._persisted, self._write, end_ms, self.compares(self._known_revision))

    def compares(self, revision: int) -> Compares:
        """The fence, and the window as last known."""
        return (*self.session.fence(), (WINDOW, revision))

    def _write(self, end_ms: int, compares: Compares) -> tuple[int, Answer]:
        return end_ms, self.session.fenced_txn(compares, ((WINDOW, end_ms, 0),))

    def _persisted(self, done: tuple[int, Answer] | None, _sent_at: float) -> None:
        self._persisting = False
        session = self.session
        if session.ended:
            return
        if done is not None and done[1].succeeded:
            assert self._allocator is not None
            self._known_revision = done[1].revision
            self._allocator.extend(done[0])
            self._tell_activated()
            return
        self._in_doubt = True  # read it back; if the epoch is lost, that tells
        if session.election.state is ev.State.ACTIVATING:
            session.process.after(RETRY_S, self._persist)

    def _tell_activated(self) -> None:
        session = self.session
        if session.election.state is ev.State.ACTIVATING:
            session.handle(ev.Activated(session.process.clock()))
