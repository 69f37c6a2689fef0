"""The one way to write metadata: transactions under the fence.

Every transaction compares, besides what it writes:

* the fence: mod_revision of the ACTIVE key == epoch. A replica that was deposed can commit nothing;
* the guard: mod_revision of one key that it writes == what is known of it here. Of two copies of one
  transaction at most one can win, so an outcome that is unknown (the connection broke, the time ran out) is
  found out by sending the very same transaction again: it wins, or it loses and then reads, in the same
  transaction, what is there instead. The guard also refuses a decision that was based on an old state;
* whatever else the caller's decision rests on (`expect`).

Milvus' own coordinators write without any of these. One that was deposed can go on writing for a second or
so; the guard notices if it touched the guarded keys.

Concurrency: commits run side by side unless they write a common key; then they queue in order of arrival,
so that no commit of ours can hide what became of another. What is known of the guard is read when `commit` is
called, with no `await` between the caller's decision and that: of two that decided upon the same state the
second gets `CommitConflict`.

Cancellation: `commit` may be cancelled at any time. If the transaction had been sent, it may be applied, then
or even later (unless the fence or the guard stop it); the tables learn of it from the watch. Nobody was told
that it succeeded, so that is the same as a client that left before the answer.

Not promised: that a commit is in the tables of this replica before others can see it in etcd; that a commit
which fails with `OutcomeUnknown` is in the tables (again, the watch tells).

Source of the idea: etcd client/v3/concurrency/election.go (proof of leadership compared in each transaction).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd import MAX_TXN_OPS, Compare, Get, GetResult, KeyValue, Op, TxnResult
from coordd.etcd.errors import EtcdError, NoSpace, OutcomeUnknown, RequestTooLarge, TooManyOperations
from coordd.etcd.types import CompareTarget
from coordd.log import get_logger
from coordd.meta.fold import Fold
from coordd.meta.key_locks import CommitsOverloaded, KeyLocks
from coordd.meta.transaction import (
    Found,
    Transaction,
    TransactionTooLarge,
    Write,
    default_guard,
    found_values,
    plan,
    split,
)

__all__ = [
    "CommitClient",
    "CommitConflict",
    "CommitsOverloaded",
    "FenceLost",
    "FencedCommitter",
    "FencedRead",
    "MetadataFull",
    "TransactionTooLarge",
    "Write",
    "split",
]

log = get_logger("coordd.meta.commit")

TIMEOUT_S: Final = 10.0
"""Patience of a commit whose caller names no deadline: Milvus' etcd.requestTimeout."""

ATTEMPT_MIN_S: Final = 0.5
RETRY_MIN_S: Final = 0.02
RETRY_MAX_S: Final = 0.1
"""Short, since each attempt waits for etcd by itself, and requests wait for the commit."""

QUEUE_MAX: Final = 10_000
"""Commits under way or waiting for each other; the rpc layer admits far fewer requests."""


class FenceLost(CoorddError):
    """This replica is no longer the active one.

    `committed`: True, the transaction had been applied before; False, it was not and never will be; None, it
    cannot be told (the successor has written the same keys since).
    """

    def __init__(self, *, committed: bool | None) -> None:
        super().__init__("leadership was lost")
        self.committed = committed


class CommitConflict(CoorddError):
    """Nothing was written: `key` is not in the state the commit was decided upon. Decide again.

    `known` and `actual` are mod_revisions, 0 for a key that does not exist. The tables have caught up when
    the fold's revision has reached `actual`.
    """

    retriable = True

    def __init__(self, key: str, *, known: int, actual: int) -> None:
        super().__init__(f"metadata key {key!r} was written at revision {actual}, known here is {known}")
        self.key = key
        self.known = known
        self.actual = actual


class MetadataFull(EtcdError):
    """etcd's quota is used up. Nothing was written."""


@dataclass(frozen=True, slots=True)
class FencedRead:
    """Values of keys as of `revision`, read while the fence held. None: the key does not exist."""

    revision: int
    values: Mapping[str, KeyValue | None]

    def mod_revision(self, key: str) -> int:
        """What to pass as `guard_revision` in order to write `key` next."""
        kv = self.values[key]
        return 0 if kv is None else kv.mod_revision


class CommitClient(Protocol):
    """The part of `coordd.etcd.EtcdClient` that commits need."""

    async def txn(
        self,
        compares: Sequence[Compare],
        success: Sequence[Op],
        failure: Sequence[Op] = (),
        *,
        timeout_s: float | None = None,
    ) -> TxnResult:
        """See `EtcdClient.txn`."""

    async def get(self, key: str, *, revision: int = 0, timeout_s: float | None = None) -> GetResult:
        """See `EtcdClient.get`."""


