"""Kafka as the message queue: partition 0 of the topic that is named like the channel, no key, no headers.

librdkafka works in threads of its own, and calls nobody back from there: delivery reports wait until they are
fetched, and are given to their callbacks by the thread that fetches. Here that is the event loop's own, which
does nothing that blocks: messages are put into librdkafka's queue, and reports are fetched without waiting,
every millisecond while messages are under way, more seldom while Kafka is away. What does block, taking a
client down, is done in a thread.

Of the messages of one channel none comes after one that was sent later, also if it was given up on its way.
librdkafka numbers them, and brokers take them in the order of their numbers. After a gap, like that of a
message that timed out, it goes on in a new epoch, and a broker that has seen that takes nothing of an older
one. Where brokers give no numbers, the next message for a channel waits until it is known what became of the
last.

A client that brokers refuse for good is replaced by another, whose numbers say nothing of the first one's. So
all that is on its way by the first is waited for, and what is not is taken back.

What it does not promise: that a message is there only once (one that was purged together with another, or of
which a broker does not say where it is, is sent anew), and that one which was being sent when its sender gave
up does not arrive. Nor the order without numbers, or across a client that is replaced, if what timed out is
still on its way: for instance in the memory of a broker that stood still meanwhile.

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/kafka/{kafka_producer,kafka_id}.go.
"""

import asyncio
import os
import struct
from collections.abc import Callable, Collection
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

REPLACE_AFTER_S: Final = 1.0
"""How long a client is used at least, whatever becomes of it: what broke it may do so again at once."""
REPORT_LATE_S: Final = 2.0
"""librdkafka looks once a second for messages whose time is over."""
NUDGE_EVERY_S: Final = 0.01
NUDGE_FOR_S: Final = 1.0
"""librdkafka asks for the first number when it starts, when no broker is connected, and 0.5 s later; but also
with each answer about a topic."""

