"""Metadata changes of one term, one after the other: decide, commit, decide again if the state was another.

Milvus' RootCoord has one queue and one worker for all of them; here too they take turns, in order of arrival,
so each is decided upon the outcome of the one before. The tables are the state; a change is a transaction
under the fence that also rewrites the mark (`coordd.meta.tables.ddl_mark`). Turns alone would not do: a
change whose caller went away, or whose outcome stayed unknown, may still be on its way to etcd when the next
has its turn. So that one first rewrites the mark alone: the late one is then in etcd, and is waited for, or
never will be. So what is answered after an unknown outcome holds, even if it took no write.

Not promised: that a change whose outcome is unknown shows in the tables at once; it does when the watch
tells of it.

Source of truth: Milvus 2.3.5 internal/rootcoord/scheduler.go.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from coordd.errors import CoorddError
from coordd.etcd import Put
from coordd.etcd.errors import OutcomeUnknown
from coordd.log import get_logger
from coordd.meta.commit import CommitConflict, FencedCommitter
from coordd.meta.key_locks import KeyLocks
from coordd.meta.tables.ddl_mark import DdlMark
from coordd.meta.transaction import Write
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.oracle import Oracle

log = get_logger("coordd.rootcoord.ddl")

QUEUE_MAX = 10_240
"""Changes that wait for their turn; Milvus' queue is as long."""

Decide: TypeAlias = Callable[[Stamp], Sequence[Write]]
"""From the tables as they are now to the writes, at most once called per attempt; must not wait."""


class Ddl:
    """The changes of one term."""

    def __init__(self, committer: FencedCommitter, oracle: Oracle, mark: DdlMark) -> None:
        self._committer = committer
        self._oracle = oracle
        self._mark = mark
        self._turns = KeyLocks(QUEUE_MAX)
        self._settled = True  # no transaction of ours may still be on its way

    async def carry_out(self, decide: Decide, *, deadline: float) -> int:
        """Commit what `decide` says; returns the revision, 0 if there was nothing to write.

        `decide` gets a stamp of its own each time it is asked. `deadline`: seconds on CLOCK_BOOTTIME. May be
        cancelled at any time: the change is then made whole, or not at all.

        Raises:
            CommitsOverloaded: no turn until then.
            NotHandedOutError: no timestamp or ID until then; a TermOverError of these: none any more.
            CommitConflict: somebody else wrote the same keys, and the watch has not told what.
            FenceLost, OutcomeUnknown, EtcdError, TransactionTooLarge: see `FencedCommitter.commit`.
            Exception: what `decide` raises.
        """
        async with self._turns.hold((self._mark.key,), deadline=deadline):
            while True:
                try:
                    return await self._attempt(decide, deadline)
                except CommitConflict as conflict:
                    log.warning("metadata is not as it was known, deciding again", reason=str(conflict))
                    await self._committer.until_seen(conflict, deadline=deadline)

    async def _attempt(self, decide: Decide, deadline: float) -> int:
        if not self._settled:
            await self._commit((), await self._stamp(deadline), deadline)
        stamp = await self._stamp(deadline)
        writes = decide(stamp)
        return await self._commit(writes, stamp, deadline) if writes else 0

    async def _stamp(self, deadline: float) -> Stamp:
        return Stamp(
            timestamp=await self._oracle.wait_timestamps(1, deadline),
            id=await self._oracle.wait_ids(1, deadline),
        )

    async def _commit(self, writes: Sequence[Write], stamp: Stamp, deadline: float) -> int:
        """Commit the writes and the mark. Up to the transaction nothing here waits: the decision is fresh."""
        mark = Put(self._mark.key, str(stamp.timestamp).encode())
        expect = {self._mark.key: self._mark.revision}
        settled, self._settled = self._settled, False
        try:
            revision = await self._committer.commit([*writes, mark], expect=expect, deadline=deadline)
        except OutcomeUnknown:
            raise
        except CoorddError:  # nothing was written
            self._settled = settled
            raise
        self._settled = True
        return revision
