"""Whole revisions out of the pieces in which etcd sends a watch's events. Pure.

etcd sends all events of one revision in one response, many revisions in one response when it catches up,
and, if a response would be too large, cuts it into fragments (flag `fragment` on all but the last). After a
reconnect, and from members that fall behind (etcd before 3.4.25 and 3.5.8), events come a second time.

Guaranteed by `Revisions`: each event once; in revision order; never a part of a revision; `next_revision`
is where to go on after a break. A progress notification raises what is reported, but never
`next_revision`: that is always the last *event's* revision + 1.

The names of the guarantees are those of etcd tests/robustness/validate/watch.go.
"""

from collections.abc import Sequence

from coordd.etcd.types import Event, WatchBatch


class OutOfOrderError(Exception):
    """A response's events are not in revision order: the stream cannot be trusted and must be replaced."""


class Revisions:
    """The state of one watch across all its streams."""

    __slots__ = ("_held", "_reported", "next_revision")

    def __init__(self, from_revision: int) -> None:
        """`from_revision`: the first one wanted, at least 1 (0 would mean "some moment near now")."""
        if from_revision < 1:
            raise ValueError(f"a watch needs a start revision of at least 1, not {from_revision}")
        self.next_revision = from_revision
        self._reported = from_revision - 1
        self._held: list[Event] = []

    def reconnected(self) -> None:
        """A new stream starts at `next_revision`: what was received in part will come again."""
        self._held.clear()

    def events(self, events: Sequence[Event], *, fragment: bool) -> WatchBatch | None:
        """What can be handed on now; None if nothing can. `fragment`: the response goes on in the next one.

        Raises:
            OutOfOrderError: nothing was taken; replace the stream.
        """
        fresh = [event for event in events if event.mod_revision >= self.next_revision]
        last = self._held[-1].mod_revision if self._held else self.next_revision
        for event in fresh:
            if event.mod_revision < last:
                raise OutOfOrderError(f"revision {event.mod_revision} after {last}")
            last = event.mod_revision
        self._held += fresh
        return self._take(fragment=fragment)

    def progress(self, revision: int) -> WatchBatch | None:
        """A progress notification: all events up to `revision` have been sent. None if that is no news.

        etcd puts these into the watch's own stream behind the events (unlike answers to manual progress
        requests before 3.4.25 and 3.5.8), so nothing can still be under way. A member that lags behind a
        watch's start reports less than was already delivered: no news either.
        """
        if self._held or revision <= self._reported:
            return None
        self._reported = revision
        return WatchBatch(revision, ())

    def _take(self, *, fragment: bool) -> WatchBatch | None:
        """All events held, except, while fragments are to come, those of the last revision."""
        held = self._held
        if not held:
            return None
        last = held[-1].mod_revision
        count = len(held)
        if fragment:
            while count and held[count - 1].mod_revision == last:
                count -= 1
            if count == 0:
                return None
        ready, self._held = held[:count], held[count:]
        revision = ready[-1].mod_revision
        self.next_revision = revision + 1
        self._reported = max(self._reported, revision)
        return WatchBatch(revision, tuple(ready))
