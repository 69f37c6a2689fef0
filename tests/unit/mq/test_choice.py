"""Which message queue a configuration means."""

from pathlib import Path

import pytest

from coordd.config import ConfigError, LoadedConfig, load_config
from coordd.mq import QueueType, choose, queue_maker

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


def test_no_queue_is_opened_if_there_is_to_be_none(tmp_path: Path) -> None:
    assert queue_maker(load(tmp_path, "mq: {type: none}\n" + KAFKA)) is None
