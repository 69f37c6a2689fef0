"""Why a message did not get to Pulsar: the client's result codes -> typed errors."""

from typing import Final

from coordd.mq.errors import (
    MessageQueueError,
    MessageRefused,
    QueueAccessDenied,
    QueueTlsError,
    QueueUnavailable,
)
from coordd.mq.pulsar_words import LOGIN_REFUSED

_REFUSED: Final = {
    "MessageTooBig": "the brokers' maxMessageSize must be at least that of Milvus' pulsar.maxMessageSize",
    "InvalidTopicName": "check pulsar.tenant, pulsar.namespace and msgChannel.chanNamePrefix",
}
_DENIED: Final = ("AuthenticationError", "AuthorizationError")
_TLS: Final = ("tls", "certificate", "handshake failed")
_NO_CHANNEL: Final = ("TopicNotFound", "TopicTerminated", "LookupError")


def failure(result: str, words: str, url: str, channel: str) -> MessageQueueError:
    """The typed error of a message to `channel` that was not delivered.

    `result` is the name of the client's result, `words` what it says of it.
    """
    match result:
        case name if name in _REFUSED:
            return MessageRefused(
                f"pulsar ({url}) does not take the message for {channel}: {words}", hint=_REFUSED[name]
            )
        case name if name in _DENIED or LOGIN_REFUSED in words:
            return QueueAccessDenied(
                f"pulsar ({url}) does not let coordd write to {channel}: {words}",
                hint="check pulsar.authPlugin, pulsar.authParams and the role's rights in the namespace",
            )
        case name if name in _NO_CHANNEL:
            return QueueUnavailable(
                f"pulsar ({url}) has no channel {channel}: {words}",
                hint="check pulsar.tenant and pulsar.namespace, and that brokers make topics by themselves",
            )
        case "TlsError" | "ConnectError" if any(one in words.lower() for one in _TLS):
            return QueueTlsError(
                f"no TLS connection to pulsar ({url}): {words}",
                hint="check pulsar.address, that the broker's certificate names its host, and that the system"
                " trusts the authorities of the certificate",
            )
        case _:
            return QueueUnavailable(
                f"pulsar ({url}) has not confirmed a message for {channel}: {words}",
                hint="check that pulsar runs, that pulsar.address names it, and the login; it is tried again",
            )
