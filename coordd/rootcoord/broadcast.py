"""DDL messages on the physical channels: sent below the ticks, and only while this replica may act.

Source of truth: Milvus 2.3.5 internal/rootcoord/{timeticksync,broker}.go.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from coordd.clock import boottime
from coordd.mq.types import MessageQueue
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.timetick import TimeTicker


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
            TimeoutError: not until then, as far as is known.
        """
        with self._ticker.holds.on(channels) as hold:
            timestamp = stamp or await self._oracle.wait_timestamps(1, deadline)
            if not stamp:
                for channel in channels:
                    hold.check(channel, timestamp)
            payload = build(timestamp)
            limit_s = min(deadline - boottime(), self._may_send_s())
            if limit_s <= 0:
                raise TermOverError("this rootcoord cannot confirm that it still leads")
            ids = await self._send_all(list(channels), payload, limit_s)
        return timestamp, ids

    async def _send_all(self, channels: Sequence[str], payload: bytes, limit_s: float) -> dict[str, bytes]:
        async with asyncio.timeout(limit_s):
            sends = [self._queue.send(channel, payload) for channel in channels]
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return {
            channel: outcome
            for channel, outcome in zip(channels, outcomes, strict=True)
            if isinstance(outcome, bytes)
        }

    async def until_heard(self, channels: Collection[str], timestamp: int, *, deadline: float) -> None:
        """Wait until a tick has told the readers of the channels that they have all up to `timestamp`.

        Raises:
            TimeoutError: not until then.
            TermOverError: not in this term.
        """
        await self._ticker.until_sent(channels, timestamp, deadline)
