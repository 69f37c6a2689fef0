"""Which line of Pulsar's client tells why a broker cannot be used."""

import logging
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from coordd.mq.pulsar_words import LOGIN_REFUSED, Words

HERE = "[127.0.0.1:53310 -> 127.0.0.1:6650] "
OTHER = "[127.0.0.1:53311 -> 127.0.0.1:6650] "
HANDSHAKE = f"{HERE}Handshake failed: certificate verify failed (SSL routines)"


@pytest.fixture
def words() -> Iterator[Words]:
    words = Words()
    yield words
    words.stop()


def debug(words: Words, *lines: str) -> None:
    for line in lines:
        words.logger.debug(line)


def test_the_reason_is_kept_and_what_repeats_the_result_is_not(words: Words) -> None:
    words.logger.error(HANDSHAKE)
    words.logger.error("%sConnection closed with ConnectError (refCnt: 3)", HERE)
    words.logger.error(
        "Error Checking/Getting Partition Metadata while creating producer on t -- ConnectError"
    )
    words.logger.warning("something else")
    assert words.newest == HANDSHAKE


def test_an_error_as_the_first_answer_is_to_the_login(words: Words) -> None:
    debug(words, f"{HERE}Connected to broker", f"{OTHER}Connected to broker")
    debug(words, f"{OTHER}Handling incoming command: CONNECTED", f"{OTHER}Handling incoming command: ERROR")
    assert words.newest == ""
    debug(words, f"{HERE}Handling incoming command: ERROR")
    assert words.newest == LOGIN_REFUSED


def test_nothing_is_kept_of_connections_that_are_gone(words: Words) -> None:
    debug(words, f"{HERE}Connected to broker", f"{HERE}Destroyed connection to pulsar://127.0.0.1:6650-0")
    debug(words, f"{HERE}Handling incoming command: ERROR")
    assert words.newest == ""
    assert not words._unanswered


def test_each_queue_hears_what_is_said_to_the_first_and_none_after_its_end(words: Words) -> None:
    second = Words()
    words.logger.error("first")
    words.stop()
    words.logger.error("second")
    second.stop()
    second.logger.error("third")
    assert (words.newest, second.newest) == ("first", "second")


def test_what_comes_after_all_have_ended_is_not_printed_by_logging_itself(words: Words) -> None:
    words.stop()
    assert [type(one) for one in words.logger.handlers].count(logging.NullHandler) == 1


@pytest.mark.parametrize(
    "line",
    [
        "Generate URL encoded body for ClientCredentialFlow: audience=a&client_secret=hidden&grant_type=x",
        "access_token: hidden expires_in: 3600",
        'no JSON: {"access_token":"hidden","expires_in":1}',
        "Created signed principal token: v=S1;s=hidden",
        "Got role token v=Z1;d=tenant;s=hidden",
        "Got cached role token v=Z1;d=tenant;s=hidden",
        'Failed to parse credentials from {"id": "x" "client_secret":"a,\nhidden"}',
    ],
)
def test_secrets_of_a_login_are_masked(words: Words, line: str) -> None:
    with capture_logs() as lines:
        words.logger.error(line)
    assert "******" in words.newest
    assert "hidden" not in words.newest + str(lines)


def test_what_is_told_to_be_secret_is_masked_wherever_it_is() -> None:
    words = Words(["aGlkZGVu", "is"])
    with capture_logs() as lines:
        words.logger.error("Failed to open athenz private key file: aGlkZGVu: this is no file")
    words.stop()
    assert words.newest == "Failed to open athenz private key file: ******: this is no file"
    assert "aGlkZGVu" not in str(lines)
