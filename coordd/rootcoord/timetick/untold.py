"""Which proxies have to start anew because they cannot be told of changes: a pure judge.

A proxy that could not be told of a change gets no timestamps until it has confirmed it
(`coordd.rootcoord.proxies.bar`). Its reports then say nothing new, since what they promise is the timestamp
that it was given last. So nobody gets a tick above that: as long as it is barred strongly consistent
searches wait in the whole cluster, and all that this proxy is asked for fails.

One that is silent too hangs, or is cut off, and is waited for like every silent proxy (`gone`): it may wake
up and be told. One that reports is alive and reaches us, while we do not reach it, or it refuses to forget;
no waiting mends that. `END_AFTER_S` later its session is to be ended: a proxy of Milvus then exits, and the
one that is started in its place knows nothing old.

It may have messages on their way, with timestamps from before it was barred. So its end is waited for before
ticks go on without it (`coordd.rootcoord.timetick.absentees`).

Times are seconds on CLOCK_BOOTTIME.
"""

from collections.abc import Collection
from typing import Final

END_AFTER_S: Final = 10.0
"""Two attempts to tell it (`coordd.rootcoord.proxies.link.ATTEMPT_S`), since it was silent last."""


class Untold:
    """The barred proxies that report, and since when."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def due(self, barred: Collection[int], silent: Collection[int], now: float) -> list[int]:
        """Whose session is to be ended now, in order: again each time, for as long as nothing else is known.

        `barred`: registered proxies that get no timestamps; `silent`: those that do not report.
        """
        reporting = set(barred) - set(silent)
        for server_id in self._since.keys() - reporting:
            del self._since[server_id]
        return [
            server_id
            for server_id in sorted(reporting)
            if now - self._since.setdefault(server_id, now) >= END_AFTER_S
        ]
