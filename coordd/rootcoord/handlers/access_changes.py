"""What all changes of users, roles and privileges have in common: their own order, and news to the proxies.

The changes are under a mark of their own, so they never wait for a change of collections. A caller is
answered when the change is in etcd and the proxies know of it, or after a short wait for those that do not
answer: they are told later (`coordd.rootcoord.permission_caches`). After a change that needed no write they
are told too: perhaps it is the repetition of one whose news got lost.
"""

from collections.abc import Callable, Sequence

from coordd import clock
from coordd.config import LoadedConfig
from coordd.etcd import MAX_TXN_OPS
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write, split
from coordd.rootcoord.ddl import Ddl, Decide
from coordd.rootcoord.handlers.changing import change, deadline_of
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.permission_caches import PermissionCaches, PolicyChange
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcFailure

log = get_logger("coordd.rootcoord.access")

PROXIES_PATIENCE_S = 1.0
"""How long a caller waits for proxies that do not confirm: long enough for one that is merely busy."""

BATCH_OPS = MAX_TXN_OPS - 1
"""Writes in one transaction: the mark is one more."""

Groups = Sequence[Sequence[Write]]
"""Writes; those of one group stay in one transaction."""


class AccessChanges:
    """`_access` gives the changes of the present term, `_caches` the caches of its proxies."""

    _tables: RootCoordTables
    _layout: MetaLayout
    _access: Callable[[], Ddl]
    _caches: Callable[[], PermissionCaches]
    _config: Callable[[], LoadedConfig]

    async def _change_access(self, call: Call, decide: Decide) -> int:
        """One transaction; see `coordd.rootcoord.handlers.changing.change`."""
        return await change(self._access, decide, call)

    async def _change_in_steps(self, call: Call, plan: Callable[[int], Groups]) -> int:
        """As many transactions as it takes, mostly one; returns the revision of the last one that wrote.

        `plan` is asked before each of them, with the number of those before. What it says is cut, and the
        first piece is committed; so others may change what is left in between. It must say less each time,
        in the end nothing, or what fits.
        """
        done, revision, more = 0, 0, True

        def decide(_stamp: object) -> Sequence[Write]:
            nonlocal more
            batches = split(plan(done), max_ops=BATCH_OPS)
            more = len(batches) > 1
            return batches[0] if batches else ()

        while more:
            revision = await self._change_access(call, decide) or revision
            done += 1
        return revision

    async def _tell(self, call: Call, say: Callable[[PermissionCaches], None]) -> None:
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

    async def _tell_policy(self, call: Call, change: PolicyChange, key: str = "") -> None:
        await self._tell(call, lambda caches: caches.refresh_policies(change, key))
