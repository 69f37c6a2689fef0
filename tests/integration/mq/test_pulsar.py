"""The Pulsar client: settings, errors, and what it puts on the wire towards a stand-in of a broker.

The stand-in shows what our side says and how it takes what it hears. What a real Pulsar makes of it has not
been tried.
"""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from coordd.config import load_config
from coordd.config.message_queue import PulsarSettings
from coordd.mq import open_queue
from coordd.mq.errors import QueueAccessDenied, QueueClosed, QueueUnavailable
from coordd.mq.pulsar import PulsarQueue
from tests.support.pulsar_broker import LEDGER, ZSTD, PulsarBroker, encode, pulsar_broker

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
BRIEF_S = 1.0


def settings(broker: PulsarBroker, **more: object) -> PulsarSettings:
    return PulsarSettings.model_validate({"address": broker.address, **more})


def sizes(broker: PulsarBroker) -> set[object]:
    """The sizes of what has come in, before it was compressed."""
    return {sent.metadata[9] for sent in broker.sent}


async def sent_in_the_end(queue: PulsarQueue, payload: bytes) -> bytes:
    while True:
        try:
            return await queue.send(CHANNEL, payload)
        except QueueUnavailable:
            await asyncio.sleep(0.05)


async def test_what_is_sent_and_what_comes_back(tmp_path: Path) -> None:
    async with pulsar_broker() as broker:
        path = tmp_path / "milvus.yaml"
        path.write_text(f"pulsar: {{address: '{broker.address}', tenant: t, namespace: n}}\n")
        queue = open_queue(load_config(path, {}, tmp_path))
        payload = b"message " * 100
        ids = [await queue.send(CHANNEL, payload) for _ in range(3)]
        await queue.close()
        assert ids == [encode({1: LEDGER, 2: number}) for number in range(3)]  # MessageIdData
        assert {sent.topic for sent in broker.sent} == {f"persistent://t/n/{CHANNEL}"}
        for sent in broker.sent:
            assert sent.metadata[8] == ZSTD
            assert sent.metadata[9] == len(payload)
            assert sent.payload[:4] == b"\x28\xb5\x2f\xfd"  # zstd's magic number
            assert not {4, 6, 11} & set(sent.metadata)  # no properties, no key, no batch


async def test_a_login_is_made_with_the_token() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker, auth_plugin="token", auth_params=SecretStr("token:hidden")))
        await queue.send(CHANNEL, b"x")
        await queue.close()
        assert {(login[5], login[3]) for login in broker.logins} == {(b"token", b"hidden")}


async def test_a_refusal_is_told_apart_and_no_secret_is_told() -> None:
    async with pulsar_broker() as broker:
        broker.refuse = True
        queue = PulsarQueue(
            settings(broker, auth_plugin="token", auth_params=SecretStr("token:hidden-token")),
            delivery_timeout_s=BRIEF_S,
        )
        with (
            capture_logs() as lines,
            pytest.raises(QueueAccessDenied, match=r"pulsar\.authParams") as refused,
        ):
            await queue.send(CHANNEL, b"hidden-payload")
        await queue.close()
        assert "hidden-" not in str(refused.value)
        assert lines
        assert "hidden-" not in str(lines)


async def test_a_broker_that_is_away_at_start_is_named_and_found_when_it_comes() -> None:
    async with pulsar_broker(running=False) as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        with pytest.raises(QueueUnavailable, match=r"pulsar\.address") as away:
            await queue.send(CHANNEL, b"lost")
        assert broker.address in str(away.value)
        await broker.start()
        await sent_in_the_end(queue, b"found")
        await queue.close()
        assert sizes(broker) == {len(b"found")}


async def test_a_broker_that_goes_and_comes_back_is_used_again() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"before")
        await broker.stop()
        with pytest.raises(QueueUnavailable):
            await queue.send(CHANNEL, b"meanwhile")
        await broker.start()
        await sent_in_the_end(queue, b"after")
        await queue.close()


async def test_a_silent_broker_costs_the_time_out() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"before")
        broker.mute = True
        with pytest.raises(QueueUnavailable):
            await queue.send(CHANNEL, b"unanswered")
        broker.mute = False
        await sent_in_the_end(queue, b"after")
        await queue.close()


async def test_what_its_sender_gave_up_is_not_sent_later() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=30)
        await queue.send(CHANNEL, b"before")
        await broker.stop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(BRIEF_S):
                await queue.send(CHANNEL, b"given up")
        await broker.start()
        await sent_in_the_end(queue, b"after")
        await queue.close()
        assert sizes(broker) == {len(b"before"), len(b"after")}


async def test_closing_ends_what_is_under_way() -> None:
    async with pulsar_broker() as broker:
        queue = PulsarQueue(settings(broker), delivery_timeout_s=30)
        await queue.send(CHANNEL, b"before")
        broker.mute = True
        task = asyncio.create_task(queue.send(CHANNEL, b"unanswered"), name="send")
        await asyncio.sleep(0.1)
        await queue.close()
        with pytest.raises(QueueClosed):
            await task
        with pytest.raises(QueueClosed):
            await queue.send(CHANNEL, b"y")
        await queue.close()
