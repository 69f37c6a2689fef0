"""DDL messages on the physical channels: sent below the ticks, and only while this replica may act.

A message is under way for as long as the serve guard is renewed, like a tick. A queue that is away is told as
what it is: its own error after its own delivery timeout, or `QueueUnavailable` when the caller's time is up
first; both are retriable, so a proxy asks again.

Source of truth: Milvus 2.3.5 internal/rootcoord/{timeticksync,broker}.go.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from coordd.clock import boottime
from coordd.mq.errors import QueueUnavailable
from coordd.mq.types import MessageQueue
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.timetick import TimeTicker

GUARD_EVERY_S = 0.1
"""How often a message under way looks how long the guard holds; a small part of the guard's length."""


class Broadcaster:
    """Sends for one term. `may_send_s`: for how many seconds it may act outward, 0 for not now."""

    def __init__(
        self, queue: MessageQueue, ticker: TimeTicker, oracle: Oracle, may_send_s: Callable[[], float]
    ) -> None:
        self._queue = queue
        self._ticker = ticker
        self._oracle = oracle
        self._may_send_s = may_send_s

    async def send(
        self, channels: Collection[str], build: Callable[[int], bytes], *, deadline: float, stamp: int = 0
    ) -> tuple[int, dict[str, bytes]]:
        """Send one message to all channels; returns its timestamp and its ID on each channel.

        `build` makes it from its timestamp: a fresh one, or `stamp` if that is set, which comes from another
        cluster and may be below the ticks. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            MessageQueueError: a channel may not have it, others may.
            NotHandedOutError: no timestamp until then.
            TermOverError: this replica may not act any more.
        """
        with self._ticker.holds.on(channels) as hold:
            timestamp = stamp or await self._oracle.wait_timestamps(1, deadline)
            if not stamp:
                for channel in channels:
                    hold.check(channel, timestamp)
            payload = build(timestamp)
            if self._limit_s(deadline) <= 0:
                raise self._not_sent(channels)
            try:
                ids = await self._send_all(list(channels), payload, deadline)
            except TimeoutError as error:
                raise self._not_sent(channels) from error
        return timestamp, ids

    def _limit_s(self, deadline: float) -> float:
        return min(deadline - boottime(), self._may_send_s())

    def _not_sent(self, channels: Collection[str]) -> TermOverError | QueueUnavailable:
        if self._may_send_s() <= 0:
            return TermOverError("this rootcoord cannot confirm that it still leads")
        return QueueUnavailable(
            f"the message queue has not confirmed a message for {', '.join(channels)} in time",
            hint="check that it runs and can be reached from here; the call can be repeated",
        )

    async def _send_all(self, channels: Sequence[str], payload: bytes, deadline: float) -> dict[str, bytes]:
        """Raises TimeoutError when the caller's time is up, or the guard's."""
        async with asyncio.timeout(self._limit_s(deadline)) as limit, asyncio.TaskGroup() as group:
            guarding = group.create_task(self._follow_guard(limit, deadline), name="rootcoord:send guard")
            sends = [self._queue.send(channel, payload) for channel in channels]
            try:
                outcomes = await asyncio.gather(*sends, return_exceptions=True)
            finally:
                guarding.cancel()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {
            channel: outcome
            for channel, outcome in zip(channels, outcomes, strict=True)
            if isinstance(outcome, bytes)
        }

    async def _follow_guard(self, limit: asyncio.Timeout, deadline: float) -> None:
        """What is under way may go on for as long as the guard does now."""
        while not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time() + self._limit_s(deadline))
            await asyncio.sleep(GUARD_EVERY_S)

    async def until_heard(self, channels: Collection[str], timestamp: int, *, deadline: float) -> None:
        """Wait until a tick has told the readers of the channels that they have all up to `timestamp`.

        Raises:
            TimeoutError: not until then.
            TermOverError: not in this term.
        """
        await self._ticker.until_sent(channels, timestamp, deadline)
