"""Which message queue a configuration means."""

from pathlib import Path

import pytest

from coordd.config import ConfigError, LoadedConfig, load_config
from coordd.mq import QueueType, choose, open_queue
from coordd.mq.none import NoQueue

PULSAR = "pulsar: {address: localhost}\n"
KAFKA = "kafka: {brokerList: 'a:9092,b:9092'}\n"


def load(folder: Path, text: str) -> LoadedConfig:
    path = folder / "milvus.yaml"
    path.write_text(text)
    return load_config(path, {}, folder)


@pytest.mark.parametrize(
    ("text", "queue"),
    [
        (PULSAR, QueueType.PULSAR),
        (KAFKA, QueueType.KAFKA),
        (PULSAR + KAFKA, QueueType.PULSAR),
        ("mq: {type: Default}\n" + KAFKA, QueueType.KAFKA),
        ("mq: {type: kafka}\n" + PULSAR + KAFKA, QueueType.KAFKA),
        ("mq: {type: pulsar}\n" + PULSAR + KAFKA, QueueType.PULSAR),
        ("mq: {type: none}\n" + PULSAR + KAFKA, QueueType.NONE),
        ("mq: {type: none}\n", QueueType.NONE),
    ],
)
def test_the_choice_is_that_of_a_milvus_cluster(tmp_path: Path, text: str, queue: QueueType) -> None:
    assert choose(load(tmp_path, text)) is queue


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "mq: {type: default}\n",
            "{file}:1: mq.type is default, but neither pulsar.address nor kafka.brokerList is set"
            " (set one of them, or mq.type: none for coordinators without data nodes)",
        ),
        (
            "",
            "default: mq.type is default, but neither pulsar.address nor kafka.brokerList is set"
            " (set one of them, or mq.type: none for coordinators without data nodes)",
        ),
        ("\nmq: {type: kafka}\n" + PULSAR, "{file}:2: mq.type is kafka, but kafka.brokerList is not set"),
        ("mq: {type: pulsar}\n" + KAFKA, "{file}:1: mq.type is pulsar, but pulsar.address is not set"),
    ],
)
def test_no_queue_is_an_error_that_names_the_keys(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        choose(load(tmp_path, text))
    assert str(refused.value) == said.format(file=tmp_path / "milvus.yaml")


async def test_without_a_queue_sending_does_nothing(tmp_path: Path) -> None:
    queue = open_queue(load(tmp_path, "mq: {type: none}\n"))
    assert isinstance(queue, NoQueue)
    assert await queue.send("by-dev-rootcoord-dml_0", b"x") == b""
    assert await queue.missing(["by-dev-rootcoord-dml_0"]) == ()
    await queue.close()
    await queue.close()
