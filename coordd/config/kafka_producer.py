"""What `kafka.producer.*` may not decide. Pure.

Milvus hands all of it to librdkafka, over its own settings. So does coordd, but for what its promises on
messages rest on (see `coordd.mq.kafka`): that they are numbered, that the brokers' answer is waited for, how
long one may be on its way, their order, and by whom reports are fetched.

Source of truth: Milvus 2.3.5 pkg/mq/msgstream/mqwrapper/kafka/kafka_client.go (specialExtraConfig);
librdkafka's CONFIGURATION.md, for the names.
"""

from collections.abc import Iterable
from typing import Final

_NUMBERS: Final = ("enable.idempotence", "enable.gapless.guarantee", "transactional.id")
_CONFIRMATION: Final = ("acks", "request.required.acks", "delivery.report.only.error")
_TIME: Final = ("message.timeout.ms", "delivery.timeout.ms")
_ORDER: Final = (
    "max.in.flight", "max.in.flight.requests.per.connection", "retries", "message.send.max.retries",
    "queuing.strategy",
)  # fmt: skip
_NO_TEXTS: Final = ("default.topic.config", "log.queue", "logger", "on_delivery")
"""Of confluent_kafka: objects of Python, and how its log lines are fetched."""

_KEPT: Final = frozenset((*_NUMBERS, *_CONFIRMATION, *_TIME, *_ORDER, *_NO_TEXTS))


def kept(names: Iterable[str]) -> list[str]:
    """Those of `names`, settings of librdkafka, on which coordd decides by itself."""
    return [name for name in names if name in _KEPT or name.endswith("_cb")]
