"""Ticks on their way to the queue: what is sent, when nothing is, what one bad channel costs the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coordd.errors import CoorddError
from coordd.ha.tasks import TaskScope
from coordd.pb import msg_pb2
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord.timetick import TickConditions, TimeTicker
from coordd.rootcoord.tso import Wait
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually

A, B = "by-dev-rootcoord-dml_0", "by-dev-rootcoord-dml_1"
FLOOR = 100
PATIENCE_S = 10.0


class NotTaken(CoorddError):
    """The queue is away."""


@dataclass
class Place:
    """All that a ticker sees, open to change; `log` is what readers of the queue get."""

    log: list[tuple[str, int]] = field(default_factory=list)
    proxies: set[int] = field(default_factory=set)
    channels: list[str] = field(default_factory=lambda: [A, B])
    stuck: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    given_up: list[str] = field(default_factory=list)
    may_send_s: float = 1000.0
    enabled: bool = True
    newest: int = FLOOR - 1
    window: bool = True

    def ids(self) -> Iterable[int]:
        return list(self.proxies)

    def has(self, server_id: int) -> bool:
        return server_id in self.proxies

    def timestamps_now(self, count: int) -> int | Wait:
        if not self.window:
            return Wait.WINDOW
        self.newest += count
        return self.newest - count + 1

    async def send(self, channel: str, payload: bytes) -> bytes:
        if channel in self.broken:
            raise NotTaken("connection refused")
        try:
            while channel in self.stuck:  # noqa: ASYNC110 - a test sets it
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.given_up.append(channel)
            raise
        message = msg_pb2.TimeTickMsg.FromString(payload)
        self.log.append((channel, message.base.timestamp))
        return b"id"

    async def close(self) -> None:
        return

    def ticks(self, channel: str) -> list[int]:
        return [tick for name, tick in self.log if name == channel]

    def ticker(self, *, with_queue: bool = True) -> TimeTicker:
        conditions = TickConditions(
            channels=lambda: self.channels,
            may_send_s=lambda: self.may_send_s,
            enabled=lambda: self.enabled,
            interval_s=0.01,
            server_id=4,
        )
        return TimeTicker(
            floor=FLOOR,
            newest=lambda: self.newest,
            timestamps=self,
            proxies=self,
            queue=self if with_queue else None,
            conditions=conditions,
        )


def report(server_id: int, default: int, **channels: int) -> ChannelTimeTickMsg:
    names = {"a": A, "b": B}
    return ChannelTimeTickMsg(
        base=MsgBase(msg_type=MsgType.TimeTick, sourceID=server_id),
        channelNames=[names[name] for name in channels],
        timestamps=list(channels.values()),
        default_timestamp=default,
    )


@asynccontextmanager
async def running(place: Place, *, with_queue: bool = True) -> AsyncIterator[TimeTicker]:
    ticker = place.ticker(with_queue=with_queue)
    async with TaskScope() as scope:
        scope.create_task(ticker.run(), name="ticker")
        yield ticker


async def until(condition: Callable[[], object]) -> None:
    await eventually(condition, PATIENCE_S)


async def some_rounds(place: Place, number: int = 3) -> None:
    """Let that many rounds go by, as the timestamps that they take tell."""
    before = place.newest
    await until(lambda: place.newest >= before + number)


async def test_without_proxies_every_channel_in_use_gets_rising_ticks() -> None:
    place = Place()
    async with running(place):
        await until(lambda: len(place.ticks(A)) >= 3 and len(place.ticks(B)) >= 3)
    for channel in (A, B):
        ticks = place.ticks(channel)
        assert ticks[0] >= FLOOR
        assert ticks == sorted(set(ticks))


async def test_with_no_channel_in_use_nothing_is_sent() -> None:
    place = Place(channels=[])
    async with running(place):
        await some_rounds(place)
        place.channels = [B]
        await until(lambda: place.log)
    assert {name for name, _ in place.log} == {B}


async def test_ticks_wait_for_every_registered_proxy_and_pass_on_what_they_promise() -> None:
    place = Place(proxies={7, 8}, newest=1000)
    async with running(place) as ticker:
        ticker.report(report(7, 500, a=300))
        await some_rounds(place)
        assert place.log == []
        ticker.report(report(8, 400))
        await until(lambda: len(place.log) >= 2)
        await some_rounds(place)
    assert sorted(place.log) == [(A, 300), (B, 400)]


async def test_pitfall_18_a_proxy_that_is_registered_later_is_known_when_it_reports() -> None:
    place = Place()
    async with running(place) as ticker:
        place.proxies.add(7)
        ticker.report(report(7, 500))
        with pytest.raises(MilvusError, match=r"^skip ChannelTimeTickMsg from un-recognized session 8$"):
            ticker.report(report(8, 500))


async def test_a_proxy_whose_session_ended_is_not_waited_for_and_not_known() -> None:
    place = Place(proxies={7, 8}, newest=1000)
    async with running(place) as ticker:
        ticker.report(report(7, 500))
        await some_rounds(place)
        assert place.log == []
        place.proxies.discard(8)
        await until(lambda: place.ticks(A) == [500])
        with pytest.raises(MilvusError, match="un-recognized session 8"):
            ticker.report(report(8, 600))


@pytest.mark.parametrize("source", [-1, 0])
async def test_nobody_reports_in_the_name_of_rootcoord_itself(source: int) -> None:
    with pytest.raises(MilvusError, match=f"un-recognized session {source}"):
        Place().ticker().report(report(source, 10**9))


async def test_what_does_not_fit_together_is_refused_and_what_is_empty_is_not() -> None:
    ticker = Place(proxies={7}).ticker()
    ticker.report(ChannelTimeTickMsg(base=MsgBase(msg_type=MsgType.TimeTick, sourceID=99)))
    bad = report(7, 500, a=3)
    bad.timestamps.append(4)
    with pytest.raises(MilvusError) as caught:
        ticker.report(bad)
    assert caught.value.code == 65535
    assert caught.value.message == "invalid TimeTickMsg, timestamp and channelname size mismatch"


async def test_a_stuck_channel_does_not_stop_the_others() -> None:
    place = Place(stuck={A})
    async with running(place):
        await until(lambda: len(place.ticks(B)) >= 5)
        assert place.ticks(A) == []
        place.stuck.clear()
        await until(lambda: len(place.ticks(A)) >= 3)
    assert place.ticks(A) == sorted(set(place.ticks(A)))


async def test_a_queue_that_is_away_for_a_while_costs_nothing_but_that_while() -> None:
    place = Place(broken={A, B})
    async with running(place) as ticker:
        await some_rounds(place, 5)
        assert place.log == []
        place.broken.clear()
        await until(lambda: place.ticks(A) and place.ticks(B))
        assert ticker.lag_ms.keys() == {A, B}
        await until(lambda: ticker.latency.answered.get(0))


async def test_nothing_is_sent_when_the_guard_does_not_hold() -> None:
    place = Place(may_send_s=0.0)
    async with running(place):
        await asyncio.sleep(0.1)
        assert place.log == []
        place.may_send_s = 1000.0
        await until(lambda: place.log)


async def test_a_send_is_given_up_when_the_guard_runs_out_meanwhile() -> None:
    place = Place(stuck={A}, channels=[A])
    async with running(place):
        await some_rounds(place)
        assert place.given_up == []
        place.may_send_s = 0.0
        await until(lambda: place.given_up == [A])
        place.stuck.clear()
        assert place.log == []


async def test_a_send_goes_on_for_as_long_as_the_guard_is_renewed() -> None:
    place = Place(stuck={A}, channels=[A], may_send_s=5.0)
    async with running(place) as ticker:
        await until(lambda: A in ticker._sending and ticker._sending[A].limit)
        limit = ticker._sending[A].limit
        assert limit is not None
        first = limit.when()
        assert first is not None
        await until(lambda: (limit.when() or 0.0) > first)
        place.stuck.clear()
        await until(lambda: place.log)
    assert place.given_up == []


async def test_without_timestamps_there_is_no_tick() -> None:
    place = Place(window=False)
    async with running(place):
        await asyncio.sleep(0.1)
        assert place.log == []
        place.window = True
        await until(lambda: place.log)


async def test_the_switch_takes_effect_at_once() -> None:
    place = Place()
    async with running(place) as ticker:
        await until(lambda: place.log)
        place.enabled = False
        assert not ticker.sends
        await asyncio.sleep(0.05)
        sent = len(place.log)
        await asyncio.sleep(0.1)
        assert len(place.log) == sent
        place.enabled = True
        await until(lambda: len(place.log) > sent)


async def test_without_a_queue_reports_are_taken_all_the_same() -> None:
    place = Place(proxies={7})
    async with running(place, with_queue=False) as ticker:
        ticker.report(report(7, 500))
        assert not ticker.sends
        assert ticker.has_sent([A], 10**9), "nobody listens"
        with pytest.raises(MilvusError, match="un-recognized session 8"):
            ticker.report(report(8, 500))


async def test_no_tick_reaches_a_message_that_is_being_sent() -> None:
    place = Place()
    async with running(place) as ticker:
        await until(lambda: place.ticks(A))
        with ticker.holds.on([A]) as hold:
            stamp = place.timestamps_now(1)
            assert isinstance(stamp, int)
            hold.check(A, stamp)
            others = len(place.ticks(B))
            await until(lambda: len(place.ticks(B)) >= others + 3)
            assert place.ticks(A)[-1] < stamp
            place.log.append((A, stamp))  # the message
        await until(lambda: ticker.has_sent([A], stamp))
        sent = place.ticks(A)
    assert sent == sorted(set(sent))


async def test_a_message_is_heard_when_the_slowest_channel_has_its_tick() -> None:
    place = Place(stuck={B})
    async with running(place) as ticker:
        stamp = place.timestamps_now(1)
        assert isinstance(stamp, int)
        await until(lambda: ticker.has_sent([A], stamp))
        assert not ticker.has_sent([A, B], stamp)
        place.stuck.clear()
        await until(lambda: ticker.has_sent([A, B], stamp))
        assert max(place.ticks(B)) >= stamp
