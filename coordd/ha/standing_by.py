"""What a standby does besides waiting: it reports, probes etcd, gets ready for offers, watches the holder.

Its report (`coordd.ha.standbys`) is rewritten every few seconds for people, and at once to probe etcd and
to answer an offer. All of it ends with the session. Readiness is taken back in etcd before the port is
closed, so that leadership is never handed to a replica that does not listen.
"""

import asyncio

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd.errors import EtcdError, LeaseLost
from coordd.ha import election_events as ev
from coordd.ha.context import SessionContext
from coordd.ha.leadership import SessionEntry
from coordd.ha.trouble import Trouble
from coordd.log import get_logger

log = get_logger("coordd.ha.standing_by")

REPORT_INTERVAL_S = 5.0
READY_RETRY_S = 0.1
_WAITING = (ev.State.STANDBY, ev.State.CAMPAIGNING)


class StandingBy:
    """The duties of one session until it leads."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._around = context.around
        self._hold = f"offers of {context.server_id}"
        self._one_report = asyncio.Lock()
        self._wanted = 0
        self._settled_for = 0
        self._ready = 0
        self._reported = 0
        self._preparing: asyncio.Task[None] | None = None
        self._watched = 0
        self._watching: asyncio.Task[None] | None = None

    @property
    def _waiting(self) -> bool:
        return self._context.election.state in _WAITING

    # --- reports ---

    async def report_regularly(self) -> None:
        """Keep the report fresh until this replica leads."""
        trouble = Trouble()
        while self._waiting:
            try:
                await self._report()
                trouble.over()
            except LeaseLost as error:
                self._context.lease_lost(error)
                return
            except EtcdError as error:
                if trouble.is_news(error):
                    log.warning("could not report, trying again", role=self._context.role, reason=str(error))
            await asyncio.sleep(REPORT_INTERVAL_S)

    async def probe(self) -> None:
        """Find out whether etcd commits what we write, and tell the election."""
        # What takes longer is a gap in the proofs anyway; see `ElectionSettings.commit_gap_s`.
        limit_s = 2 * self._around.settings.heartbeat_interval_ms / 1000
        try:
            async with asyncio.timeout(limit_s):
                await self._report()
        except LeaseLost as error:
            self._context.lease_lost(error)
        except (EtcdError, TimeoutError):
            self._context.handle(ev.ProbeFailed(boottime()))
        else:
            self._context.handle(ev.ProbeCommitted(boottime()))

    async def _report(self) -> None:
        async with self._one_report:  # the last one written must be the last one meant
            if not self._waiting:
                return
            leadership, follower, ready = self._context.leadership, self._around.follower, self._ready
            if ready and ready == self._reported and follower.synced:  # what the active has seen has to stay
                await leadership.prove_commits()
                return
            synced = follower.synced
            revision = await leadership.report(follower.revision, synced=synced, offer=ready)
            self._reported = ready if synced else 0
            follower.committed(revision)

    # --- readiness ---

    def be_ready_for(self, offer: int) -> None:
        """Listen and say so for the offer of this mod_revision; 0: take it back and stop listening."""
        self._wanted = offer
        if self._preparing is None or self._preparing.done():
            self._preparing = self._context.start(self._prepare(), "prepare")

    async def _prepare(self) -> None:
        while self._settled_for != self._wanted and self._waiting:
            wanted = self._wanted
            try:
                if wanted:
                    await self._around.server.hold(self._hold)
                self._ready = wanted
                await self._report()
                if not wanted:
                    await self._around.server.release(self._hold)
                self._settled_for = wanted
            except LeaseLost as error:
                self._context.lease_lost(error)
                return
            except EtcdError as error:
                log.debug("offer not answered yet", role=self._context.role, reason=str(error))
                await asyncio.sleep(READY_RETRY_S)
            except CoorddError as error:
                log.warning("cannot be the heir", role=self._context.role, reason=str(error))
                self._settled_for = wanted

    # --- the holder ---

    def watch(self, holder: SessionEntry | None) -> None:
        """Look after the process that holds the ACTIVE key, if it is another of coordd."""
        revision = holder.mod_revision if holder is not None else 0
        if revision == self._watched:
            return
        self._watched = revision
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        record = holder.record if holder is not None else None
        if record is None or record.safety is None or record.server_id == self._context.server_id:
            return
        if self._around.detect is not None:
            self._watching = self._context.start(self._wait_gone(holder), "holder")

    async def _wait_gone(self, holder: SessionEntry | None) -> None:
        if self._around.detect is None or holder is None or holder.record is None:
            return
        evidence = await self._around.detect(holder.record)
        self._context.say.gone(holder, evidence.kind)
        self._context.phases.last_sign_at = evidence.noticed_at
        self._context.handle(ev.HolderGone(boottime(), holder.mod_revision))

    async def leave(self) -> None:
        """The session is over and its lease given back: stop listening."""
        await self._around.server.release(self._hold)
