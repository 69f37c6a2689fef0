"""`kafka.*` as settings of librdkafka."""

from pathlib import Path

from pydantic import SecretStr

from coordd.config.message_queue import KafkaSettings, KafkaSslSettings
from coordd.mq.kafka import message_id
from coordd.mq.kafka_settings import producer_settings

LOGIN = {"sasl_username": SecretStr("u"), "sasl_password": SecretStr("p")}


def test_what_every_producer_has() -> None:
    assert producer_settings(KafkaSettings(broker_list=("a:1", "b:2")), delivery_timeout_s=2.5) == {
        "bootstrap.servers": "a:1,b:2",
        "client.id": "coordd",
        "security.protocol": "plaintext",
        "message.max.bytes": 10485760,
        "compression.codec": "zstd",
        "linger.ms": 0,
        "message.timeout.ms": 2500,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 1000,
        "enable.idempotence": "true",
    }


def test_a_login() -> None:
    settings = producer_settings(
        KafkaSettings(**LOGIN, sasl_mechanisms="SCRAM-SHA-512"), delivery_timeout_s=1
    )
    assert settings["security.protocol"] == "sasl_ssl"
    assert settings["sasl.mechanisms"] == "SCRAM-SHA-512"
    assert (settings["sasl.username"], settings["sasl.password"]) == ("u", "p")


def test_tls_with_files() -> None:
    ssl = KafkaSslSettings(
        enabled=True,
        tls_cert=Path("/c.pem"),
        tls_key=Path("/k.pem"),
        tls_ca_cert=Path("/ca.pem"),
        tls_key_password=SecretStr("s"),
    )
    settings = producer_settings(KafkaSettings(ssl=ssl), delivery_timeout_s=1)
    assert {key: value for key, value in settings.items() if key.startswith(("ssl.", "security."))} == {
        "security.protocol": "ssl",
        "ssl.certificate.location": "/c.pem",
        "ssl.key.location": "/k.pem",
        "ssl.ca.location": "/ca.pem",
        "ssl.key.password": "s",
    }


def test_files_count_only_if_they_are_enabled() -> None:
    ssl = KafkaSslSettings(tls_ca_cert=Path("/ca.pem"))
    settings = producer_settings(KafkaSettings(**LOGIN, ssl=ssl), delivery_timeout_s=1)
    assert settings["security.protocol"] == "sasl_ssl"
    assert "ssl.ca.location" not in settings


def test_what_the_protocol_has_no_use_for_is_left_out() -> None:
    """librdkafka complains of files and users that its protocol does not use."""
    ssl = KafkaSslSettings(enabled=True, tls_ca_cert=Path("/ca.pem"))
    plain = KafkaSettings(**LOGIN, ssl=ssl, security_protocol="PLAINTEXT")
    assert not [
        key for key in producer_settings(plain, delivery_timeout_s=1) if key.startswith(("sasl.", "ssl."))
    ]


def test_what_is_meant_for_librdkafka_wins_but_for_what_our_promises_rest_on() -> None:
    told = {
        "security.protocol": "ssl", "linger.ms": "7", "acks": "1", "enable.idempotence": "false",
        "message.timeout.ms": "1", "max.in.flight": "9", "logger": "x", "error_cb": "y",
    }  # fmt: skip
    kafka = KafkaSettings(broker_list=("a:1",), producer={key: SecretStr(told[key]) for key in told})
    settings = producer_settings(kafka, delivery_timeout_s=2)
    assert settings == producer_settings(KafkaSettings(broker_list=("a:1",)), delivery_timeout_s=2) | {
        "security.protocol": "ssl",
        "linger.ms": "7",
    }


def test_a_message_id_is_the_offset_in_eight_bytes() -> None:
    assert message_id(0) == bytes(8)
    assert message_id(0x0102) == b"\x02\x01\0\0\0\0\0\0"
