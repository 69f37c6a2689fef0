"""Pulsar as the message queue: topic `<tenant>/<namespace>/<channel>`, no batching, zstd.

The C++ client below pulsar-client keeps connections up, connects again when one breaks, and gives a message
up after its time-out; here one producer is kept for each channel, and errors are made typed. What blocks
(finding a channel, closing) is done in threads of our own. `pulsar.asyncio` is not used: a confirmation that
comes when the loop has been closed raises inside the C++ client there, and that ends the process (3.13).

It has to be closed before the process ends: the client's threads must not meet an interpreter that is going.

Over TLS the broker's certificate must name the host in `pulsar.address`. Milvus' client wants that, too,
though its option for it is off: it leaves the name open, and Go's crypto/tls takes that of the address then.

What it does not promise: that a message is there only once, and that a message which was being sent when its
sender gave up does not arrive.

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/pulsar/{pulsar_client,pulsar_id}.go;
apache/pulsar-client-go pulsar/internal/connection.go, pulsar/internal/auth, for logins and TLS.
"""

import asyncio
import json
import math
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

import pulsar

from coordd.config.message_queue import PulsarSettings
from coordd.mq.errors import MessageQueueError, MessageRefused, QueueClosed, QueueSettingsInvalid
from coordd.mq.outage import Outage
from coordd.mq.pulsar_trouble import failure
from coordd.mq.pulsar_words import Words
from coordd.mq.system_trust import system_authorities

DELIVERY_TIMEOUT_S: Final = 5.0
"""How long a message may take, and finding its channel before that; see `coordd.mq.kafka`."""

CONNECT_TIMEOUT_MS: Final = 2000
CLOSE_TIMEOUT_S: Final = 2.0
THREADS: Final = 8
"""For finding channels, of which a cluster has 16 by default."""

_OAUTH2_NAMES: Final = {
    "issuerUrl": "issuer_url",
    "privateKey": "private_key",
    "clientId": "client_id",
}
"""What Milvus' client calls them -> what this one does."""

STILL_GOOD: Final = ("Timeout", "MessageTooBig", "ProducerQueueIsFull", "MemoryBufferIsFull")
"""Results that say nothing against the producer; after any other one the channel gets a new producer."""


class NotDeliveredError(Exception):
    """The C++ client gave a message up; `result` is the name of its reason."""

    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


