"""After a time tick nothing older: what was given up on its way to Kafka comes after no later message."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coordd.mq.errors import QueueUnavailable
from coordd.mq.kafka import KafkaQueue
from tests.support.etcd import eventually
from tests.support.kafka import Broker, kafka_broker
from tests.support.kafka_numbers import (
    CLUSTER_AUTHORIZATION_FAILED,
    NOT_ENOUGH_REPLICAS,
    OLD_EPOCH,
    OUT_OF_ORDER,
)

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
OTHER = "by-dev-rootcoord-dml_1"
BRIEF_S = 0.5


async def in_the_end(queue: KafkaQueue, payload: bytes) -> bytes:
    """The ID, after as many attempts as it takes."""
    while True:
        try:
            return await queue.send(CHANNEL, payload)
        except QueueUnavailable:
            continue


async def on_its_way(
    queue: KafkaQueue, broker: Broker, payload: bytes, channel: str = CHANNEL
) -> "asyncio.Task[bytes]":
    """A `send` that the network has."""
    sent = broker.next_produce()
    task = asyncio.create_task(queue.send(channel, payload), name=f"send {payload!r}")
    await sent
    return task


async def a_drop_then_a_tick(queue: KafkaQueue, broker: Broker) -> None:
    """The drop has to be sent again, but was given up before that is known."""
    broker.refuse = [NOT_ENOUGH_REPLICAS]
    broker.hold_answers()
    drop = await on_its_way(queue, broker, b"a drop")
    drop.cancel()
    await asyncio.wait({drop})
    sent = broker.next_produce()
    tick = asyncio.create_task(queue.send(CHANNEL, b"a tick"), name="a tick")
    await asyncio.wait({sent}, timeout=BRIEF_S)  # it may have to wait for the answer
    broker.release_answers()
    await tick


async def test_what_timed_out_on_its_way_is_refused_when_it_arrives_later(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=BRIEF_S)
        await in_the_end(queue, b"before")
        broker.hold_requests()
        with pytest.raises(QueueUnavailable):
            await queue.send(CHANNEL, b"a drop")
        await in_the_end(queue, b"a tick")
        broker.release_requests()
        await eventually(lambda: OLD_EPOCH in broker.refused)
        await in_the_end(queue, b"the next tick")
        await queue.close()
        assert set(await broker.payloads(CHANNEL, 3)) == {b"before", b"a tick", b"the next tick"}


async def test_what_has_to_be_sent_again_is_not_overtaken(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await queue.send(CHANNEL, b"before")
        await a_drop_then_a_tick(queue, broker)
        await queue.close()
        assert await broker.payloads(CHANNEL, 3) == [b"before", b"a drop", b"a tick"]


async def test_numbers_go_on_after_one_that_was_given_up_before_it_was_sent(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await queue.send(CHANNEL, b"before")
        broker.close_door()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(BRIEF_S):
                await queue.send(CHANNEL, b"given up")
        await broker.open_door()
        await queue.send(CHANNEL, b"later")
        await queue.close()
        assert await broker.payloads(CHANNEL, 2) == [b"before", b"later"]


async def test_the_id_of_a_message_whose_confirmation_got_lost_is_that_of_one_there(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await queue.send(CHANNEL, b"before")
        broker.hold_answers()
        task = await on_its_way(queue, broker, b"unconfirmed")
        broker.close_door()
        broker.release_answers()
        await broker.open_door()
        offset = int.from_bytes(await task, "little", signed=True)
        await queue.close()
        assert (await broker.payloads(CHANNEL, 2))[offset] == b"unconfirmed"


async def test_brokers_that_give_no_numbers_are_used_without(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        broker.no_producer_ids = CLUSTER_AUTHORIZATION_FAILED
        queue = KafkaQueue(broker.settings)
        with capture_logs() as lines:
            assert await queue.send(CHANNEL, b"without") == bytes(8)
            await a_drop_then_a_tick(queue, broker)
        await queue.close()
        assert await broker.payloads(CHANNEL, 3) == [b"without", b"a drop", b"a tick"]
        told = [line["event"] for line in lines if line["log_level"] == "warning"]
        assert told == ["kafka gives no numbers for messages, going on without"]


@pytest.mark.parametrize("code", [OUT_OF_ORDER, OLD_EPOCH])
async def test_a_client_that_the_brokers_refuse_is_replaced(tmp_path: Path, code: int) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await queue.send(CHANNEL, b"before")
        broker.refuse = [code]
        await asyncio.gather(queue.send(CHANNEL, b"x"), queue.send(OTHER, b"y"))
        offset = int.from_bytes(await queue.send(CHANNEL, b"later"), "little")
        await queue.close()
        payloads = await broker.payloads(CHANNEL, 3)
        assert list(dict.fromkeys(payloads)) == [b"before", b"x", b"later"]
        assert payloads[offset] == b"later"
        assert set(await broker.payloads(OTHER, 1)) == {b"y"}


async def test_what_is_on_its_way_is_not_overtaken_by_another_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordd.mq.kafka.REPLACE_AFTER_S", 0)
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await asyncio.gather(queue.send(CHANNEL, b"before"), queue.send(OTHER, b"before"))
        broker.refuse = [OLD_EPOCH]
        broker.hold_answers()
        refused = await on_its_way(queue, broker, b"refused", OTHER)
        broker.hold_requests()
        drop = await on_its_way(queue, broker, b"a drop")
        drop.cancel()
        await asyncio.wait({drop})
        broker.release_answers()
        sent = broker.next_produce()
        tick = asyncio.create_task(queue.send(CHANNEL, b"a tick"), name="a tick")
        await asyncio.wait({sent}, timeout=BRIEF_S)  # by the next client, which may have to wait
        broker.release_requests()
        await asyncio.gather(tick, refused)
        await queue.close()
        assert await broker.payloads(CHANNEL, 3) == [b"before", b"a drop", b"a tick"]
