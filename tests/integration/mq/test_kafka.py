"""The Kafka client against a broker that runs, is away, dies, comes back, or wants something else."""

import asyncio
import gc
import ssl
import struct
import threading
from pathlib import Path

import pytest
import uvloop
from confluent_kafka import Producer
from pydantic import SecretStr
from structlog.testing import capture_logs

from coordd.config.message_queue import KafkaSettings, KafkaSslSettings
from coordd.mq import kafka
from coordd.mq.errors import (
    MessageRefused,
    QueueAccessDenied,
    QueueClosed,
    QueueSettingsInvalid,
    QueueTlsError,
    QueueUnavailable,
)
from coordd.mq.kafka import KafkaQueue
from tests.support.etcd_tls import make_tls
from tests.support.kafka import Broker, kafka_broker
from tests.support.kafka_numbers import METADATA
from tests.support.queues import configured_queue

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
OTHER = "by-dev-rootcoord-dml_1"
BRIEF_S = 0.5


async def under_way(queue: KafkaQueue, channel: str, payload: bytes) -> "asyncio.Task[bytes]":
    """A `send` that librdkafka has and cannot deliver."""
    ahead = len(queue._under_way)
    task = asyncio.create_task(queue.send(channel, payload), name=f"send {payload!r}")
    await asyncio.sleep(0)
    assert len(queue._under_way) == ahead + 1
    return task


async def sent_in_the_end(queue: KafkaQueue, channel: str, payload: bytes) -> bytes:
    """The ID, after as many attempts as it takes."""
    while True:
        try:
            return await queue.send(channel, payload)
        except QueueUnavailable:
            continue


