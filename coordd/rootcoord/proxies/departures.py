"""Proxies whose sessions end, noticed for the life of the process, whether it is active or stands by.

A proxy without a session is no source of time ticks: nobody waits for what it may send. So it must not get
a timestamp any more, whoever is asked for it; it may have been suspended, wake up after a takeover and ask
the successor before it notices that its session has ended. Server IDs are never used twice, so who is gone
is gone for good.

The session of one that was barred may have been ended while it was alive, by the predecessor, and it may
still be sending what it had begun (`coordd.rootcoord.timetick.absentees`). The ticks of the next term have to
wait for its end, too, so these are remembered, with their sessions.

Not promised: that a replica knows of a session which ended before it was started. A proxy that slept for so
long learns of its session's end within seconds of waking up, if it reaches etcd.
"""

from collections.abc import Callable, Mapping

from coordd.clock import boottime
from coordd.ha.leadership import SessionEntry
from coordd.rootcoord.proxies.bar import TimestampBar


class Departures:
    """Bars proxies for good. `sessions`: by server ID, of those that have one now."""

    def __init__(self, sessions: Callable[[], Mapping[int, SessionEntry]], bar: TimestampBar) -> None:
        self._sessions = sessions
        self._bar = bar
        self._seen: Mapping[int, SessionEntry] = {}
        self._ended_barred: dict[int, tuple[float, SessionEntry]] = {}

    def look(self) -> None:
        """The sessions have changed."""
        present = self._sessions()
        for server_id, entry in self._seen.items():
            if server_id not in present:
                self._bar.gone(server_id)
                if entry.record is not None and entry.record.barred:
                    self._ended_barred[server_id] = (boottime(), entry)
        self._seen = present

    def barred(self, within_s: float) -> Mapping[int, SessionEntry]:
        """The sessions of proxies that were barred, by server ID, if they ended less than so long ago.

        Older ones are forgotten.
        """
        since = boottime() - within_s
        recent = {one: ended for one, ended in self._ended_barred.items() if ended[0] > since}
        self._ended_barred = recent
        return {server_id: entry for server_id, (_at, entry) in recent.items()}
