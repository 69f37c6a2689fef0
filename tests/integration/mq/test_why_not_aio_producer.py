"""Why `confluent_kafka.aio.AIOProducer` is not used (ADR 10). When one of these fails, it has been mended.

Of a pool's threads these tests allow one course of things that is always possible, so they do not depend on
which one it happens to be.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.aio import AIOProducer

from tests.support.kafka import kafka_broker

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
NOWHERE = "127.0.0.1:1"
BRIEF_S = 0.2
LONGER_S = 1.0


class WhileTheLoopWaits(ThreadPoolExecutor):
    """A thread that works only while the event loop's own does nothing.

    Attributes:
        delivery: what is looked at afterwards.
        completed: it was done then, so the loop cannot have done it.
    """

    delivery: "asyncio.Future[Any] | None" = None
    completed = False

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        working = super().submit(work, *args, **kwargs)
        wait([working])
        self.completed |= self.delivery is not None and self.delivery.done()
        return working


class SecondFirst(ThreadPoolExecutor):
    """Two threads, of which the one that is asked first comes to its work after the other."""

    def __init__(self) -> None:
        super().__init__(2)
        self.asked = 0
        self._second_is_done = Event()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.asked += 1
        turn = self.asked

        def in_turn() -> Any:
            if turn == 1:
                self._second_is_done.wait(LONGER_S)  # in vain if the second is kept back for it
            try:
                return work(*args, **kwargs)
            finally:
                if turn == 2:
                    self._second_is_done.set()

        return super().submit(in_turn)


def producer(address: str, pool: ThreadPoolExecutor | None = None) -> AIOProducer:
    """One that sends each message at once, and never gives it up."""
    settings = {"bootstrap.servers": address, "linger.ms": 0, "message.timeout.ms": 0, "log_level": 0}
    return AIOProducer(settings, executor=pool, batch_size=1, buffer_timeout=0)


async def test_futures_of_the_loop_are_completed_in_other_threads() -> None:
    pool = WhileTheLoopWaits(1)
    aio = producer(NOWHERE, pool)
    pool.delivery = await aio.produce(CHANNEL, b"x", partition=0)
    assert not pool.completed
    await aio.purge()
    await aio.poll()
    assert pool.completed
    assert isinstance(pool.delivery.exception(), KafkaException)
    await aio.close()


async def test_messages_change_places_and_nobody_asks_for_reports(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        pool = SecondFirst()
        aio = producer(broker.address, pool)
        async with asyncio.TaskGroup() as group:
            sending = [
                group.create_task(aio.produce(CHANNEL, payload, partition=0), name=f"send {payload!r}")
                for payload in (b"first", b"second")
            ]
        assert await broker.payloads(CHANNEL, 2) == [b"second", b"first"]
        assert pool.asked == len(sending)  # for nothing since: what the broker has said is not fetched
        await aio.close()
        assert [task.result().done() for task in sending] == [True, True]


async def test_closing_waits_for_ever() -> None:
    aio = producer(NOWHERE)
    delivery = await aio.produce(CHANNEL, b"x", partition=0)
    closing = asyncio.create_task(aio.close(), name="close")
    await asyncio.wait({closing}, timeout=BRIEF_S)
    assert not closing.done()
    await aio.purge()
    await closing
    assert isinstance(delivery.exception(), KafkaException)