async def test_messages_lie_in_partition_0_in_their_order_without_key_or_headers(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        ids = [await queue.send(CHANNEL, b"message %d" % number) for number in range(20)]
        others = await asyncio.gather(*(queue.send(OTHER, b"tick %d" % number) for number in range(20)))
        await queue.close()
        messages = await broker.messages(CHANNEL, 20)
        assert [message.value() for message in messages] == [b"message %d" % number for number in range(20)]
        assert {(message.partition(), message.key(), message.headers()) for message in messages} == {
            (0, None, None)
        }
        assert ids == [struct.pack("<q", message.offset()) for message in messages]
        assert others == [struct.pack("<q", number) for number in range(20)]


async def test_the_configuration_opens_it(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = configured_queue(tmp_path, f"kafka: {{brokerList: '{broker.address}'}}\n")
        assert await queue.send(CHANNEL, b"x" * 3_000_000) == bytes(8)
        await queue.close()


async def test_a_broker_that_is_away_at_start_is_named_and_found_when_it_comes(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=BRIEF_S)
        with capture_logs() as lines:
            with pytest.raises(QueueUnavailable) as away:
                await queue.send(CHANNEL, b"lost")
            assert broker.address in str(away.value)
            assert "Connection refused" in str(away.value)
            assert "kafka.brokerList" in str(away.value.hint)
            await broker.start()
            await sent_in_the_end(queue, CHANNEL, b"found")
        await queue.close()
        assert set(await broker.payloads(CHANNEL, 1)) == {b"found"}
        told = [line["event"] for line in lines if line["log_level"] != "debug"]
        assert told == ["the message queue cannot be used", "the message queue can be used again"]


async def test_a_broker_that_is_killed_and_comes_back_is_used_again(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"before")
        for number in range(2):
            await broker.kill()
            with pytest.raises(QueueUnavailable):
                await queue.send(CHANNEL, b"meanwhile")
            await broker.start()
            await sent_in_the_end(queue, CHANNEL, b"after %d" % number)
            assert set(await broker.payloads(CHANNEL, 1)) == {b"after %d" % number}
        await queue.close()


async def test_a_message_under_way_gets_through_when_the_broker_is_back_in_time(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=30)
        await queue.send(CHANNEL, b"before")
        await broker.kill()
        task = await under_way(queue, CHANNEL, b"patient")
        await broker.start()
        assert await task == bytes(8)
        await queue.close()
        assert await broker.payloads(CHANNEL, 1) == [b"patient"]


async def test_what_its_sender_gave_up_is_not_sent_later_and_what_others_sent_is(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=30)
        other = await under_way(queue, OTHER, b"still wanted")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(BRIEF_S):
                await queue.send(CHANNEL, b"given up")
        await broker.start()
        await queue.send(CHANNEL, b"later")
        assert await other == bytes(8)
        await queue.close()
        assert await broker.payloads(CHANNEL, 1) == [b"later"]
        assert await broker.payloads(OTHER, 1) == [b"still wanted"]


async def test_closing_ends_what_is_under_way_and_its_threads(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=30)
        task = await under_way(queue, CHANNEL, b"x")
        await queue.close()
        with pytest.raises(QueueClosed):
            await task
        with pytest.raises(QueueClosed):
            await queue.send(CHANNEL, b"y")
        await queue.close()
        assert _threads("rdk:") == []


async def test_closing_does_not_wait_for_a_broker_that_is_silent(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=30)
        await queue.send(CHANNEL, b"x")
        broker.freeze()
        task = await under_way(queue, CHANNEL, b"y")
        await queue.close()
        with pytest.raises(QueueClosed):
            await task


async def test_closing_at_any_step_of_a_send_ends_it(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        for steps in range(12):
            queue = KafkaQueue(broker.settings, delivery_timeout_s=3600)
            task = asyncio.create_task(queue.send(CHANNEL, b"x"), name="send")
            for _ in range(steps):
                await asyncio.sleep(0)
            await queue.close()
            with pytest.raises(QueueClosed):
                await task


async def test_giving_up_at_any_step_of_a_send_takes_it_back(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=3600)
        for steps in range(12):
            task = asyncio.create_task(queue.send(CHANNEL, b"given up"), name="send")
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        await broker.start()
        await queue.send(CHANNEL, b"later")
        await queue.close()
        assert await broker.payloads(CHANNEL, 1) == [b"later"]


async def test_neither_sending_nor_closing_waits_for_a_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordd.mq.kafka.POLL_IDLE_S", 3600)
    async with kafka_broker(tmp_path) as broker:
        for number in range(20):
            queue = KafkaQueue(broker.settings)
            for _ in range(number % 3):
                await queue.send(CHANNEL, b"x")
            await queue.close()


async def test_a_message_that_is_too_large_is_refused_at_once(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        with pytest.raises(MessageRefused, match=r"message\.max\.bytes"):
            await queue.send(CHANNEL, b"x" * 10_485_761)
        assert await queue.send(CHANNEL, b"next") == bytes(8)
        await queue.close()


async def test_an_impossible_channel_spoils_nothing_for_the_others(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=BRIEF_S)
        with pytest.raises((MessageRefused, QueueUnavailable)):
            await queue.send("x" * 600, b"x")
        assert await queue.send(CHANNEL, b"next") == bytes(8)
        await queue.close()


SECRETS = {"sasl_username": SecretStr("hidden-user"), "sasl_password": SecretStr("hidden-password")}


@pytest.mark.parametrize(
    ("settings", "error", "key"),
    [
        ({"ssl": {"enabled": True}}, QueueTlsError, "kafka.securityProtocol"),
        ({**SECRETS, "security_protocol": "SASL_PLAINTEXT"}, QueueAccessDenied, "kafka.saslUsername"),
        (
            {**SECRETS, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanisms": "SCRAM-SHA-256"},
            QueueAccessDenied,
            "kafka.saslUsername",
        ),
    ],
)
async def test_a_broker_that_speaks_otherwise_is_told_apart_and_no_secret_is_told(
    tmp_path: Path, settings: dict[str, object], error: type[Exception], key: str
) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(
            KafkaSettings.model_validate({"broker_list": (broker.address,), **settings}), delivery_timeout_s=2
        )
        with capture_logs() as lines, pytest.raises(error) as failed:
            await queue.send(CHANNEL, b"hidden-payload")
        assert key in str(failed.value)
        assert "hidden-" not in str(failed.value)
        assert "hidden-" not in str(lines)
        await queue.close()


async def test_tls_with_the_files_of_the_settings(tmp_path: Path) -> None:
    files = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    async with kafka_broker(tmp_path, tls=context) as broker:

        def queue(**ssl_settings: object) -> KafkaQueue:
            ssl_section = {"enabled": True, **ssl_settings}
            settings = {"broker_list": (broker.address,), "ssl": ssl_section}
            return KafkaQueue(KafkaSettings.model_validate(settings), delivery_timeout_s=2)

        known = {"tls_cert": files.client_cert, "tls_key": files.client_key}
        trusted = queue(tls_ca_cert=files.ca, **known)
        assert await trusted.send(CHANNEL, b"x") == bytes(8)
        await trusted.close()
        stranger = queue(tls_ca_cert=files.other_ca, **known)
        with pytest.raises(QueueTlsError, match="certificate verify failed"):
            await stranger.send(CHANNEL, b"x")
        await stranger.close()
        nobody = queue(tls_ca_cert=files.ca)
        # A broker that wants a certificate ends the connection; if by a reset, TLS is not mentioned.
        with pytest.raises((QueueTlsError, QueueUnavailable), match="Disconnected"):
            await nobody.send(CHANNEL, b"x")
        await nobody.close()
        by_its_own_names = {
            "security.protocol": "ssl",
            "ssl.ca.location": str(files.ca),
            "ssl.certificate.location": str(files.client_cert),
            "ssl.key.location": str(files.client_key),
            "acks": "0",
        }
        told = {"broker_list": (broker.address,), "producer": by_its_own_names}
        direct = KafkaQueue(KafkaSettings.model_validate(told), delivery_timeout_s=2)
        assert await direct.send(CHANNEL, b"y") == b"\1" + bytes(7)
        await direct.close()
        assert await broker.payloads(CHANNEL, 2) == [b"x", b"y"]


async def test_what_is_missing_is_told_and_not_made(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=BRIEF_S)
        await queue.send(CHANNEL, b"x")
        for _ in range(2):
            assert await queue.missing(["other", CHANNEL]) == ["other"]
        await queue.close()
        with pytest.raises(QueueClosed):
            await queue.missing([CHANNEL])


async def test_who_does_not_answer_tells_nothing_of_topics(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path, running=False) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=0.5)
        with pytest.raises(QueueUnavailable):
            await queue.missing([CHANNEL])
        await queue.close()


async def test_topics_of_a_broker_that_takes_its_time_are_heard_of(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=30)
        await queue.send(CHANNEL, b"x")
        broker.hold_answers()
        asked = broker.next_request(METADATA)
        looking = asyncio.create_task(queue.missing(["other", CHANNEL]), name="looking")
        await asked
        await broker.next_request(METADATA)  # a first look has been in vain
        broker.release_answers()
        assert await looking == ["other"]
        await queue.close()


@pytest.mark.parametrize("is_there", [False, True])
async def test_closing_ends_a_look_for_topics_that_nobody_answers(tmp_path: Path, *, is_there: bool) -> None:
    async with kafka_broker(tmp_path, running=is_there) as broker:
        queue = KafkaQueue(broker.settings, delivery_timeout_s=3600)
        if is_there:
            await queue.send(CHANNEL, b"x")
            broker.hold_answers()
        looking = asyncio.create_task(queue.missing([CHANNEL]), name="looking")
        await asyncio.sleep(0)
        await queue.close()
        with pytest.raises(QueueClosed):
            await looking
        broker.release_answers()
        await asyncio.get_running_loop().shutdown_default_executor()  # as when the process ends
        assert _threads("rdk:") == []


async def test_nobody_waits_for_a_client_that_takes_its_time_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a term's queue is being closed the replica cannot stand by again."""
    may_end = threading.Event()

    class TakesItsTime(Producer):
        def __del__(self) -> None:
            may_end.wait()

    monkeypatch.setattr(kafka, "Producer", TakesItsTime)
    monkeypatch.setattr(kafka, "CLOSE_TIMEOUT_S", 0.01)
    async with kafka_broker(tmp_path) as broker:
        queue = KafkaQueue(broker.settings)
        await queue.send(CHANNEL, b"x")
        try:
            async with asyncio.timeout(10):
                await queue.close()
            assert _threads("rdk:")
        finally:
            may_end.set()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert _threads("rdk:") == []


async def test_a_file_that_cannot_be_read_is_an_error_at_once(tmp_path: Path) -> None:
    ssl = KafkaSslSettings(enabled=True, tls_ca_cert=tmp_path / "missing.pem")
    with pytest.raises(QueueSettingsInvalid, match=r"kafka\.ssl\.tlsCaCert .*missing\.pem"):
        KafkaQueue(KafkaSettings(broker_list=("127.0.0.1:1",), ssl=ssl))


async def test_the_loop_is_only_touched_from_its_own_thread(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_debug(True)  # then a call from another thread raises
    async with kafka_broker(tmp_path) as broker:
        await _send_a_lot(broker)


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def main() -> None:
        async with kafka_broker(tmp_path) as broker:
            await _send_a_lot(broker)

    uvloop.run(main())


async def _send_a_lot(broker: Broker) -> None:
    queue = KafkaQueue(broker.settings)
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(queue.send(f"channel-{number % 16}", b"x"), name=f"send {number}")
    await queue.close()


def _threads(prefix: str) -> list[str]:
    gc.collect()
    tasks = Path("/proc/self/task").iterdir()
    names = [(task / "comm").read_text().strip() for task in tasks]
    assert len(names) >= threading.active_count()
    return [name for name in names if name.startswith(prefix)]
