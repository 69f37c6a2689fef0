"""Why a message did not get to Kafka: librdkafka's codes and words -> typed errors.

A delivery report of a message that timed out does not say why no broker took it. librdkafka tells that
beforehand, in words only, in the lines that it logs when a connection fails; `Trouble` keeps the newest and
logs changes. The lines name brokers and reasons, never users, passwords or payloads.
"""

import logging
import re
from typing import Final

from confluent_kafka import KafkaError

from coordd.log import get_logger
from coordd.mq.errors import (
    MessageQueueError,
    MessageRefused,
    QueueAccessDenied,
    QueueTlsError,
    QueueUnavailable,
)
from coordd.mq.outage import Outage

log = get_logger("coordd.mq")

_THREAD: Final = re.compile(r"^\[thrd:[^\]]*\]: ")
_WAS_UP: Final = "in state UP"
_TELLING: Final = frozenset({"FAIL", "ERROR", "SSL", "SASLFAIL"})
"""Kinds of lines of librdkafka that say why a broker cannot be used."""

_TOO_LARGE: Final = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE, KafkaError.RECORD_LIST_TOO_LARGE}
)
_DENIED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's own codes are spelled so
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_NO_CHANNEL: Final = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)


class Trouble:
    """Keeps librdkafka's newest reason and logs when it comes, changes and goes.

    It is the `logger` of a producer, as far as librdkafka uses one.
    """

    def __init__(self, brokers: str) -> None:
        self.brokers = brokers
        self.reason = ""
        self._outage = Outage("kafka", brokers)

    def log(self, level: int, template: str, kind: str, client: str, text: str) -> None:
        """One line of librdkafka."""
        del template
        said = _THREAD.sub("", text)
        log.debug("librdkafka says", kind=kind, client=client, text=said)
        if kind not in _TELLING or (level < logging.WARNING and _WAS_UP in said):
            return  # a connection that had been good and ends is no trouble by itself
        self.reason = said
        self._outage.seen(_kind_of(said), said)

    def over(self) -> None:
        """A message got through."""
        self._outage.over()
        self.reason = ""

    def failure(self, error: KafkaError, channel: str, timeout_s: float) -> MessageQueueError:
        """The typed error of a message to `channel` that was not delivered."""
        code, words = error.code(), error.str()
        if code in _TOO_LARGE:
            return MessageRefused(
                f"kafka does not take a message of this size for {channel}: {words}",
                hint="the brokers' message.max.bytes must be at least 10485760, as Milvus needs",
            )
        if code == KafkaError.TOPIC_EXCEPTION:
            return MessageRefused(
                f"{channel} is no possible name of a kafka topic: {words}",
                hint="check msgChannel.chanNamePrefix.cluster and rootCoordDml",
            )
        if code in _DENIED or _kind_of(self.reason) == "login":
            return QueueAccessDenied(
                f"kafka ({self.brokers}) does not let coordd write to {channel}: {self.reason or words}",
                hint="check kafka.saslUsername, saslPassword, saslMechanisms, and the user's rights there",
            )
        if _kind_of(self.reason) == "tls":
            return QueueTlsError(
                f"no TLS connection to kafka ({self.brokers}): {self.reason}",
                hint="check kafka.securityProtocol, kafka.ssl.enabled and the files of kafka.ssl",
            )
        if code in _NO_CHANNEL:
            return QueueUnavailable(
                f"kafka ({self.brokers}) has no topic {channel}: {words}",
                hint="let the brokers create topics (auto.create.topics.enable), or create it",
            )
        return QueueUnavailable(
            f"kafka ({self.brokers}) has not confirmed a message for {channel} within {timeout_s:g} s:"
            f" {self.reason or words}",
            hint="check that the brokers run and that kafka.brokerList names them; it is tried again",
        )


def _kind_of(reason: str) -> str:
    """What kind of trouble librdkafka's words mean: login, tls, connection, or "" for none."""
    if "SASL" in reason or "uthenticat" in reason:
        return "login"
    if "SSL" in reason or "certificate" in reason:
        return "tls"
    return "connection" if reason else ""
