"""librdkafka's codes and words -> typed errors, and the lines about a broker that is away."""

import logging

import pytest
from confluent_kafka import KafkaError
from structlog.testing import capture_logs

from coordd.mq.errors import (
    MessageQueueError,
    MessageRefused,
    QueueAccessDenied,
    QueueTlsError,
    QueueUnavailable,
)
from coordd.mq.kafka_trouble import Trouble

REFUSED = "[thrd:h:1/bootstrap]: h:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused"
TLS = "[thrd:ssl://h:1/1]: ssl://h:1/1: SSL handshake failed: certificate verify failed"
CUT = (
    "[thrd:ssl://h:1/1]: ssl://h:1/1: Disconnected: SSL connection closed by peer (in state APIVERSION_QUERY)"
)
LOGIN = "[thrd:sasl_ssl://h:1/1]: sasl_ssl://h:1/1: SASL authentication error: Authentication failed"


def said(trouble: Trouble, text: str, kind: str = "FAIL", level: int = logging.ERROR) -> None:
    trouble.log(level, "%s [%s] %s", kind, "coordd#producer-1", text)


@pytest.mark.parametrize(
    ("words", "code", "error", "named"),
    [
        (REFUSED, KafkaError._MSG_TIMED_OUT, QueueUnavailable, "Connection refused"),
        (TLS, KafkaError._MSG_TIMED_OUT, QueueTlsError, "certificate verify failed"),
        (CUT, KafkaError._MSG_TIMED_OUT, QueueTlsError, "closed by peer"),
        (LOGIN, KafkaError._MSG_TIMED_OUT, QueueAccessDenied, "Authentication failed"),
        ("", KafkaError._MSG_TIMED_OUT, QueueUnavailable, "Message timed out"),
        ("", KafkaError.TOPIC_AUTHORIZATION_FAILED, QueueAccessDenied, "Topic authorization failed"),
        ("", KafkaError._UNKNOWN_TOPIC, QueueUnavailable, "auto.create.topics.enable"),
        ("", KafkaError.MSG_SIZE_TOO_LARGE, MessageRefused, "message.max.bytes"),
        ("", KafkaError.TOPIC_EXCEPTION, MessageRefused, "msgChannel.chanNamePrefix.cluster"),
    ],
)
def test_the_error_says_why_and_what_to_do(
    words: str, code: int, error: type[MessageQueueError], named: str
) -> None:
    trouble = Trouble("h:1")
    if words:
        said(trouble, words)
    failure = trouble.failure(KafkaError(code), "by-dev-rootcoord-dml_0", 5)
    assert type(failure) is error
    assert "by-dev-rootcoord-dml_0" in str(failure) or error is QueueTlsError
    assert named in str(failure)
    assert failure.hint
    assert "thrd:" not in str(failure)


def test_only_what_can_be_sent_again_as_it_is_counts_as_retriable() -> None:
    assert [error.retriable for error in (QueueUnavailable, QueueTlsError, MessageRefused)] == [
        True,
        False,
        False,
    ]


def test_a_change_is_logged_once_and_repetition_is_not() -> None:
    trouble = Trouble("h:1")
    with capture_logs() as lines:
        for _ in range(3):
            said(trouble, REFUSED)
        said(trouble, TLS)
        trouble.over()
        trouble.over()
    told = [line for line in lines if line["log_level"] != "debug"]
    assert [(line["event"], line["log_level"]) for line in told] == [
        ("the message queue cannot be used", "warning"),
        ("the message queue cannot be used", "warning"),
        ("the message queue can be used again", "info"),
    ]
    assert "Connection refused" in told[0]["reason"]
    assert trouble.reason == ""


def test_a_line_that_is_no_complaint_is_no_reason() -> None:
    trouble = Trouble("h:1")
    with capture_logs() as lines:
        said(trouble, "[thrd:app]: broker discovered", kind="BROKER", level=logging.INFO)
        said(trouble, "[thrd:main]: Disconnected (after 9ms in state UP)", kind="FAIL", level=logging.INFO)
    assert trouble.reason == ""
    assert {line["log_level"] for line in lines} == {"debug"}
