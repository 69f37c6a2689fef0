"""Sends the time ticks of one term: takes the proxies' reports in, computes rounds, hands ticks to the queue.

A round is due when all proxies have reported since the last one, and every `interval_s` at the latest. Each
tick is sent by a task of its own, so a channel that the queue is slow or unable to take does not stop the
others; it gets its next tick when that task has ended. Nothing queues up, since a later tick says all that an
earlier one did.

A tick is sent only while the serve guard holds, and a send is given up when the guard runs out meanwhile.
Should one arrive late all the same, it is below the successor's ticks and true: at worst a reader sees a
smaller tick after a larger one.

Source of truth: Milvus 2.3.5 internal/rootcoord/{timeticksync,root_coord}.go.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from coordd import clock
from coordd.errors import CoorddError
from coordd.ha.tasks import TaskScope
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.mq.types import MessageQueue
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord.messages import time_tick
from coordd.rootcoord.timetick.holds import DdlHolds
from coordd.rootcoord.timetick.protocol import Report, TimeTicks, UnknownSourceError
from coordd.rootcoord.tso import Wait, physical_of
from coordd.rpc.stats import MethodStats
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.timetick")

SEND_TIMEOUT_S = 10.0
"""A queue that has not taken a tick by then is asked again with a newer one."""
STALLED_S = 120.0
"""Milvus complains as late: as long as the queue is away or a proxy is silent there is nothing to do."""


class Timestamps(Protocol):
    """The oracle of the term, as far as ticks need it."""

    def timestamps_now(self, count: int) -> int | Wait:
        """First of `count` fresh timestamps, or what there is to wait for."""


class RegisteredProxies(Protocol):
    """The proxies that ticks wait for: those with a session now, and those on their way out."""

    def ids(self) -> Iterable[int]:
        """Their server IDs."""

    def has(self, server_id: int) -> bool:
        """Whether this is one of them."""


@dataclass(frozen=True, slots=True)
class TickConditions:
    """What rules a term's ticks from outside.

    `channels`: those in use. `may_send_s`: for how many seconds something may be sent outward, 0 for not
    now. `enabled`: common.ttMsgEnabled. `interval_s`: proxy.timeTickInterval. `server_id`: ours, which ticks
    carry as their source.
    """

    channels: Callable[[], Collection[str]]
    may_send_s: Callable[[], float]
    enabled: Callable[[], bool]
    interval_s: float
    server_id: int


@dataclass(slots=True)
class _Round:
    started: float
    outstanding: int


@dataclass(slots=True)
class _Send:
    """`limit` is None before it has begun; `end_by`: loop time at which it is given up in any case."""

    end_by: float
    limit: asyncio.Timeout | None = None


class TimeTicker:
    """The time ticks of one term. `floor`: the first timestamp that the term may hand out; `newest`: no
    timestamp handed out from now on is at or below it. Without a `queue` nothing is sent.

    Attributes:
        holds: for the senders of DDL messages.
        latency: how long rounds took to be sent to all their channels.
        lag_ms: by channel, how old the newest tick was when the queue had taken it.
    """

    def __init__(
        self,
        *,
        floor: int,
        newest: Callable[[], int],
        timestamps: Timestamps,
        proxies: RegisteredProxies,
        queue: MessageQueue | None,
        conditions: TickConditions,
    ) -> None:
        self.holds = DdlHolds(newest)
        self.latency = MethodStats()
        self.lag_ms: dict[str, float] = {}
        self._ticks = TimeTicks(floor)
        self._timestamps = timestamps
        self._proxies = proxies
        self._queue = queue
        self._conditions = conditions
        self._sending: dict[str, _Send] = {}
        self._due = asyncio.Event()
        self._progress_at = clock.boottime()
        self._trouble = Trouble()

    @property
    def sends(self) -> bool:
        """Whether there are ticks at all, for DDL to wait for."""
        return self._queue is not None and self._conditions.enabled()

    def report(self, message: ChannelTimeTickMsg) -> None:
        """Take a proxy's report in; an empty one says nothing.

        Raises:
            MilvusError: refused, in Milvus' words.
        """
        if not message.channelNames and not message.default_timestamp:
            return
        if len(message.channelNames) != len(message.timestamps):
            raise MilvusError("invalid TimeTickMsg, timestamp and channelname size mismatch")
        server_id, now = message.base.sourceID, clock.boottime()
        if server_id not in self._ticks.proxies or not self._proxies.has(server_id):
            self._ticks.set_proxies(self._proxies.ids(), now)
        promised = dict(zip(message.channelNames, message.timestamps, strict=True))
        try:
            self._ticks.report(server_id, Report(promised, message.default_timestamp), now)
        except UnknownSourceError as error:
            text = f"skip ChannelTimeTickMsg from un-recognized session {server_id}"
            raise MilvusError(text) from error
        if self._ticks.complete:
            self._due.set()

    def silent(self, for_s: float) -> dict[int, tuple[float, bool]]:
        """Registered proxies without a report for longer: for how long, and whether ever in this term."""
        now = clock.boottime()
        self._ticks.set_proxies(self._proxies.ids(), now)
        return self._ticks.silent(now, for_s)

    def has_sent(self, channels: Iterable[str], timestamp: int) -> bool:
        """Whether every channel has got a tick of `timestamp` or above: its readers have then heard all up to
        it. So they have if no ticks are sent at all.
        """
        return not self.sends or all(self._ticks.last_sent(channel) >= timestamp for channel in channels)

    async def run(self) -> None:
        """Task of the term: send ticks until cancelled, whatever becomes of the queue."""
        async with TaskScope() as scope:
            while True:
                await self._until_due()
                self._limit_sends(self._sending)
                self._complain_if_stalled()
                self._round(scope)

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(self._conditions.interval_s):
                await self._due.wait()
        except TimeoutError:
            pass
        self._due.clear()

    def _round(self, scope: TaskScope) -> None:
        """Order the ticks that are due. Nothing in here waits: what is promised and what is sent belong to
        one moment."""
        self._ticks.set_proxies(self._proxies.ids(), clock.boottime())
        if self._queue is None or not self._conditions.enabled() or self._conditions.may_send_s() <= 0:
            return
        fresh = self._timestamps.timestamps_now(1)
        if isinstance(fresh, Wait):
            return
        idle = [channel for channel in self._conditions.channels() if channel not in self._sending]
        ticks = self._ticks.round(self.holds.report(fresh), idle)
        this = _Round(clock.boottime(), len(ticks))
        for channel, tick in ticks.items():
            self._sending[channel] = _Send(asyncio.get_running_loop().time() + SEND_TIMEOUT_S)
            scope.create_task(self._send(self._queue, channel, tick, this), name=f"time tick:{channel}")

    async def _send(self, queue: MessageQueue, channel: str, tick: int, part_of: _Round) -> None:
        try:
            if self._conditions.may_send_s() <= 0:
                return
            async with asyncio.timeout(None) as limit:
                self._sending[channel].limit = limit
                self._limit_sends((channel,))
                await queue.send(channel, time_tick(tick, server_id=self._conditions.server_id))
        except (CoorddError, TimeoutError) as error:
            if self._trouble.is_news(error):
                log.warning("a time tick was not sent", channel=channel, reason=str(error) or "no answer")
        else:
            self._ticks.sent(channel, tick)
            self.lag_ms[channel] = float(clock.unix_ms() - physical_of(tick))
            self._progress_at = clock.boottime()
            part_of.outstanding -= 1
            if not part_of.outstanding:
                self._trouble.over()
                self.latency.answer(0, clock.boottime() - part_of.started)
        finally:
            del self._sending[channel]

    def _limit_sends(self, channels: Iterable[str]) -> None:
        """The sends to these channels may go on for as long as the guard does now."""
        until = asyncio.get_running_loop().time() + self._conditions.may_send_s()
        for send in map(self._sending.__getitem__, channels):
            if send.limit is not None and not send.limit.expired():
                send.limit.reschedule(min(until, send.end_by))

    def _complain_if_stalled(self) -> None:
        now = clock.boottime()
        if not self.sends or not self._conditions.channels():
            self._progress_at = now
        elif now - self._progress_at >= STALLED_S:
            self._progress_at = now
            log.warning(
                f"RootCoord haven't synchronized the time tick for {STALLED_S / 60:f} minutes",  # noqa: G004
                proxies_waited_for=self._ticks.holding_back,
            )