_FENCED: Final = KafkaError.INVALID_PRODUCER_EPOCH
"""An epoch below one that was seen. They begin anew after 32,768; a queue away for hours uses these up."""
_NO_NUMBERS: Final = frozenset(
    {KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError._UNSUPPORTED_FEATURE}  # noqa: SLF001 - spelled so
)
"""Brokers before 2.8 want the right IdempotentWrite for numbers, those before 0.11 do not have them."""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long the end of librdkafka's threads is waited for: the next term waits meanwhile. As a rule it takes
milliseconds, but one of them may be asking for the address of a host, which nothing can break off."""

LOOK_FIRST_S: Final = 0.25
LOOK_MAX_S: Final = 2.0
"""How long one look for topics takes at most."""

_LATE: Final = KafkaError._TIMED_OUT  # noqa: SLF001
_NO_ANSWER: Final = frozenset({_LATE, KafkaError._TRANSPORT})  # noqa: SLF001
"""To a look for topics: a broker has been asked and has not answered yet, or there is none to be asked."""

CLOSED_MEANWHILE: Final = "the message queue was closed before it had the message"

Delivery: TypeAlias = "asyncio.Future[Message]"


def message_id(offset: int) -> bytes:
    """The ID of a message as Milvus stores it: its offset, eight bytes, little-endian."""
    return struct.pack("<q", offset)


class _Client:
    """One producer of librdkafka, and with it one sequence of numbers for each channel.

    Attributes:
        broken: why the brokers take nothing of it any more; nothing is given to it then.
        broken_at: by the loop's clock.
        proven: it has delivered a message.
        replaced: there is another one, or the queue is closed.
    """

    def __init__(self, producer: Producer, now: float) -> None:
        self.producer = producer
        self.opened_at = self.nudged_at = now
        self.broken: KafkaError | None = None
        self.broken_at = 0.0
        self.proven = False
        self.replaced = asyncio.Event()


class KafkaQueue:
    """Implements `coordd.mq.MessageQueue`. Made in a running event loop; connects in the background."""

    def __init__(self, settings: KafkaSettings, *, delivery_timeout_s: float = DELIVERY_TIMEOUT_S) -> None:
        """Raises QueueSettingsInvalid."""
        self._settings = settings
        self._timeout_s = delivery_timeout_s
        self._trouble = Trouble(", ".join(settings.broker_list))
        self._loop = asyncio.get_running_loop()
        self._numbered = True
        self._client: _Client | None = self._open()
        self._under_way: dict[Delivery, str] = {}
        self._given_up: set[Delivery] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._reports = self._loop.create_task(self._fetch_reports(), name="kafka delivery reports")

    def _open(self) -> _Client:
        config = producer_settings(
            self._settings, delivery_timeout_s=self._timeout_s, numbered=self._numbered
        )
        try:
            return _Client(Producer({**config, "logger": self._trouble}), self._loop.time())
        except KafkaException as error:
            raise _not_accepted(self._settings, error) from error

    async def send(self, channel: str, payload: bytes) -> bytes:
        """See `MessageQueue.send`.

        Raises:
            MessageQueueError: see `coordd.mq.errors`.
        """
        repeated = False
        while True:
            client = await self._ready_for(channel)
            try:
                message = await self._deliver(client, channel, payload)
            except KafkaException as error:
                failure: KafkaError = error.args[0]
                if failure.code() == KafkaError._PURGE_QUEUE:  # noqa: SLF001 - spelled so
                    continue  # recalled together with the message of a sender that gave up
                if failure.code() == _FENCED:
                    self._broke(client, failure)
                if client.broken is not None or failure.code() == KafkaError._FATAL:  # noqa: SLF001
                    self._wake.set()
                    await client.replaced.wait()  # the reason of the latter comes with the reports
                    continue
                raise self._trouble.failure(failure, channel, self._timeout_s) from error
            self._trouble.over()
            offset = message.offset()
            if repeated or (offset is not None and offset >= 0):
                return message_id(max(0, offset or 0))
            # A broker has it already and does not know any more where; somebody may want to read from there.
            # If it is not told of the second one either, reading from the beginning misses nothing.
            repeated = True

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """See `MessageQueue.missing`. All topics are asked for: to ask for one may make it.

        It is done in a thread that cannot be called back, and for which the end of the process waits. So one
        look is short, and longer only where somebody is there who takes his time.
        """
        until = self._loop.time() + self._timeout_s
        look_s = LOOK_FIRST_S
        while (client := self._client) is not None:
            left_s = max(0.0, until - self._loop.time())
            try:
                found = await asyncio.to_thread(client.producer.list_topics, timeout=min(look_s, left_s))
            except KafkaException as error:
                failure: KafkaError = error.args[0]
                if failure.code() not in _NO_ANSWER or self._loop.time() >= until:
                    raise self._trouble.failure(failure, ", ".join(channels), self._timeout_s) from error
                if failure.code() == _LATE:
                    look_s = min(2 * look_s, LOOK_MAX_S)
            else:
                return [name for name in channels if name not in found.topics]
        raise QueueClosed("the message queue has been closed")

    async def _ready_for(self, channel: str) -> _Client:
        """The client: not one that is broken, nor without numbers while it is open what was given up."""
        while (client := self._client) is not None:
            if client.broken is not None:
                await client.replaced.wait()
            elif not self._numbered and (given_up := self._given_up_on(channel)):
                await asyncio.wait(given_up)
            else:
                return client
        raise QueueClosed("the message queue has been closed")

    async def _deliver(self, client: _Client, channel: str, payload: bytes) -> Message:
        delivery: Delivery = self._loop.create_future()
        try:
            client.producer.produce(channel, payload, partition=PARTITION, on_delivery=_reporter(delivery))
            self._under_way[delivery] = channel
            delivery.add_done_callback(self._reported)
            self._wake.set()
            message = await asyncio.shield(delivery)
        except BufferError as error:
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL)) from error  # noqa: SLF001 - spelled so
        except asyncio.CancelledError:
            # Whoever gave up does not want it sent later. This takes others along; they are sent again.
            if not delivery.done():
                self._given_up.add(delivery)
            if client is self._client:
                client.producer.purge(in_flight=False, blocking=False)
            raise
        client.proven = True
        return message

    def _given_up_on(self, channel: str) -> list[Delivery]:
        """What was given up on this channel and has not been reported yet."""
        return [one for one in self._given_up if self._under_way.get(one) == channel]

    def _reported(self, delivery: Delivery) -> None:
        self._under_way.pop(delivery, None)
        self._given_up.discard(delivery)
        delivery.exception()  # its sender may have given up: nobody need look

    async def close(self) -> None:
        """See `MessageQueue.close`."""
        client, self._client = self._client, None
        if client is None:
            return
        self._wake.set()
        client.replaced.set()
        await asyncio.wait({self._reports})
        self._settle(lambda: QueueClosed(CLOSED_MEANWHILE))
        self._end(client)
        _, late = await asyncio.wait(self._ending, timeout=CLOSE_TIMEOUT_S)
        if late:
            log.info("kafka's client takes its time to end, nobody waits for it", after_s=CLOSE_TIMEOUT_S)

    async def _fetch_reports(self) -> None:
        """Have librdkafka complete the futures in `_under_way`, until `close`."""
        pause_s = POLL_FIRST_S
        while (client := self._client) is not None:
            self._wake.clear()  # before looking: what happens from here on is not missed
            served = self._poll(client)
            pause_s = POLL_FIRST_S if served else min(pause_s * POLL_GROWTH, POLL_MAX_S)
            self._nudge(client)
            if client.broken is not None and self._may_replace(client):
                self._replace(client)
            elif self._under_way or client.broken is not None:
                await asyncio.sleep(pause_s)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_IDLE_S):
                        await self._wake.wait()
                pause_s = POLL_FIRST_S

    def _poll(self, client: _Client) -> int:
        """How many reports there were, or something else that was told."""
        try:
            return client.producer.poll(0)
        except KafkaException as error:
            failure: KafkaError = error.args[0]
            if failure.fatal():
                self._broke(client, failure)
                return 1
            log.exception("fetching kafka's delivery reports failed, going on")
        except Exception:
            log.exception("fetching kafka's delivery reports failed, going on")
        return 0

    def _nudge(self, client: _Client) -> None:
        """Have librdkafka ask for its first number now, if that is what the first message waits for."""
        now = self._loop.time()
        if (
            self._numbered
            and self._under_way
            and not client.proven
            and client.nudged_at + NUDGE_EVERY_S <= now < client.opened_at + NUDGE_FOR_S
        ):
            client.nudged_at = now
            with suppress(KafkaException):  # the answer is not waited for
                client.producer.list_topics(next(iter(self._under_way.values())), timeout=0)

    def _broke(self, client: _Client, reason: KafkaError) -> None:
        if client.broken is None:
            client.broken, client.broken_at = reason, self._loop.time()
            client.producer.purge(in_flight=False, blocking=False)  # the senders of these wait for another
            if reason.code() in _NO_NUMBERS:
                self._numbered = False
                client.opened_at -= REPLACE_AFTER_S  # this breaks a client once
                log.warning("kafka gives no numbers for messages, going on without", reason=reason.str())
            else:
                log.warning(
                    "kafka takes nothing of this client any more, going on with another", reason=reason.str()
                )
            self._wake.set()

    def _may_replace(self, client: _Client) -> bool:
        """Whether nothing of this client can come after what the next one sends, as far as can be known."""
        now = self._loop.time()
        if now < client.opened_at + REPLACE_AFTER_S:
            return False
        return not self._under_way or now >= client.broken_at + self._timeout_s + REPORT_LATE_S

    def _replace(self, client: _Client) -> None:
        """Go on with another client. What is still under way is sent anew by its senders."""
        try:
            self._client = self._open()
        except QueueSettingsInvalid as error:  # a file has gone meanwhile
            client.opened_at = self._loop.time()
            log.warning("kafka's client cannot be replaced yet", reason=str(error))
            return
        self._settle(lambda: KafkaException(KafkaError(KafkaError._PURGE_QUEUE)))  # noqa: SLF001
        client.replaced.set()
        self._end(client)

    def _settle(self, error: Callable[[], Exception]) -> None:
        for delivery in list(self._under_way):
            if not delivery.done():
                delivery.set_exception(error())

    def _end(self, client: _Client) -> None:
        """Let librdkafka's threads end, which can take a while; nothing is sent any more."""
        client.producer.purge(blocking=False)
        last = [client.producer]
        del client.producer
        ending = self._loop.create_task(asyncio.to_thread(last.clear), name="kafka client ends")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


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
        hint="check kafka.securityProtocol, kafka.saslMechanisms, kafka.producer and the files of kafka.ssl",
    )
