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
        """Raises TimeoutError when the caller's time is up, or the guard's; what is under way is given up
        then. Until then it goes on for as long as the guard is renewed."""
        loop = asyncio.get_running_loop()
        sends = [
            loop.create_task(self._queue.send(channel, payload), name=f"message:{channel}")
            for channel in channels
        ]
        under_way: set[asyncio.Task[bytes]] = set(sends)
        try:
            while under_way:
                limit_s = self._limit_s(deadline)
                if limit_s <= 0:
                    raise TimeoutError
                _done, under_way = await asyncio.wait(under_way, timeout=min(limit_s, GUARD_EVERY_S))
        finally:
            for send in under_way:
                send.cancel()
            if under_way:
                await asyncio.wait(under_way)  # what was not given to the network certainly will not be
            ended = [send for send in sends if send.done() and not send.cancelled()]
            failures = [error for send in ended if (error := send.exception()) is not None]
        if failures:
            raise failures[0]
        return {channel: send.result() for channel, send in zip(channels, sends, strict=True)}

    def heard(self, channels: Collection[str], timestamp: int) -> bool:
        """Whether a tick has told the readers of the channels that they have all up to `timestamp`."""
        return self._ticker.has_sent(channels, timestamp)
