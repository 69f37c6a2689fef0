"""Which ticks may be sent: a pure state machine over what the senders of messages promise.

Sources are all who send messages on the channels: every registered proxy, and RootCoord itself with its DDL
messages (`holds`). A source's report is a promise for good: on a channel that it names it will send nothing
with the named timestamp or below, on any other nothing with the default one or below. So of one source's
reports only the newest matters, one that comes late says nothing new, and a tick can be computed from them at
any moment: on each channel the smallest that the sources have promised.

What holds for every sequence of calls:

1. No tick before every source has reported: who has promised nothing may send anything. A source ends only
   with its session (`gone` says why a session may end early).
2. No source sends a message at or below a tick sent before, as long as all keep their promises.
3. The ticks of a channel strictly increase, within a term by remembering the last, and from term to term by
   `floor`: no tick lies below the first timestamp of the term. All that any predecessor sent lies below that:
   a tick is no larger than RootCoord's own promise, that is no larger than the newest timestamp handed out,
   and all of those lie below the window saved in etcd, above which the next term's timestamps start. A
   promise made under the predecessor is thus not used for a tick until the source renews it, and a proxy that
   the predecessor never heard of cannot draw the ticks back.

Not promised: anything about a sender that is no source yet. A proxy registers before it serves, so it is one
as soon as the watch on etcd has told of it; Milvus' RootCoord learns of it in the same way.

Times are seconds on CLOCK_BOOTTIME, timestamps are hybrid ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """A source will send nothing at or below these: `channels` by name, `default` on all others."""

    channels: Mapping[str, int]
    default: int

    def promised(self, channel: str) -> int:
        """The promise for one channel."""
        return self.channels.get(channel, self.default)


class UnknownSourceError(LookupError):
    """Whoever reports is no registered proxy."""


@dataclass(slots=True)
class _Source:
    heard_at: float
    report: Report | None = None
    heard_since_round: bool = False


class TimeTicks:
    """The ticks of one term. `floor`: the first timestamp that this term may hand out."""

    def __init__(self, floor: int) -> None:
        self._floor = floor
        self._proxies: dict[int, _Source] = {}
        self._ordered: dict[str, int] = {}
        self._sent: dict[str, int] = {}

    @property
    def proxies(self) -> frozenset[int]:
        """Server IDs of the proxies that are sources."""
        return frozenset(self._proxies)

    @property
    def complete(self) -> bool:
        """Whether there are proxies, and all have reported since the last round: one more may be due."""
        return bool(self._proxies) and all(one.heard_since_round for one in self._proxies.values())

    def set_proxies(self, server_ids: Iterable[int], now: float) -> None:
        """These proxies are registered now, and no others."""
        registered = set(server_ids)
        for server_id in self._proxies.keys() - registered:
            del self._proxies[server_id]
        for server_id in registered - self._proxies.keys():
            self._proxies[server_id] = _Source(heard_at=now)

    def report(self, server_id: int, report: Report, now: float) -> None:
        """A proxy has reported.

        Raises:
            UnknownSourceError: it is not registered.
        """
        source = self._proxies.get(server_id)
        if source is None:
            raise UnknownSourceError(server_id)
        source.heard_at = now
        source.heard_since_round = True
        if source.report is None or report.default >= source.report.default:
            source.report = report

    def silent(self, now: float, for_s: float) -> dict[int, tuple[float, bool]]:
        """Proxies not heard of for longer than `for_s`: how long, and whether ever in this term."""
        return {
            server_id: (now - source.heard_at, source.report is not None)
            for server_id, source in self._proxies.items()
            if now - source.heard_at > for_s
        }

    @property
    def holding_back(self) -> list[int]:
        """The proxies that ticks wait for: those without a report, else those that promise least."""
        missing = [server_id for server_id, source in self._proxies.items() if source.report is None]
        if missing:
            return sorted(missing)
        defaults = {one: source.report.default for one, source in self._proxies.items() if source.report}
        least = min(defaults.values(), default=0)
        return sorted(server_id for server_id, default in defaults.items() if default == least)

    def round(self, own: Report, channels: Iterable[str]) -> dict[str, int]:
        """The ticks to send now, by channel; each is taken for sent from here on, whatever becomes of it.

        `own`: RootCoord's own promise, whose default is no larger than the newest timestamp handed out.
        `channels`: those that can be sent to. None gets a tick that is no larger than its last.
        """
        reports = [own]
        for source in self._proxies.values():
            source.heard_since_round = False
            if source.report is not None:
                reports.append(source.report)
        if len(reports) <= len(self._proxies):
            return {}
        ticks = {}
        for channel in channels:
            tick = min(report.promised(channel) for report in reports)
            if tick >= self._floor and tick > self._ordered.get(channel, 0):
                ticks[channel] = self._ordered[channel] = tick
        return ticks

    def sent(self, channel: str, tick: int) -> None:
        """The message queue has taken a tick."""
        self._sent[channel] = max(tick, self._sent.get(channel, 0))

    def last_sent(self, channel: str) -> int:
        """The newest tick that the queue has taken in this term, 0 if there is none."""
        return self._sent.get(channel, 0)

    def check_invariants(self) -> None:
        """Raises AssertionError when a tick was taken for sent that never was ordered, or lies below."""
        for channel, tick in self._sent.items():
            if not self._floor <= tick <= self._ordered.get(channel, 0):
                raise AssertionError(f"tick {tick} on {channel} was not ordered")
