"""Metadata changes of one term: decide, commit, decide again if the state was another.

Milvus' RootCoord has one queue and one worker for all of them, and the next change waits until the one before
has ended in all components. Here only transactions take turns, in order of arrival, so each is decided upon
the outcome of the one before. Changes that need not see each other, such as those of different collections,
share a turn and a transaction if they wait at the same time (`coordd.rootcoord.batch`).

The tables are the state; a change is a transaction under the fence that also rewrites the mark
(`coordd.meta.tables.ddl_mark`). Turns alone would not do: a change whose caller went away, or whose outcome
stayed unknown, may still be on its way to etcd when the next has its turn. So that one first rewrites the
mark alone: the late one is then in etcd, and is waited for, or never will be. So what is answered after an
unknown outcome holds, even if it took no write.

**Repeated calls.** A term may end between a change and its answer; the caller then repeats the call, which in
Milvus is refused if it is no idempotent one (the database exists already). So the mark also carries which
calls of that kind were carried out last. One that is refused, is found there, and has what it asks for, was
carried out by an earlier term, or by this one without knowing it: it is answered with success. The clients of
Milvus repeat a call byte for byte, with the ID that it has of its own; another call for the same is refused.
Of a call that makes several changes each is known by itself: its repetition goes on where it was broken off.

Not promised: that a change whose outcome is unknown shows in the tables at once; it does when the watch
tells of it.

Source of truth: Milvus 2.3.5 internal/rootcoord/scheduler.go.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd import Put
from coordd.etcd.errors import OutcomeUnknown
from coordd.log import get_logger
from coordd.meta.commit import CommitConflict, CommitsOverloaded, FencedCommitter
from coordd.meta.key_locks import KeyLocks
from coordd.meta.tables.ddl_mark import CALLS_KEPT_S, DdlMark
from coordd.meta.transaction import Write
from coordd.rootcoord.batch import About, Batch, Chosen, Decide, Member, NotTaken, choose
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.tso import physical_of
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.ddl")

QUEUE_MAX = 10_240
"""Changes that wait for their turn; Milvus' queue is as long."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is refused when it is repeated, though it has been carried out.

    `fingerprint`: what it is recognised by. `holds`: whether what it asks for is so, by the tables. `more`:
    the call makes further changes after this one, may be broken off in between, and `holds` is of this one.
    """

    fingerprint: str
    holds: Callable[[], bool]
    more: bool = False


class Changes(Protocol):
    """What carries changes out: each in a turn of its own (`Ddl`), or in one turn for all (`Turn`)."""

    async def carry_out(self, decide: Decide, *, deadline: float, asked: Asked | None = None) -> int:
        """See `Ddl.carry_out`."""


class Ddl:
    """The changes of one term."""

    def __init__(self, committer: FencedCommitter, oracle: Oracle, mark: DdlMark) -> None:
        self._committer = committer
        self._oracle = oracle
        self._mark = mark
        self._turns = KeyLocks(QUEUE_MAX)
        self._gathering: Batch | None = None  # waits for its turn, and may be joined
        self._numbers = count()  # of those who share turns
        self._settled = True  # no transaction of ours may still be on its way
        self._inherited = mark.calls
        self._unsure: set[str] = set()  # calls that were broken off, or whose outcome was not known

    async def carry_out(self, decide: Decide, *, deadline: float, asked: Asked | None = None) -> int:
        """Commit what `decide` says; returns the revision, 0 if there was nothing to write.

        `decide` gets a stamp of its own each time it is asked. `deadline`: seconds on CLOCK_BOOTTIME.
        `asked`: the call that asks for the change, if its repetition is to be known. May be cancelled at any
        time: the change is then made whole, or not at all.

        Raises:
            CommitsOverloaded: no turn until then.
            NotHandedOutError: no timestamp or ID until then; a TermOverError of these: none any more.
            CommitConflict: somebody else wrote the same keys, and the watch has not told what.
            FenceLost, OutcomeUnknown, EtcdError, TransactionTooLarge: see `FencedCommitter.commit`.
            Exception: what `decide` raises; but not a refusal of what this very call has made.
        """
        async with self._turns.hold((self._mark.key,), deadline=deadline):
            return await self._until_decided(decide, deadline, asked)

    async def carry_out_beside(self, decide: Decide, *, about: About, deadline: float) -> int:
        """As `carry_out`, perhaps in one transaction with changes about something else.

        If it is cancelled before it has its turn nothing is done. Raises what `carry_out` does.
        """
        number = next(self._numbers)
        while True:
            batch = self._gathering
            if batch is None or not batch.takes(deadline):
                return await self._lead(decide, about, deadline, number)
            member = batch.join(decide, about, deadline, number)
            try:
                return await member.outcome
            except NotTaken:
                log.debug("a change waits for another turn")

    @asynccontextmanager
    async def turn(self, *, deadline: float) -> AsyncIterator["Turn"]:
        """Several changes, none of anybody else in between; only as many as others can wait for.

        `deadline`: for the turn, in seconds on CLOCK_BOOTTIME. To enter the block raises

        CommitsOverloaded: no turn until then.
        """
        async with self._turns.hold((self._mark.key,), deadline=deadline):
            yield Turn(self._until_decided)

    async def _lead(self, decide: Decide, about: About, deadline: float, number: int) -> int:
        """Wait for a turn, and carry out with it who has come to share it.

        Who is left wait for another turn: it is not for this caller to wait for them.
        """
        batch = self._gathering = Batch()
        member = batch.join(decide, about, deadline, number)
        try:
            async with self._turns.hold((self._mark.key,), deadline=deadline):
                self._close(batch)
                while not member.outcome.done():
                    await self._share(batch)
                batch.dissolve()  # in time to join those whose turn is next
        finally:
            self._close(batch)
            batch.dissolve()
        return await member.outcome

    def _close(self, batch: Batch) -> None:
        if self._gathering is batch:
            self._gathering = None

    async def _share(self, batch: Batch) -> None:
        """Make one transaction of those who still wait, or of as many as it takes, the first at least.

        If the metadata is not as it was known none is made, and none of them told.
        """
        now = boottime()
        for member in batch.members:
            if member.deadline <= now:
                member.fail(CommitsOverloaded("no turn for the change in time"))
        waiting = batch.waiting()
        if not waiting:
            return
        deadline = min([member.deadline for member in waiting])
        try:
            if not self._settled:
                await self._commit((), await self._stamp(deadline), deadline)
            stamps = [await self._stamp(deadline) for _ in waiting]
            chosen = choose(waiting, stamps)
            if chosen.taken:
                await self._commit_together(chosen, stamps[-1], deadline)
        except CommitConflict as conflict:
            log.warning("metadata is not as it was known, deciding again", reason=str(conflict))
            try:
                await self._committer.until_seen(conflict, deadline=deadline)
            except CommitConflict as error:
                _all_failed(waiting, error)
        except Exception as error:  # noqa: BLE001 - told to all who wait, whatever it is
            _all_failed(waiting, error)

    async def _commit_together(self, chosen: Chosen, stamp: Stamp, deadline: float) -> None:
        """Commit what was chosen, and tell those it concerns.

        Raises:
            CommitConflict: nothing was written, nobody was told.
        """
        try:
            revision = await self._commit(chosen.writes, stamp, deadline, also_guard=chosen.guards)
        except CommitConflict:
            raise
        except Exception as error:  # noqa: BLE001 - told to those it concerns, whatever it is
            _all_failed(chosen.taken, error)
        except BaseException:
            _all_failed(chosen.taken, OutcomeUnknown("given up before it was known whether it was written"))
            raise
        else:
            for member in chosen.taken:
                member.succeed(revision)

    async def _until_decided(self, decide: Decide, deadline: float, asked: Asked | None) -> int:
        while True:
            try:
                return await self._attempt(decide, deadline, asked)
            except CommitConflict as conflict:
                log.warning("metadata is not as it was known, deciding again", reason=str(conflict))
                await self._committer.until_seen(conflict, deadline=deadline)

    def is_repetition(self, asked: Asked, timestamp: int) -> bool:
        """Whether this very call was carried out, and its caller need not have learnt of it.

        That is so if an earlier term did it, or this one in part or without knowing the outcome, less than
        `CALLS_KEPT_S` before `timestamp` (hybrid), and if what it asks for is still so.
        """
        made_s = self._inherited.get(asked.fingerprint)
        if made_s is None and asked.fingerprint in self._unsure:
            made_s = self._mark.calls.get(asked.fingerprint)
        recent = made_s is not None and _seconds(timestamp) - made_s <= CALLS_KEPT_S
        return recent and asked.holds()

    async def _attempt(self, decide: Decide, deadline: float, asked: Asked | None) -> int:
        if not self._settled:
            await self._commit((), await self._stamp(deadline), deadline)
        stamp = await self._stamp(deadline)
        try:
            writes = decide(stamp)
        except MilvusError as refusal:
            if asked is None or not self.is_repetition(asked, stamp.timestamp):
                raise
            log.info("a repeated call finds what it has made", refusal=str(refusal))
            return 0
        return await self._commit(writes, stamp, deadline, asked) if writes else 0

    async def _stamp(self, deadline: float) -> Stamp:
        return Stamp(
            timestamp=await self._oracle.wait_timestamps(1, deadline),
            id=await self._oracle.wait_ids(1, deadline),
        )

    async def _commit(
        self,
        writes: Sequence[Write],
        stamp: Stamp,
        deadline: float,
        asked: Asked | None = None,
        *,
        also_guard: Sequence[str] = (),
    ) -> int:
        """Commit the writes and the mark. Up to the transaction nothing here waits: the decision is fresh."""
        call, more = (asked.fingerprint, asked.more) if asked else ("", False)
        value = self._mark.next_value(stamp.timestamp, _seconds(stamp.timestamp), call)
        expect = {self._mark.key: self._mark.revision}
        settled, self._settled = self._settled, False
        unsure = set(self._unsure)
        self._unsure |= {call} - {""}
        try:
            revision = await self._committer.commit(
                [*writes, Put(self._mark.key, value)],
                also_guard=also_guard,
                expect=expect,
                deadline=deadline,
            )
        except OutcomeUnknown:
            raise
        except CoorddError:  # nothing was written
            self._settled = settled
            self._unsure = unsure
            raise
        self._settled = True
        if not more:
            self._unsure.discard(call)
        self._unsure &= self._mark.calls.keys()  # what was under way is in the mark now, or never will be
        return revision


class Turn:
    """The changes of one turn; of no use after it."""

    def __init__(self, do: Callable[[Decide, float, Asked | None], Awaitable[int]]) -> None:
        self._do = do

    async def carry_out(self, decide: Decide, *, deadline: float, asked: Asked | None = None) -> int:
        """As `Ddl.carry_out`; `deadline` is for this change."""
        return await self._do(decide, deadline, asked)


def _all_failed(members: Sequence[Member], error: Exception) -> None:
    for member in members:
        member.fail(error)


def _seconds(timestamp: int) -> int:
    """Unix seconds of a hybrid timestamp."""
    return physical_of(timestamp) // 1000
