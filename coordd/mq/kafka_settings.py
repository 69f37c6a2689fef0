"""`kafka.*` as settings of librdkafka, the client library that Milvus uses, too. Pure.

What Milvus sets for its producers is set alike: zstd, 10 MiB at most, 20 ms before the first attempt to
connect again. Different on purpose:

- A message goes out at once; Milvus lets it wait 2 ms for others. RootCoord has one at a time for a channel,
  and a change, or a reader who waits for a tick, waits for it.
- A message is given up after seconds, not after librdkafka's five minutes: RootCoord must not send in the
  name of a term that is over.
- Messages are numbered (`enable.idempotence`): a broker takes those of one channel in the order of their
  numbers, each once, and none with an old number any more. So what was given up on its way cannot come after
  what was sent later, a time tick for instance. Milvus' producers promise nothing of the kind.
- The pauses between attempts to connect grow to one second, not five: time ticks stand still meanwhile.

`kafka.producer.*` overrides these settings, as in Milvus, but for what the above rests on
(`coordd.config.kafka_producer`).

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/kafka/kafka_client.go (`ssl.*` as in 2.3.11).
"""

from typing import Final

from coordd.config.kafka_producer import kept
from coordd.config.message_queue import KafkaSettings

MAX_MESSAGE_BYTES: Final = 10_485_760
LINGER_MS: Final = 0
RECONNECT_FIRST_MS: Final = 20
RECONNECT_MAX_MS: Final = 1000


def producer_settings(
    kafka: KafkaSettings, *, delivery_timeout_s: float, numbered: bool = True
) -> dict[str, str | int]:
    """Settings for a librdkafka producer. Holds secrets: not for logs.

    `numbered`: False for brokers that give this user no numbers.
    """
    settings: dict[str, str | int] = {
        "bootstrap.servers": ",".join(kafka.broker_list),
        "client.id": "coordd",
        "security.protocol": kafka.protocol.lower(),
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "compression.codec": "zstd",
        "linger.ms": LINGER_MS,
        "message.timeout.ms": max(1, round(delivery_timeout_s * 1000)),
        "reconnect.backoff.ms": RECONNECT_FIRST_MS,
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "enable.idempotence": str(numbered).lower(),
    }
    if kafka.protocol.startswith("SASL_"):
        settings |= {
            "sasl.mechanisms": kafka.sasl_mechanisms,
            "sasl.username": kafka.sasl_username.get_secret_value(),
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    if kafka.ssl.enabled and kafka.protocol.endswith("SSL"):
        files = {
            "ssl.certificate.location": kafka.ssl.tls_cert,
            "ssl.key.location": kafka.ssl.tls_key,
            "ssl.ca.location": kafka.ssl.tls_ca_cert,
        }
        settings |= {name: str(path) for name, path in files.items() if path is not None}
        passphrase = kafka.ssl.tls_key_password.get_secret_value()
        if passphrase:
            settings["ssl.key.password"] = passphrase
    ours = kept(kafka.producer)
    return settings | {
        name: value.get_secret_value() for name, value in kafka.producer.items() if name not in ours
    }
