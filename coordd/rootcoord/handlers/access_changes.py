"""What all changes of users, roles and privileges have in common: their own order, and news to the proxies.

The changes are under a mark of their own, so they never wait for a change of collections. A caller is
answered when the change is in etcd and the proxies know of it, or after a short wait for those that do not
answer: they are told later (`coordd.rootcoord.permission_caches`). After a change that needed no write they
are told too: perhaps it is the repetition of one whose news got lost. If it is not known whether a change was
made, or its caller goes away, they are told to look anew.

**A password that is withdrawn**, by another one or with its user, is not accepted anywhere when that is
answered, or nothing comes of it: a proxy that does not confirm gets no timestamps until it has. Not Milvus':
its UpdateCredential fails then (and the new password is set all the same), so a proxy that hangs blocks that
for its session's TTL; its DeleteCredential succeeds, and the proxy goes on with the old password meanwhile.

Not promised: that a proxy forgets a privilege before its withdrawal is answered, or what is asked of users
and roles, without a timestamp, through a proxy that could not be told of a password; nor, as in Milvus, that
a proxy which is just checking a user's first login does so by what it has read after a change.

Not promised: that proxies learn of a transaction that is applied only after they have looked anew. They do
when the call is repeated, and when the next term begins.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from coordd import clock
from coordd.config import LoadedConfig
from coordd.errors import CoorddError
from coordd.etcd import MAX_TXN_OPS
from coordd.etcd.errors import OutcomeUnknown
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write, split
from coordd.rootcoord.access.refusals import refused
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.ddl import Asked, Ddl, Turn
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.handlers.changing import change, deadline_of
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.permission_caches import PermissionCaches, PolicyChange
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcFailure

log = get_logger("coordd.rootcoord.access")

PASSWORD_PATIENCE_S = 2.0
"""How long a proxy that does not confirm may take a password that is withdrawn: as long as it may use a
collection that has changed, see `coordd.rootcoord.proxies.link.PATIENCE_S`."""

PROXIES_PATIENCE_S = 1.0
"""How long a caller waits for proxies that do not confirm: long enough for one that is merely busy."""

BATCH_OPS = MAX_TXN_OPS - 1
"""Writes in one transaction: the mark is one more."""

Groups = Sequence[Sequence[Write]]
"""Writes; those of one group stay in one transaction."""

Say = Callable[[PermissionCaches], None]
"""Says something to the proxies' caches."""


def _look_anew(caches: PermissionCaches) -> None:
    caches.refresh_policies(PolicyChange.REFRESH)


class AccessChanges:
    """`_access` gives the changes of the present term, `_caches` the caches of its proxies."""

    _tables: RootCoordTables
    _layout: MetaLayout
    _access: Callable[[], Ddl]
    _caches: Callable[[], PermissionCaches]
    _config: Callable[[], LoadedConfig]

    async def _change_access(
        self,
        call: Call,
        decide: Decide,
        unsure: Say = _look_anew,
        asked: Asked | None = None,
        turn: Turn | None = None,
    ) -> int:
        """One transaction; see `coordd.rootcoord.handlers.changing.change`.

        `unsure`: what to say to the proxies if it may have been made, and nobody here will know. `turn`: the
        one that it is part of.
        """
        try:
            return await change(self._access if turn is None else lambda: turn, decide, call, asked)
        except (OutcomeUnknown, asyncio.CancelledError):
            self._say(unsure)
            raise

    async def _change_in_steps(
        self,
        call: Call,
        plan: Callable[[int], Groups],
        unsure: Say = _look_anew,
        asked: Asked | None = None,
        turn: Turn | None = None,
    ) -> int:
        """As many transactions as it takes, mostly one; returns the revision of the last one that wrote.

        `plan` is asked before each of them, with the number of those before. What it says is cut, and the
        first piece is committed; so others may change what is left in between, unless all is done in one
        `turn`. It must say less each time, in the end nothing, or what fits.
        """
        done, revision, more = 0, 0, True

        def decide(_stamp: object) -> Sequence[Write]:
            nonlocal more
            more = False  # also if this is refused
            batches = split(plan(done), max_ops=BATCH_OPS)
            more = len(batches) > 1
            return batches[0] if batches else ()

        try:
            while more:
                revision = await self._change_access(call, decide, unsure, asked, turn) or revision
                done += 1
        except CoorddError:
            if done:
                self._say(unsure)
            raise
        return revision

    async def _remove(
        self,
        call: Call,
        plan: Callable[[], Groups],
        rest: Callable[[], Groups],
        unsure: Say = _look_anew,
        *,
        asked: Asked | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> int:
        """Something goes that may have many keys; returns the revision of the last transaction that wrote.

        With the first transaction it is gone: that has the first of what `plan` says, without which the rest
        counts nowhere. That goes in the same turn; what is left of it if the call is broken off, its
        repetition takes away, since `rest` says it without the first. `check` refuses.
        """
        async with self._one_turn(call) as turn:
            if asked is not None:
                asked = replace(asked, more=len(split(plan(), max_ops=BATCH_OPS)) > 1)

            def first(_stamp: object) -> Sequence[Write]:
                check()
                batches = split(plan(), max_ops=BATCH_OPS)
                return batches[0] if batches else ()

            revision = await self._change_access(call, first, unsure, asked, turn)
            try:
                return await self._change_in_steps(call, lambda _done: rest(), unsure, turn=turn) or revision
            except CoorddError:
                self._say(unsure)
                raise

    @asynccontextmanager
    async def _one_turn(self, call: Call) -> AsyncIterator[Turn]:
        """For changes of permissions with none of anybody else in between."""
        try:
            access = self._access()
        except TermOverError as error:
            raise elsewhere(error) from error
        async with access.turn(deadline=deadline_of(call)) as turn:
            yield turn

    async def _tell(self, call: Call, say: Say) -> None:
        """Tell the proxies what `say` says to their caches. Nothing that becomes of it undoes the change."""
        deadline = min(clock.boottime() + PROXIES_PATIENCE_S, deadline_of(call))
        try:
            caches = self._caches()
            say(caches)
            told = await caches.told(deadline=deadline)
        except (TermOverError, RpcFailure) as failure:
            log.info(
                "no proxy was told of a change of permissions, the next term does it", reason=str(failure)
            )
        else:
            if not told:
                log.warning("not all proxies know of a change of permissions yet")

    async def _withdraw(self, call: Call, user: str, say: Say, revision: int, legacy: int) -> None:
        """Tell the proxies that a user's password is not good any more; then no proxy works with it.

        `say`: what is said; `revision`: of the change, 0 if it was none.

        Raises:
            MilvusError: with the code `legacy`: a proxy that was not told may go on working.
            RpcFailure: the term is over; the repeated call tells them.
        """
        deadline = min(clock.boottime() + PASSWORD_PATIENCE_S, deadline_of(call))
        try:
            caches = self._caches()
            say(caches)
            await caches.told(deadline=deadline)
            await caches.withhold(user, committed_at=revision)
        except TermOverError as error:
            raise elsewhere(error) from error
        except RpcFailure:
            raise
        except CoorddError as error:
            raise refused(f"not all proxies know of the changed password: {error}", legacy) from error

    def _say(self, say: Say) -> None:
        """Without waiting; if the term is over, the next one does it."""
        with suppress(TermOverError, RpcFailure):
            say(self._caches())

    async def _tell_policy(self, call: Call, change: PolicyChange, key: str = "") -> None:
        await self._tell(call, lambda caches: caches.refresh_policies(change, key))
