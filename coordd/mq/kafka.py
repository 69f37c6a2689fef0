"""Kafka as the message queue: partition 0 of the topic that is named like the channel, no key, no headers.

`AIOProducer` of confluent-kafka 2.16 completes the futures of its messages in whatever thread asks librdkafka
for delivery reports, and by itself it asks only every 0.1 s at best. An event loop does not stand being woken
from another thread like that (asyncio's debug mode raises, uvloop's state can break). So it is given an
executor that runs things at once in the loop's own thread (`InPlace`), where it is used for nothing that
blocks: messages are put into librdkafka's queue, and reports are fetched without waiting, every millisecond
while messages are under way, more seldom while Kafka is away. What does block, taking a client down, is done
in a thread.

What it does not promise: that a message is there only once (librdkafka sends again what was not confirmed),
and that a message which was being sent when its sender gave up does not arrive.

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/kafka/{kafka_producer,kafka_id}.go.
"""

import asyncio
import os
import struct
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Final, ParamSpec, TypeAlias, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.aio import AIOProducer

from coordd.config.message_queue import KafkaSettings
from coordd.log import get_logger
from coordd.mq.errors import QueueClosed, QueueSettingsInvalid
from coordd.mq.kafka_settings import producer_settings
from coordd.mq.kafka_trouble import Trouble

log = get_logger("coordd.mq")

PARTITION: Final = 0
"""All of a channel lies in one partition: its messages have one order."""

DELIVERY_TIMEOUT_S: Final = 5.0
"""How long a message may take. Longer than a change of a partition's leader, and short enough for a client
that waits for DDL to be told the reason instead of timing out."""

POLL_FIRST_S: Final = 0.001
POLL_MAX_S: Final = 0.02
POLL_GROWTH: Final = 1.25
POLL_IDLE_S: Final = 1.0
"""Also without messages: librdkafka keeps what it has to say until it is asked."""

CLOSED_MEANWHILE: Final = "the message queue was closed before it had the message"

P = ParamSpec("P")
T = TypeVar("T")
Delivery: TypeAlias = "asyncio.Future[Message]"


class InPlace(Executor):
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """A future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - whoever waits for the future gets it
            future.set_exception(error)
        return future


def message_id(offset: int) -> bytes:
    """The ID of a message as Milvus stores it: its offset, eight bytes, little-endian."""
    return struct.pack("<q", offset)


class KafkaQueue:
    """Implements `coordd.mq.MessageQueue`. Made in a running event loop; connects in the background."""

    def __init__(self, settings: KafkaSettings, *, delivery_timeout_s: float = DELIVERY_TIMEOUT_S) -> None:
        """Raises QueueSettingsInvalid."""
        self._timeout_s = delivery_timeout_s
        self._trouble = Trouble(", ".join(settings.broker_list))
        config = producer_settings(settings, delivery_timeout_s=delivery_timeout_s)
        try:
            self._producer: AIOProducer | None = AIOProducer(
                {**config, "logger": self._trouble}, executor=InPlace(), batch_size=1, buffer_timeout=0
            )
        except KafkaException as error:
            raise _not_accepted(settings, error) from error
        self._under_way: set[Delivery] = set()
        self._wake = asyncio.Event()
        self._reports = asyncio.get_running_loop().create_task(
            self._fetch_reports(self._producer), name="kafka delivery reports"
        )

    async def send(self, channel: str, payload: bytes) -> bytes:
        """See `MessageQueue.send`.

        Raises:
            MessageQueueError: see `coordd.mq.errors`.
        """
        while True:
            try:
                message = await self._deliver(channel, payload)
            except KafkaException as error:
                failure: KafkaError = error.args[0]
                if failure.code() == KafkaError._PURGE_QUEUE:  # noqa: SLF001 - spelled so
                    continue  # recalled together with the message of a sender that gave up
                raise self._trouble.failure(failure, channel, self._timeout_s) from error
            self._trouble.over()
            return message_id(message.offset() or 0)

    async def _deliver(self, channel: str, payload: bytes) -> Message:
        producer = self._producer
        if producer is None:
            raise QueueClosed("the message queue has been closed")
        try:
            delivery = await self._hand_on(producer, channel, payload)
            if self._producer is not producer:
                raise QueueClosed(CLOSED_MEANWHILE)
            self._under_way.add(delivery)
            self._wake.set()
            try:
                return await delivery
            finally:
                self._under_way.discard(delivery)
        except asyncio.CancelledError:
            # Whoever gave up does not want it sent later. This takes others along; they are sent again.
            await producer.purge(in_flight=False, blocking=False)
            raise
        finally:
            del producer  # an error that somebody keeps would keep it alive

    async def _hand_on(self, producer: AIOProducer, channel: str, payload: bytes) -> Delivery:
        """Put a message into librdkafka's queue; that is done when the first step of this ends."""
        try:
            return await producer.produce(channel, payload, partition=PARTITION)
        except Exception:
            await producer.purge(in_queue=False, in_flight=False)  # it keeps what it could not hand on
            raise

    async def close(self) -> None:
        """See `MessageQueue.close`."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        self._wake.set()
        await asyncio.wait({self._reports})
        for delivery in self._under_way:
            if not delivery.done():
                delivery.set_exception(QueueClosed(CLOSED_MEANWHILE))
        await producer.purge(blocking=False)
        last = [producer]
        del producer
        await asyncio.to_thread(last.clear)  # librdkafka's threads end; that can take a while

    async def _fetch_reports(self, producer: AIOProducer) -> None:
        """Have librdkafka complete the futures in `_under_way`, until `close`."""
        pause_s = POLL_FIRST_S
        while self._producer is producer:
            self._wake.clear()  # before looking: what happens from here on is not missed
            try:
                served = await producer.poll(0)
            except Exception:
                log.exception("fetching kafka's delivery reports failed, going on")
                served = 0
            pause_s = POLL_FIRST_S if served else min(pause_s * POLL_GROWTH, POLL_MAX_S)
            if self._under_way:
                await asyncio.sleep(pause_s)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_IDLE_S):
                    await self._wake.wait()
            pause_s = POLL_FIRST_S


def _not_accepted(settings: KafkaSettings, error: KafkaException) -> QueueSettingsInvalid:
    """librdkafka names no file that it cannot read."""
    ssl = settings.ssl
    files = {
        "kafka.ssl.tlsCert": ssl.tls_cert,
        "kafka.ssl.tlsKey": ssl.tls_key,
        "kafka.ssl.tlsCaCert": ssl.tls_ca_cert,
    }
    unreadable = [f"{key} ({path})" for key, path in files.items() if path and not os.access(path, os.R_OK)]
    if ssl.enabled and unreadable:
        return QueueSettingsInvalid(
            f"the client library of kafka cannot read {', '.join(unreadable)}",
            hint="name PEM files that coordd's user may read",
        )
    return QueueSettingsInvalid(
        f"the client library of kafka does not accept the settings: {error.args[0].str()}",
        hint="check kafka.securityProtocol, kafka.saslMechanisms and the files of kafka.ssl",
    )
