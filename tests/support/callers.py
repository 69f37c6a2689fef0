"""Clients that ask a RootCoord for timestamps, one call after another: each failure counts, none is repeated.

They differ in what they do when the ACTIVE key changes hands: move at once, move a while later, or stay with
the connection until it ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from coordd.clock import boottime
from coordd.ha.session import SessionRecord
from tests.support.blocks import InOrderOfTime, Timestamps
from tests.support.history import Call, History, Kind, Outcome
from tests.support.rootcoord_client import RootCoordClient
from tests.support.workload import ActiveKey

PAUSE_S = 0.02
CALL_TIMEOUT_S = 30.0
"""A call that takes so long was lost, however busy the machine is."""


@dataclass(eq=False)
class Caller:
    """One client. `stays_s`: how long it goes on as before when another holds the key; None: for ever.

    Attributes:
        ended_with: the error that ended a client which stays.
    """

    number: int
    stays_s: float | None
    named: bool
    answered: list[Call] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended_with: grpc.StatusCode | None = None

    def answers_of(self, server_id: int) -> int:
        """How many calls were answered that it addressed to this server."""
        return sum(call.server_id == server_id for call in self.answered)


class Callers:
    """All clients of one test."""

    def __init__(self, active: ActiveKey) -> None:
        self.all: list[Caller] = []
        self._active = active
        self._history = History()
        self._stopping = False

    def add(self, count: int, *, stays_s: float | None) -> None:
        """Every second one says whom it means."""
        for _ in range(count):
            number = len(self.all)
            self.all.append(Caller(number, stays_s, named=number % 2 == 1))

    @property
    def failures(self) -> list[str]:
        """What went wrong; of a client that stays for ever the last call does not count."""
        return [failure for caller in self.all for failure in caller.failures]

    def stop(self) -> None:
        """Each ends after the call it is at."""
        self._stopping = True

    def judge(self) -> int:
        """All answers in the order of time; returns how many there are.

        Raises:
            Violation: the timestamps do not strictly increase.
        """
        ordered, timestamps = InOrderOfTime(), Timestamps()
        for call in self._history.take().calls:
            ordered.add(call)
        for is_end, call in ordered.before(1 << 63):
            if is_end:
                timestamps.returned(call)
            else:
                timestamps.invoked(call)
        return timestamps.answered

    async def run(self) -> None:
        """Task: until `stop`, or until every connection has ended."""
        async with asyncio.TaskGroup() as group:
            for caller in self.all:
                group.create_task(self._run(caller), name=f"caller {caller.number}")

    async def _run(self, caller: Caller) -> None:
        while not self._stopping and caller.ended_with is None:
            while (target := self._active.holder) is None:
                await self._active.change(1.0)
            named = target.server_id if caller.named else None
            async with RootCoordClient(target.address, named) as rootcoord:
                await self._call_on(caller, target, rootcoord)

    async def _call_on(self, caller: Caller, target: SessionRecord, rootcoord: RootCoordClient) -> None:
        """Until it is time to move, or the first failure."""
        other_since: float | None = None
        while not self._stopping:
            holder = self._active.holder
            if holder is None or holder.server_id == target.server_id:
                other_since = None
            elif other_since is None:
                other_since = boottime()
            if (
                caller.stays_s is not None
                and other_since is not None
                and boottime() - other_since >= caller.stays_s
            ):
                return
            asked_at = boottime()
            begun = self._history.begin(caller.number, Kind.TIMESTAMPS, "", target.server_id)
            try:
                first, count = await rootcoord.alloc_timestamp(2, CALL_TIMEOUT_S)
            except (grpc.aio.AioRpcError, AssertionError) as error:
                self._history.end(begun, Outcome.UNKNOWN, detail=str(error))
                if caller.stays_s is None and isinstance(error, grpc.aio.AioRpcError):
                    caller.ended_with = error.code()
                else:
                    caller.failures.append(self._describe(caller, target, error, boottime() - asked_at))
                return
            caller.answered.append(self._history.end(begun, Outcome.OK, first=first, count=count))
            await asyncio.sleep(PAUSE_S)

    def _describe(self, caller: Caller, target: SessionRecord, error: Exception, took_s: float) -> str:
        holder = self._active.holder.server_id if self._active.holder else None
        return (
            f"{datetime.now(UTC):%H:%M:%S.%f} caller {caller.number} ({len(caller.answered)} answers) at"
            f" {target.server_id}, {holder} is active, after {took_s:.3f} s: {error}"
        )


@asynccontextmanager
async def calling(active: ActiveKey, callers: Callers) -> AsyncIterator[None]:
    """The clients at work; at the end of the scope they are stopped, and their answers judged."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(active.follow(), name="active key")
        clients = group.create_task(callers.run(), name="callers")
        try:
            yield
            callers.stop()
            async with asyncio.timeout(2 * CALL_TIMEOUT_S):
                await asyncio.wait([clients])
        finally:
            clients.cancel()
            following.cancel()
    assert callers.judge() == sum(len(caller.answered) for caller in callers.all)
