"""Proxies whose sessions end, noticed for the life of the process, whether it is active or stands by.

A proxy without a session is no source of time ticks: nobody waits for what it may send. So it must not get
a timestamp any more, whoever is asked for it; it may have been suspended, wake up after a takeover and ask
the successor before it notices that its session has ended. Server IDs are never used twice, so who is gone
is gone for good.

Not promised: that a replica knows of a session which ended before it was started. A proxy that slept for so
long learns of its session's end within seconds of waking up, if it reaches etcd.
"""

from collections.abc import Callable, Iterable

from coordd.rootcoord.proxies.bar import TimestampBar


class Departures:
    """Bars proxies for good. `registered`: the server IDs of those that have a session now."""

    def __init__(self, registered: Callable[[], Iterable[int]], bar: TimestampBar) -> None:
        self._registered = registered
        self._bar = bar
        self._seen: set[int] = set()

    def look(self) -> None:
        """The sessions have changed."""
        present = set(self._registered())
        for server_id in self._seen - present:
            self._bar.gone(server_id)
        self._seen = present
