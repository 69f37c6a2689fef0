"""Results of Pulsar's client -> typed errors."""

import pytest

from coordd.mq.errors import (
    MessageQueueError,
    MessageRefused,
    QueueAccessDenied,
    QueueTlsError,
    QueueUnavailable,
)
from coordd.mq.pulsar_trouble import failure
from coordd.mq.pulsar_words import LOGIN_REFUSED


@pytest.mark.parametrize(
    ("result", "words", "error", "named"),
    [
        ("Timeout", "Connection refused", QueueUnavailable, "pulsar.address"),
        ("ConnectError", "Connection refused", QueueUnavailable, "Connection refused"),
        ("ConnectError", "TLS handshake: certificate verify failed", QueueTlsError, "certificate"),
        ("ConnectError", "Handshake failed: wrong version number", QueueTlsError, "wrong version number"),
        ("AuthenticationError", "AuthenticationError", QueueAccessDenied, "pulsar.authParams"),
        ("Timeout", f"TimeOut: {LOGIN_REFUSED}", QueueAccessDenied, "pulsar.authParams"),
        ("AuthorizationError", "AuthorizationError", QueueAccessDenied, "pulsar.authParams"),
        ("TopicNotFound", "TopicNotFound", QueueUnavailable, "pulsar.namespace"),
        ("MessageTooBig", "MessageTooBig", MessageRefused, "maxMessageSize"),
        ("InvalidTopicName", "InvalidTopicName", MessageRefused, "msgChannel.chanNamePrefix"),
    ],
)
def test_the_error_says_why_and_what_to_do(
    result: str, words: str, error: type[MessageQueueError], named: str
) -> None:
    found = failure(result, words, "pulsar://h:6650", "by-dev-rootcoord-dml_0")
    assert type(found) is error
    assert named in str(found)
    assert "pulsar://h:6650" in str(found)
    assert found.hint
