"""Kafka as the message queue: partition 0 of the topic that is named like the channel, no key, no headers.

librdkafka works in threads of its own, and calls nobody back from there: delivery reports wait until they are
fetched, and are given to their callbacks by the thread that fetches. Here that is the event loop's own, which
does nothing that blocks: messages are put into librdkafka's queue, and reports are fetched without waiting,
every millisecond while messages are under way, more seldom while Kafka is away. What does block, taking a
client down, is done in a thread.

What it does not promise: that a message is there only once (librdkafka sends again what was not confirmed),
and that a message which was being sent when its sender gave up does not arrive.

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/kafka/{kafka_producer,kafka_id}.go.
"""

import asyncio
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer

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

Delivery: TypeAlias = "asyncio.Future[Message]"


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
            self._producer: Producer | None = Producer({**config, "logger": self._trouble})
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
        delivery: Delivery = asyncio.get_running_loop().create_future()
        try:
            producer.produce(channel, payload, partition=PARTITION, on_delivery=_reporter(delivery))
            self._under_way.add(delivery)
            self._wake.set()
            try:
                return await delivery
            finally:
                self._under_way.discard(delivery)
        except BufferError as error:
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from error  # noqa: SLF001 - spelled so
        except asyncio.CancelledError:
            # Whoever gave up does not want it sent later. This takes others along; they are sent again.
            producer.purge(in_flight=False, blocking=False)
            raise
        finally:
            del producer  # an error that somebody keeps would keep it alive

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
        producer.purge(blocking=False)
        last = [producer]
        del producer
        await asyncio.to_thread(last.clear)  # librdkafka's threads end; that can take a while

    async def _fetch_reports(self, producer: Producer) -> None:
        """Have librdkafka complete the futures in `_under_way`, until `close`."""
        pause_s = POLL_FIRST_S
        while self._producer is producer:
            self._wake.clear()  # before looking: what happens from here on is not missed
            try:
                served = producer.poll(0)
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


def _reporter(delivery: Delivery) -> Callable[[KafkaError | None, Message], None]:
    """What librdkafka calls with the report, while `poll` runs."""

    def report(error: KafkaError | None, message: Message) -> None:
        if delivery.done():
            return  # its sender gave up, or the queue was closed
        if error is None:
            delivery.set_result(message)
        else:
            delivery.set_exception(KafkaException(error))

    return report


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
