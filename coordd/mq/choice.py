"""Which message queue a configuration means, and what opens it.

The rule is that of a Milvus cluster: `mq.type` if it names one, else Pulsar if `pulsar.address` is set, else
Kafka if `kafka.brokerList` is set. A Milvus process that finds none ends with a panic; here it is a
`ConfigError` that names the keys.

Source of truth: Milvus 2.3.5 internal/util/dependency/factory.go (mustSelectMQType).
"""

from collections.abc import Callable
from enum import StrEnum

from coordd.config import ConfigError, LoadedConfig, Problem, normalise
from coordd.mq.errors import QueueClientMissing
from coordd.mq.types import MessageQueue


class QueueType(StrEnum):
    """The message queues that coordd knows."""

    KAFKA = "kafka"
    PULSAR = "pulsar"
    NONE = "none"


def choose(loaded: LoadedConfig) -> QueueType:
    """The queue that the configuration means. Pure.

    Raises:
        ConfigError: it means none, or one whose address is not set.
    """
    settings = loaded.settings
    addresses = {
        QueueType.PULSAR: ("pulsar.address", settings.pulsar.address),
        QueueType.KAFKA: ("kafka.brokerList", settings.kafka.broker_list),
    }
    if settings.mq.type == "default":
        for queue, (_key, address) in addresses.items():
            if address:
                return queue
        raise _refused(
            loaded,
            "is default, but neither pulsar.address nor kafka.brokerList is set",
            hint="set one of them, or mq.type: none for coordinators without data nodes",
        )
    wanted = QueueType(settings.mq.type)
    if wanted is not QueueType.NONE:
        key, address = addresses[wanted]
        if not address:
            raise _refused(loaded, f"is {wanted}, but {key} is not set")
    return wanted


def queue_maker(loaded: LoadedConfig) -> Callable[[], MessageQueue] | None:
    """What opens the queue that the configuration means; None: there is to be none.

    Loads the client library, which takes 0.1 s. What is returned needs a running event loop, and raises
    QueueSettingsInvalid if that library does not accept the settings; the queue connects in the background.

    Raises:
        ConfigError: see `choose`.
        QueueClientMissing: the client library is not installed.
    """
    match choose(loaded):
        case QueueType.NONE:
            return None
        case QueueType.KAFKA:
            try:
                from coordd.mq.kafka import KafkaQueue  # noqa: PLC0415 - an optional dependency
            except ModuleNotFoundError as error:
                raise _client_missing(QueueType.KAFKA) from error
            return lambda: KafkaQueue(loaded.settings.kafka)
        case QueueType.PULSAR:
            try:
                from coordd.mq.pulsar import PulsarQueue  # noqa: PLC0415 - an optional dependency
            except ModuleNotFoundError as error:
                raise _client_missing(QueueType.PULSAR) from error
            return lambda: PulsarQueue(loaded.settings.pulsar)


def _refused(loaded: LoadedConfig, reason: str, *, hint: str | None = None) -> ConfigError:
    return ConfigError([Problem("mq.type", loaded.origins[normalise("mq.type")], reason)], hint=hint)


def _client_missing(queue: QueueType) -> QueueClientMissing:
    return QueueClientMissing(
        f"the message queue is {queue}, but its client library is not installed",
        hint=f"pip install 'coordd[{queue}]'",
    )
