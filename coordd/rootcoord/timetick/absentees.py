"""Looks after silent proxies: asks at their addresses, and ends the sessions of those that are proved gone.

The session's key is deleted under the term's fence, if it still is as it was seen. From then on the proxy is
no source of time ticks, and no part of what RootCoord tells all proxies; its lease ends by itself. A deleted
session is to Milvus' processes, and to everybody who follows sessions, what the end of its lease is.
"""

import asyncio
from collections.abc import Awaitable, Callable

from coordd import clock
from coordd.errors import CoorddError
from coordd.etcd import Delete
from coordd.ha.leadership import SessionEntry, SessionTable
from coordd.ha.tasks import TaskScope
from coordd.log import get_logger
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.rootcoord.timetick.gone import ASK_AFTER_S, Answer, Suspects
from coordd.rootcoord.timetick.ticker import TimeTicker

log = get_logger("coordd.rootcoord.timetick.absentees")

TURN_S = 0.1
ASK_TIMEOUT_S = 1.0
COMMIT_TIMEOUT_S = 2.0
IDLE_S = 2.0
"""Milvus' RootCoord complains of a silent proxy as often."""

Ask = Callable[[str, int, float], Awaitable[Answer]]
"""Address, server ID, seconds it may take -> who is there; see `probe.who_is_there`."""


class ProxySessions:
    """The registered proxies by their session keys, those whose records do not decode included."""

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions

    def ids(self) -> list[int]:
        """Server IDs of all."""
        return [int(entry.key.rpartition("-")[2]) for entry in self._sessions.of_role("proxy")]

    def has(self, server_id: int) -> bool:
        """Whether this one is registered."""
        return self.entry(server_id) is not None

    def entry(self, server_id: int) -> SessionEntry | None:
        """The session of this one."""
        return self._sessions.get(f"proxy-{server_id}")


class Absentees:
    """The silent proxies of one term. `may_act`: whether this replica may do anything outward now."""

    def __init__(
        self,
        ticker: TimeTicker,
        sessions: ProxySessions,
        committer: FencedCommitter,
        ask: Ask,
        may_act: Callable[[], bool],
    ) -> None:
        self._ticker = ticker
        self._sessions = sessions
        self._committer = committer
        self._ask = ask
        self._may_act = may_act
        self._suspects = Suspects()
        self._idle: set[int] = set()

    async def run(self) -> None:
        """Task of the term: look until cancelled."""
        async with TaskScope() as scope:
            while True:
                await asyncio.sleep(TURN_S)
                if not self._may_act():
                    continue
                silent = self._ticker.silent(ASK_AFTER_S)
                self._idle &= silent.keys()
                for server_id in self._suspects.due(silent, clock.boottime()):
                    scope.create_task(self._look_at(server_id), name=f"silent proxy:{server_id}")

    async def _look_at(self, server_id: int) -> None:
        entry = self._sessions.entry(server_id)
        answer = Answer.NOTHING
        if entry is not None and entry.record is not None:
            answer = await self._ask(entry.record.address, server_id, ASK_TIMEOUT_S)
        silent_s, heard = self._ticker.silent(0.0).get(server_id, (0.0, False))
        gone = self._suspects.answered(server_id, answer, clock.boottime(), silent_s, heard=heard)
        if gone and entry is not None and self._may_act():
            await self._end_session(entry, server_id, answer, silent_s)
        elif silent_s >= IDLE_S and server_id not in self._idle:
            self._idle.add(server_id)
            log.warning("session idle for long time", proxy=server_id, found_there=answer.name)

    async def _end_session(
        self, entry: SessionEntry, server_id: int, answer: Answer, silent_s: float
    ) -> None:
        log.warning(
            "a proxy is gone, ending its session",
            proxy=server_id,
            address=entry.record.address if entry.record else "",
            evidence=answer.name,
            silent_s=round(silent_s, 1),
        )
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
            log.warning(
                "could not end the session of a proxy that is gone", proxy=server_id, reason=str(error)
            )