class PulsarQueue:
    """Implements `coordd.mq.MessageQueue`. Made in a running event loop; connects when something is sent."""

    def __init__(self, settings: PulsarSettings, *, delivery_timeout_s: float = DELIVERY_TIMEOUT_S) -> None:
        """Raises QueueSettingsInvalid."""
        self._settings = settings
        self._timeout_s = delivery_timeout_s
        self._loop = asyncio.get_running_loop()
        self._producers: dict[str, pulsar.Producer] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._under_way: set[asyncio.Future[bytes]] = set()
        self._closed = False
        self._words = Words(settings.login_secrets())
        self._outage = Outage("pulsar", settings.service_url)
        try:
            _listen_first(self._words)
            self._client = pulsar.Client(
                settings.service_url,
                authentication=_authentication(settings),
                operation_timeout_seconds=math.ceil(delivery_timeout_s),
                connection_timeout_ms=CONNECT_TIMEOUT_MS,
                tls_trust_certs_file_path=system_authorities(),
                tls_validate_hostname=True,
                logger=self._words.logger,
            )
        except (pulsar.PulsarException, ValueError, RuntimeError) as error:
            self._words.stop()
            reason = self._words.masked(str(error))
            raise QueueSettingsInvalid(
                f"the client library of pulsar does not accept the settings: {reason}",
                hint="check pulsar.address, pulsar.authPlugin and the names in pulsar.authParams",
            ) from error
        self._openers = ThreadPoolExecutor(THREADS, thread_name_prefix="pulsar-open")
        self._closers = ThreadPoolExecutor(THREADS, thread_name_prefix="pulsar-close")

    async def send(self, channel: str, payload: bytes) -> bytes:
        """See `MessageQueue.send`. The ID is a serialized MessageIdData.

        Raises:
            MessageQueueError: see `coordd.mq.errors`.
        """
        try:
            written = await self._deliver(await self._producer(channel), payload)
        except NotDeliveredError as error:
            if error.result not in STILL_GOOD:
                self._forget(channel)
            raise self._failure(error.result, error.result, channel) from error
        except pulsar.PulsarException as error:
            raise self._failure(type(error).__name__, str(error), channel) from error
        except asyncio.CancelledError:
            self._forget(channel)  # with the producer goes what it has not sent yet
            raise
        self._outage.over()
        self._words.newest = ""
        return written

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """None: as far as a client can tell, Pulsar has whatever it is asked for. Milvus tells no more."""
        del channels
        return ()

    async def close(self) -> None:
        """See `MessageQueue.close`."""
        if self._closed:
            return
        self._closed = True
        for delivery in self._under_way:
            if not delivery.done():
                delivery.set_exception(QueueClosed("the message queue was closed before it had the message"))
        self._producers.clear()
        with suppress(TimeoutError, pulsar.PulsarException):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._loop.run_in_executor(self._closers, self._client.close)
        self._words.stop()
        for threads in (self._openers, self._closers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _producer(self, channel: str) -> pulsar.Producer:
        """The producer of a channel, which it finds first if need be."""
        async with self._opening.setdefault(channel, asyncio.Lock()):
            if self._closed:
                raise QueueClosed("the message queue has been closed")
            if channel not in self._producers:
                create = partial(
                    self._client.create_producer,
                    f"{self._settings.tenant}/{self._settings.namespace}/{channel}",
                    send_timeout_millis=max(1, round(self._timeout_s * 1000)),
                    compression_type=pulsar.CompressionType.ZSTD,
                    batching_enabled=False,
                )
                self._producers[channel] = await self._loop.run_in_executor(self._openers, create)
            return self._producers[channel]

    async def _deliver(self, producer: pulsar.Producer, payload: bytes) -> bytes:
        delivery: asyncio.Future[bytes] = self._loop.create_future()

        def settle(result: pulsar.Result, message_id: bytes) -> None:
            if delivery.done():
                return
            if result == pulsar.Result.Ok:
                delivery.set_result(message_id)
            else:
                delivery.set_exception(NotDeliveredError(result.name))

        def confirm(result: pulsar.Result, message_id: pulsar.MessageId) -> None:
            """Called in a thread of the C++ client, which no error may reach."""
            written = bytes(message_id.serialize()) if result == pulsar.Result.Ok else b""
            with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
                self._loop.call_soon_threadsafe(settle, result, written)

        self._under_way.add(delivery)
        try:
            producer.send_async(payload, confirm)
            return await delivery
        finally:
            self._under_way.discard(delivery)

    def _failure(self, result: str, words: str, channel: str) -> MessageQueueError:
        if self._closed:
            return QueueClosed("the message queue was closed before it had the message")
        if self._words.newest:
            words = f"{words}: {self._words.newest}"
        error = failure(result, words, self._settings.service_url, channel)
        if not isinstance(error, MessageRefused):
            self._outage.seen(type(error).__name__, words)
        return error

    def _forget(self, channel: str) -> None:
        """Drop a producer; closing it waits for a broker, which may be away, so nobody waits for that."""
        producer = self._producers.pop(channel, None)
        if producer is not None and not self._closed:
            self._closers.submit(_close, producer)


def _close(producer: pulsar.Producer) -> None:
    with suppress(pulsar.PulsarException):
        producer.close()


def _listen_first(words: Words) -> None:
    """Have all that the C++ client says go to `words`. It listens to the logger of the first client only, and
    what it says before that, of a login that is about to be made for one, it prints: secrets, too.
    """
    pulsar.Client("pulsar://localhost", logger=words.logger).close()


def _authentication(settings: PulsarSettings) -> pulsar.Authentication | None:
    parameters = settings.login_parameters()
    match settings.login:
        case "token":
            return pulsar.AuthenticationToken(parameters["token"])
        case "tls":
            return pulsar.AuthenticationTLS(parameters["tlsCertFile"], parameters["tlsKeyFile"])
        case "basic":
            return pulsar.AuthenticationBasic(parameters["username"], parameters["password"])
        case "oauth2":
            known = {_OAUTH2_NAMES.get(name, name): value for name, value in parameters.items()}
            return pulsar.AuthenticationOauth2(json.dumps(known))
        case "athenz":
            return pulsar.AuthenticationAthenz(json.dumps(parameters))
        case _:
            return None