class FencedCommitter:
    """Commits of one term.

    `fence`: compare of the ACTIVE key's mod_revision with the epoch. `on_fence_lost` is called once, at the
    first transaction that finds the fence lost; from then on all calls raise `FenceLost` without asking etcd.
    """

    def __init__(
        self, client: CommitClient, fence: Compare, fold: Fold, on_fence_lost: Callable[[], None]
    ) -> None:
        if fence.target is not CompareTarget.MOD_REVISION:
            raise ValueError(f"a fence compares a mod_revision, not {fence}")
        self._client = client
        self._fence = fence
        self._fold = fold
        self._on_fence_lost = on_fence_lost
        self._locks = KeyLocks(QUEUE_MAX)
        self._lost = False

    def recent_keys(self, after: int = 0) -> list[str]:
        """The keys that were changed last, by whomever; see `Fold.recent_keys`."""
        return self._fold.recent_keys(after)

    async def commit(
        self,
        ops: Sequence[Write],
        *,
        guard_key: str | None = None,
        guard_revision: int | None = None,
        also_guard: Sequence[str] = (),
        expect: Mapping[str, int] | None = None,
        deadline: float | None = None,
    ) -> int:
        """Apply `ops` in one transaction and take them into the fold; returns the transaction's revision.

        `guard_key`: one of the keys put, by default the first (of those deleted, if none is put).
        `guard_revision`: its mod_revision as known to the caller, 0 if it does not exist; by default what the
        fold knows, so the key must be in a table then. `also_guard`: further keys of tables that must be as
        the fold knows them. `expect`: mod_revisions of further keys that the decision rests on. `deadline`:
        seconds on CLOCK_BOOTTIME, by default in `TIMEOUT_S`; while etcd
        is out of reach the commit is tried again until then. For cancellation see the module.

        Raises:
            FenceLost: deposed; see its `committed`.
            CommitConflict: nothing was written; read the tables again and decide anew.
            TransactionTooLarge, CommitsOverloaded, MetadataFull: nothing was written.
            OutcomeUnknown: the deadline passed, or etcd failed, before the outcome was known; it may be
                applied yet.
            EtcdError: any other one: nothing was written.
            ValueError: see `coordd.meta.transaction.plan`.
        """
        if also_guard:
            expect = {**(expect or {}), **{key: self._known(key) for key in also_guard}}
        transaction = self._plan(ops, guard_key, guard_revision, expect or {})
        self._refuse_if_lost()
        until = boottime() + TIMEOUT_S if deadline is None else deadline
        async with self._locks.hold(transaction.keys, deadline=until):
            self._refuse_if_lost()
            return await self._carry_out(transaction, until)

    async def read(self, keys: Sequence[str], *, deadline: float | None = None) -> FencedRead:
        """The values of `keys` at one revision at which the fence held. Safe to cancel and to repeat.

        Raises:
            FenceLost: deposed.
            TransactionTooLarge: too many keys.
            EtcdError: etcd failed, or could not be reached until the deadline.
        """
        if len(keys) > MAX_TXN_OPS:
            raise TransactionTooLarge(f"{len(keys)} keys in one read, etcd takes {MAX_TXN_OPS}")
        self._refuse_if_lost()
        reads = [Get(key) for key in dict.fromkeys(keys)]
        backoff = _Backoff(boottime() + TIMEOUT_S if deadline is None else deadline)
        result = await self._look([self._fence], reads, (), backoff)
        if not result.succeeded:
            self._lose()
            raise FenceLost(committed=False)
        return FencedRead(result.revision, found_values(reads, result))

    async def until_seen(self, conflict: CommitConflict, *, deadline: float) -> None:
        """Wait until the fold knows another state of the key than `conflict` met, to decide upon that.

        `deadline`: seconds on CLOCK_BOOTTIME. Safe to cancel.

        Raises:
            CommitConflict: the same one; no news of the key until then.
        """
        news = asyncio.Event()
        unsubscribe = self._fold.subscribe(conflict.key, lambda _event: news.set())
        try:
            async with asyncio.timeout(deadline - boottime()):
                while self._fold.mod_revision(conflict.key) == conflict.known:
                    news.clear()
                    await news.wait()
        except TimeoutError:
            raise conflict from None
        finally:
            unsubscribe()

    def _plan(
        self,
        ops: Sequence[Write],
        guard_key: str | None,
        guard_revision: int | None,
        expect: Mapping[str, int],
    ) -> Transaction:
        guard = default_guard(ops) if guard_key is None else guard_key
        if guard_revision is None:
            guard_revision = self._known(guard)
        return plan(self._fence, ops, guard_key=guard, guard_revision=guard_revision, expect=expect)

    def _known(self, key: str) -> int:
        """The mod_revision of a table's key, by the fold."""
        if not self._fold.covers(key):
            raise ValueError(f"no table knows of {key!r}: pass its guard_revision")
        return self._fold.mod_revision(key)

    async def _carry_out(self, transaction: Transaction, until: float) -> int:
        """Send the transaction until its outcome is known."""
        backoff = _Backoff(until)
        compares, reads = transaction.compares, transaction.reads
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                result = await self._client.txn(compares, transaction.ops, reads, timeout_s=backoff.attempt_s)
            except (RequestTooLarge, TooManyOperations) as error:
                raise TransactionTooLarge(str(error)) from error
            except NoSpace as error:
                return await self._after_no_space(transaction, unknown, error, backoff)
            except EtcdError as error:
                if unknown is None and isinstance(error, OutcomeUnknown):
                    unknown = error
                if not _may_repeat(error) or not await backoff.sleep():
                    if unknown is None or unknown is error:
                        raise
                    raise unknown from error
                log.warning("metadata commit not confirmed", key=transaction.guard_key, reason=str(error))
            else:
                if result.succeeded:
                    return self._take_in(transaction, result.revision)
                return self._after_loss(transaction.found(result), unknown)

    def _take_in(self, transaction: Transaction, revision: int, *, inferred: bool = False) -> int:
        self._fold.apply_commit(revision, transaction.events(revision), all_of_it=not inferred)
        return revision

    def _after_loss(self, found: Found, unknown: OutcomeUnknown | None) -> int:
        """The transaction lost: to whom? `unknown`: an earlier copy of it may have been applied."""
        applied_at = None if unknown is None else found.applied_at
        if not found.fence_holds:
            self._lose()
            never = unknown is None or found.guard_unchanged
            raise FenceLost(committed=True if applied_at else False if never else None)
        if applied_at is not None:
            return self._take_in(found.transaction, applied_at, inferred=True)
        key, known, actual = found.mismatch
        if unknown is None or found.guard_unchanged:
            raise CommitConflict(key, known=known, actual=actual)
        raise OutcomeUnknown(
            f"{key!r} was overwritten before it was known what became of our write"
        ) from unknown

    async def _after_no_space(
        self, transaction: Transaction, unknown: OutcomeUnknown | None, error: NoSpace, backoff: "_Backoff"
    ) -> int:
        """The quota is used up, yet etcd applies the one put that crosses it: look what is there."""
        try:
            found = await self._find(transaction, backoff)
        except EtcdError as failure:
            raise error from failure
        if not (found.fence_holds and found.all_known):
            return self._after_loss(found, error)
        if unknown is not None:
            raise unknown
        raise MetadataFull("etcd has no space left for metadata", hint=error.hint) from error

    async def _find(self, transaction: Transaction, backoff: "_Backoff") -> Found:
        """Read what a losing transaction would read, by plain reads at one revision.

        Without space even a transaction that only reads is refused (seen with etcd 3.5.1).
        """
        revision = 0
        values: dict[str, KeyValue | None] = {}
        for read in transaction.reads:
            found = await self._client.get(read.key, revision=revision, timeout_s=backoff.attempt_s)
            revision = revision or found.revision
            values[read.key] = found.kv
        return Found(transaction, revision, values)

    async def _look(
        self, compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op], backoff: "_Backoff"
    ) -> TxnResult:
        """A transaction that only reads, repeated until it is answered or time is up."""
        while True:
            try:
                return await self._client.txn(compares, success, failure, timeout_s=backoff.attempt_s)
            except EtcdError as error:
                if not _may_repeat(error) or not await backoff.sleep():
                    raise

    def _refuse_if_lost(self) -> None:
        if self._lost:
            raise FenceLost(committed=False)

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            log.warning("the fence is lost: another replica is active", key=self._fence.key)
            self._on_fence_lost()


class _Backoff:
    """Time of the attempts at one transaction: each gets half of what is left, so that some is left."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._pause_s = RETRY_MIN_S

    @property
    def attempt_s(self) -> float:
        return max((self._until - boottime()) / 2, ATTEMPT_MIN_S)

    async def sleep(self) -> bool:
        """Wait before the next attempt; False, at once, if there is no time for one."""
        if boottime() + self._pause_s >= self._until:
            return False
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, RETRY_MAX_S)
        return True


def _may_repeat(error: EtcdError) -> bool:
    return error.retriable or isinstance(error, OutcomeUnknown)
