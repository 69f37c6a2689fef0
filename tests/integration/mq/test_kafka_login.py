"""Logging in to Kafka, with and without TLS, as milvus.yaml says it: librdkafka's own side of SASL."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import SecretStr
from structlog.testing import capture_logs

from coordd.config.message_queue import KafkaSettings
from coordd.mq.errors import QueueAccessDenied
from coordd.mq.kafka import KafkaQueue
from coordd.mq.types import MessageQueue
from tests.support.etcd_tls import make_tls
from tests.support.kafka import Broker, kafka_broker
from tests.support.kafka_numbers import TOPIC_AUTHORIZATION_FAILED
from tests.support.queues import configured_queue

pytestmark = pytest.mark.timeout(60)

CHANNEL = "by-dev-rootcoord-dml_0"
OTHER = "by-dev-rootcoord-dml_1"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
USER, PASSWORD = "hidden-user", "hidden-password"
TIMEOUT_S = 3.0


def configured(folder: Path, text: str) -> MessageQueue:
    """The queue of a milvus.yaml with this `kafka` section."""
    return configured_queue(folder, f"kafka:\n{text}")


def login(broker: Broker, **more: object) -> KafkaQueue:
    """One that logs in rightly, but for `more`."""
    settings = {
        "broker_list": (broker.address,),
        "sasl_username": SecretStr(USER),
        "sasl_password": SecretStr(PASSWORD),
        "security_protocol": "SASL_PLAINTEXT",
        **more,
    }
    return KafkaQueue(KafkaSettings.model_validate(settings), delivery_timeout_s=TIMEOUT_S)


async def test_each_mechanism_logs_in(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        broker.users = {USER: PASSWORD}
        for number, mechanism in enumerate(MECHANISMS):
            queue = configured(
                tmp_path,
                f"  brokerList: {broker.address}\n"
                f"  saslUsername: {USER}\n"
                f"  saslPassword: {PASSWORD}\n"
                f"  saslMechanisms: {mechanism}\n"
                "  securityProtocol: SASL_PLAINTEXT\n",
            )
            assert await queue.send(CHANNEL, b"tick") == bytes((number, *bytes(7)))
            await queue.close()
        assert {USER} == {user for _, user in broker.logins}
        assert set(MECHANISMS) == {mechanism for mechanism, _ in broker.logins}
        assert await broker.payloads(CHANNEL, len(MECHANISMS)) == [b"tick"] * len(MECHANISMS)


async def test_a_login_over_tls_with_a_certificate_and_a_key_with_a_passphrase(tmp_path: Path) -> None:
    files = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server_cert, files.server_key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    key = serialization.load_pem_private_key(files.client_key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    async with kafka_broker(tmp_path, tls=context) as broker:
        broker.users = {USER: PASSWORD}
        queue = configured(
            tmp_path,  # SASL_SSL by itself, as in Milvus
            f"  brokerList: {broker.address}\n"
            f"  saslUsername: {USER}\n"
            f"  saslPassword: {PASSWORD}\n"
            "  saslMechanisms: SCRAM-SHA-512\n"
            "  ssl:\n"
            "    enabled: true\n"
            f"    tlsCert: {files.client_cert}\n"
            f"    tlsKey: {locked}\n"
            f"    tlsCaCert: {files.ca}\n"
            "    tlsKeyPassword: passphrase\n",
        )
        assert await queue.send(CHANNEL, b"tick") == bytes(8)
        await queue.close()
        assert set(broker.logins) == {("SCRAM-SHA-512", USER)}


async def test_a_login_that_is_refused_names_what_to_check_and_tells_no_secret(tmp_path: Path) -> None:
    wrong: tuple[tuple[dict[str, object], str], ...] = (
        ({"sasl_password": SecretStr("hidden-wrong")}, "invalid credentials"),
        (
            {"sasl_mechanisms": "SCRAM-SHA-256", "sasl_username": SecretStr("hidden-nobody")},
            "invalid credentials",
        ),
        ({"sasl_mechanisms": "SCRAM-SHA-512"}, "supported mechanisms: PLAIN,SCRAM-SHA-256"),
    )
    async with kafka_broker(tmp_path) as broker:
        broker.users, broker.mechanisms = {USER: PASSWORD}, ("PLAIN", "SCRAM-SHA-256")
        queues = [login(broker, **settings) for settings, _ in wrong]
        with capture_logs() as lines:
            refused = await asyncio.gather(
                *(queue.send(CHANNEL, b"hidden-payload") for queue in queues), return_exceptions=True
            )
        for error, (_, why) in zip(refused, wrong, strict=True):
            assert isinstance(error, QueueAccessDenied)
            assert why in str(error)
            assert "kafka.saslUsername, saslPassword, saslMechanisms" in str(error.hint)
        assert "hidden-" not in f"{refused}{lines}"
        assert {user for _, user in broker.logins} == {""}
        for queue in queues:
            await queue.close()


async def test_a_user_without_the_right_to_write_is_told_so(tmp_path: Path) -> None:
    async with kafka_broker(tmp_path) as broker:
        broker.users = {USER: PASSWORD}
        queue = login(broker)
        broker.refuse = [TOPIC_AUTHORIZATION_FAILED]
        with pytest.raises(QueueAccessDenied, match="the user's rights"):
            await queue.send(CHANNEL, b"x")
        assert await queue.send(OTHER, b"x") == bytes(8)
        await queue.close()
