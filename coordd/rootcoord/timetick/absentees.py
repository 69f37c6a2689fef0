"""Looks after proxies that hold the time ticks back: those that are silent, and those that cannot be told.

**Silent proxies** are asked for at their addresses. If one is proved to be gone (`gone`) its session
is ended: the key is deleted under the term's fence, if it still is as it was seen. From then on the
proxy is no source of time ticks, and no part of what RootCoord tells all proxies; its lease ends by
itself. A deleted session is to Milvus' processes, and to everybody who follows sessions, what the end
of its lease is.

**A proxy that reports and cannot be told of changes** (`untold`) has its session ended though it is alive. It
stays a source of ticks until it has certainly stopped:

* it is proved to be gone like a silent one that never reported, so not while it finishes its requests;
* or another proxy has registered at its address;
* or it has been silent for the session's TTL and the time that stopping takes. By then its lease, which it
  does not renew any more, has ended, and that is when Milvus stops waiting for a proxy.

A term that begins meanwhile waits for it in the same way, from its own beginning on
(`coordd.rootcoord.proxies.departures`).

Milvus' proxy ends its reports as soon as it sees its session's end, but finishes requests for up to 10 s
more. One that does not see it goes on reporting, and so holds the ticks back until its lease ends.

Source of truth: Milvus 2.3.5 internal/util/sessionutil/session_util.go (LivenessCheck),
internal/proxy/proxy.go (Register, Stop); seen at a running proxy.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from coordd import clock
from coordd.errors import CoorddError
from coordd.etcd import Delete
from coordd.ha.leadership import SessionEntry
from coordd.ha.tasks import TaskScope
from coordd.log import get_logger
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.rootcoord.timetick.gone import ASK_AFTER_S, REFUSED_UNHEARD_S, SILENT_S, Answer, Suspects
from coordd.rootcoord.timetick.sessions import ProxySessions
from coordd.rootcoord.timetick.ticker import TimeTicker
from coordd.rootcoord.timetick.untold import Untold

log = get_logger("coordd.rootcoord.timetick.absentees")

TURN_S = 0.1
ASK_TIMEOUT_S = 1.0
COMMIT_TIMEOUT_S = 2.0
IDLE_S = 2.0
"""Milvus' RootCoord complains of a silent proxy as often."""

Ask = Callable[[str, int, float], Awaitable[Answer]]
"""Address, server ID, seconds it may take -> who is there; see `probe.who_is_there`."""


class Absentees:
    """The proxies of one term that hold its ticks back.

    `may_act`: whether this replica may do anything outward now. `barred`: who gets no timestamps. `ttl_s`: of
    the proxies' sessions.
    """

    def __init__(
        self,
        ticker: TimeTicker,
        sessions: ProxySessions,
        committer: FencedCommitter,
        ask: Ask,
        *,
        may_act: Callable[[], bool],
        barred: Callable[[], Collection[int]],
        ttl_s: Callable[[], float],
    ) -> None:
        self._ticker = ticker
        self._sessions = sessions
        self._committer = committer
        self._ask = ask
        self._may_act = may_act
        self._barred = barred
        self._ttl_s = ttl_s
        self._suspects = Suspects()
        self._untold = Untold()
        self._ending: set[int] = set()
        self._idle: set[int] = set()

    async def run(self) -> None:
        """Task of the term: look until cancelled."""
        async with TaskScope() as scope:
            while True:
                await asyncio.sleep(TURN_S)
                if not self._may_act():
                    continue
                now, silent = clock.boottime(), self._ticker.silent(ASK_AFTER_S)
                self._idle &= silent.keys()
                self._let_go({one: silent_s for one, (silent_s, _heard) in silent.items()})
                for server_id in self._suspects.due(silent, now):
                    scope.create_task(self._look_at(server_id), name=f"silent proxy:{server_id}")
                barred = [one for one in self._sessions.registered() if one in self._barred()]
                for server_id in self._untold.due(barred, silent, now):
                    if server_id not in self._ending:
                        self._ending.add(server_id)
                        scope.create_task(self._restart(server_id), name=f"untold proxy:{server_id}")

    async def _look_at(self, server_id: int) -> None:
        entry = self._sessions.entry(server_id) or self._sessions.leaving.get(server_id)
        answer = Answer.NOTHING
        if entry is not None and entry.record is not None:
            answer = await self._ask(entry.record.address, server_id, ASK_TIMEOUT_S)
        silent_s, heard = self._ticker.silent(0.0).get(server_id, (0.0, False))
        heard = heard and server_id not in self._sessions.leaving
        gone = self._suspects.answered(server_id, answer, clock.boottime(), silent_s, heard=heard)
        if gone and entry is not None and self._may_act():
            self._left(server_id)
            if self._sessions.entry(server_id) is not None:
                _say("a proxy is gone, ending its session", server_id, entry, answer.name, silent_s)
                await self._end_session(server_id, entry)
        elif silent_s >= IDLE_S and server_id not in self._idle:
            self._idle.add(server_id)
            log.warning("session idle for long time", proxy=server_id, found_there=answer.name)

    async def _restart(self, server_id: int) -> None:
        """End the session of a proxy that is alive, so that another takes its place."""
        entry = self._sessions.entry(server_id)
        if entry is not None and self._may_act():
            text = "a proxy cannot be told of changes and holds the time ticks back, ending its session"
            _say(text, server_id, entry, Answer.ITSELF.name, 0.0)
            self._sessions.leave(server_id, entry)
            await self._end_session(server_id, entry)
        self._ending.discard(server_id)

    def _let_go(self, silent_s: Mapping[int, float]) -> None:
        """Of those on their way out, those that have left."""
        for server_id in list(self._sessions.leaving):
            enough_s = SILENT_S if self._sessions.replaced(server_id) else self._ttl_s() + REFUSED_UNHEARD_S
            if silent_s.get(server_id, 0.0) >= enough_s:
                self._left(server_id)

    def _left(self, server_id: int) -> None:
        if server_id in self._sessions.leaving:
            self._sessions.left(server_id)
            log.info("time ticks go on without a proxy whose session was ended", proxy=server_id)

    async def _end_session(self, server_id: int, entry: SessionEntry) -> None:
        try:
            await self._committer.commit(
                [Delete(entry.key)],
                guard_key=entry.key,
                guard_revision=entry.mod_revision,
                deadline=clock.boottime() + COMMIT_TIMEOUT_S,
            )
        except FenceLost:
            return  # the committer has told the election
        except CoorddError as error:
            log.warning("could not end the session of a proxy", proxy=server_id, reason=str(error))


def _say(text: str, server_id: int, entry: SessionEntry, evidence: str, silent_s: float) -> None:
    log.warning(
        text,
        proxy=server_id,
        address=entry.record.address if entry.record else "",
        evidence=evidence,
        silent_s=round(silent_s, 1),
    )
