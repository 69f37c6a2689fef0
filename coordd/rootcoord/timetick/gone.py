"""Which silent proxies are gone: a pure judge of the answers that are got at their addresses.

A proxy that has died stays registered until its lease ends, half a minute by default, and no tick can be sent
until it reports or its session ends: it may have messages to send. So its session is ended early, but only on
proof that its process is no more; a proxy that is slow, hangs or is cut off from us may yet send, and is
waited for until its lease ends, as in Milvus.

Proof is silence, no report for `SILENT_S` though they are due every 0.2 s, together with one of these:

* the answer at its address is another's: a port has one owner, so the process was replaced;
* connects to its internal port were refused, `REFUSALS` or more times in a row and for `REFUSED_S`. A live
  proxy listens there until it is told to stop, and one that stops goes on reporting while it finishes its
  requests. That says nothing of a proxy that has not reported to us yet, since after a takeover its reports
  may come seconds late: for that one `REFUSED_UNHEARD_S` must pass, longer than a proxy takes to stop.

No answer, an error or a time-out prove nothing. Not excluded: something between us that refuses connects in a
live proxy's stead for longer than these times. That proxy would then find its session deleted, and exit, as
Milvus' processes do; RootCoord being out of its reach, it could not have gone on anyway.

Times are seconds on CLOCK_BOOTTIME.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

ASK_AFTER_S: Final = 0.5
"""Silence after which a proxy is asked: two reports are missing."""
SILENT_S: Final = 1.0
REFUSED_S: Final = 0.5
REFUSED_UNHEARD_S: Final = 12.0
"""Milvus' grpc.gracefulStopTimeout is 10 s; no process takes longer over its last requests."""
REFUSALS: Final = 3
ASK_AGAIN_SOON_S: Final = 0.2
"""After an answer that is on the way to proof."""
ASK_AGAIN_S: Final = 1.0


class Answer(Enum):
    """What came back from a proxy's address."""

    ITSELF = auto()
    """It is there."""
    ANOTHER = auto()
    """A proxy with another server ID."""
    REFUSED = auto()
    """Nobody listens."""
    NOTHING = auto()
    """No answer in time, no way there, or one that does not say who it is."""


_SUSPICIOUS: Final = (Answer.ANOTHER, Answer.REFUSED)


@dataclass(slots=True)
class _Suspect:
    asking: bool = False
    ask_at: float = 0.0
    refused_since: float = 0.0
    refusals: int = 0


class Suspects:
    """The proxies that are silent, and what is known of them."""

    def __init__(self) -> None:
        self._suspects: dict[int, _Suspect] = {}

    def due(self, silent: Collection[int], now: float) -> list[int]:
        """Whom to ask now, of those that are `silent`; each must be followed by `answered`.

        Whoever is not silent any more is no suspect, and begins anew if it falls silent again.
        """
        for server_id in self._suspects.keys() - set(silent):
            del self._suspects[server_id]
        chosen = []
        for server_id in silent:
            suspect = self._suspects.setdefault(server_id, _Suspect())
            if not suspect.asking and now >= suspect.ask_at:
                suspect.asking = True
                chosen.append(server_id)
        return chosen

    def answered(self, server_id: int, answer: Answer, now: float, silent_s: float, *, heard: bool) -> bool:
        """Whether the proxy is proved to be gone.

        `silent_s`: for how long it has not reported until now; `heard`: whether it ever did in this term.
        """
        suspect = self._suspects.get(server_id)
        if suspect is None:  # it has reported meanwhile
            return False
        suspect.asking = False
        suspect.ask_at = now + (ASK_AGAIN_SOON_S if answer in _SUSPICIOUS else ASK_AGAIN_S)
        if answer is not Answer.REFUSED:
            suspect.refusals = 0
            return answer is Answer.ANOTHER and silent_s >= SILENT_S
        if not suspect.refusals:
            suspect.refused_since = now
        suspect.refusals += 1
        lasting_s = REFUSED_S if heard else REFUSED_UNHEARD_S
        return (
            silent_s >= SILENT_S and suspect.refusals >= REFUSALS and now - suspect.refused_since >= lasting_s
        )
