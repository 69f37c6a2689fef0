"""Messages on channels while the queue, the guard or the caller's patience runs out."""

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.mq.errors import MessageRefused, QueueUnavailable
from coordd.rootcoord import broadcast as module
from coordd.rootcoord.broadcast import Broadcaster
from coordd.rootcoord.oracle import TermOverError
from tests.support.etcd import eventually

LONG_S, SHORT_S = 10.0, 0.05


@dataclass
class Queue:
    """Confirms nothing before `answers` is set; `errors` by channel."""

    answers: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[tuple[str, bytes]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    given_up: int = 0

    async def send(self, channel: str, payload: bytes) -> bytes:
        self.sent.append((channel, payload))
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if channel in self.errors:
            raise self.errors[channel]
        return channel.encode()

    async def close(self) -> None:
        return


class Ticker:
    """Holds nothing back, and looks at nothing."""

    def __init__(self) -> None:
        self.holds = self
        self.held = 0

    @contextmanager
    def on(self, _channels: Any) -> Any:
        self.held += 1
        yield SimpleNamespace(check=lambda _channel, _timestamp: None)
        self.held -= 1


@dataclass
class Place:
    queue: Queue = field(default_factory=Queue)
    guard_s: float = LONG_S

    async def send(self, *channels: str, within_s: float = LONG_S) -> tuple[int, dict[str, bytes]]:
        async def wait_timestamps(_count: int, _deadline: float) -> int:
            return 17

        ticker: Any = Ticker()
        oracle: Any = SimpleNamespace(wait_timestamps=wait_timestamps)
        sender = Broadcaster(self.queue, ticker, oracle, lambda: self.guard_s)
        return await sender.send(
            channels, lambda timestamp: b"%d" % timestamp, deadline=boottime() + within_s
        )


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUARD_EVERY_S", 0.005)


async def test_one_message_to_all() -> None:
    place = Place()
    place.queue.answers.set()
    assert await place.send("a", "b") == (17, {"a": b"a", "b": b"b"})
    assert sorted(place.queue.sent) == [("a", b"17"), ("b", b"17")]


async def test_a_queue_that_does_not_confirm_is_named_when_the_callers_time_is_up() -> None:
    place = Place()
    with pytest.raises(QueueUnavailable, match="has not confirmed a message for a, b in time") as caught:
        await place.send("a", "b", within_s=SHORT_S)
    assert caught.value.retriable
    assert place.queue.given_up == 2


async def test_its_own_error_goes_first() -> None:
    place = Place()
    place.queue.errors["b"] = MessageRefused("too large")
    place.queue.answers.set()
    with pytest.raises(MessageRefused):
        await place.send("a", "b")


async def test_when_the_guard_ends_it_is_given_up_for_the_term() -> None:
    place = Place()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(refused(place), name="send")
        await eventually(lambda: place.queue.sent)
        place.guard_s = 0.0
        await sending
    assert place.queue.given_up == 1


async def refused(place: Place) -> None:
    with pytest.raises(TermOverError):
        await place.send("a")


async def test_it_goes_on_for_as_long_as_the_guard_is_renewed() -> None:
    place = Place(guard_s=SHORT_S)
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(place.send("a"), name="send")
        await asyncio.sleep(4 * SHORT_S)
        place.queue.answers.set()
        assert await sending == (17, {"a": b"a"})


async def test_without_a_guard_nothing_is_sent() -> None:
    place = Place(guard_s=0.0)
    with pytest.raises(TermOverError):
        await place.send("a")
    assert place.queue.sent == []
