"""The messages on the channels, byte for byte as Milvus' RootCoord wrote them."""

from pathlib import Path

import pytest

from coordd.mq.kafka import message_id
from coordd.pb import common_pb2, milvus_pb2
from coordd.rootcoord import messages
from tests.lab.channel_recording import (
    KEYED,
    PARTITION,
    PLAIN,
    ChannelMessage,
    ChannelRecording,
    load,
)

FILE = Path(__file__).parents[2] / "interop" / "recorded" / "channels-2.3.5.json"
CREATE, DROP = common_pb2.MsgType.CreateCollection, common_pb2.MsgType.DropCollection
DROP_PARTITION, TICK = common_pb2.MsgType.DropPartition, common_pb2.MsgType.TimeTick


@pytest.fixture(scope="module")
def recorded() -> ChannelRecording:
    return load(FILE)


def of_collection(
    recorded: ChannelRecording, kind: int, name: str
) -> tuple[milvus_pb2.DescribeCollectionResponse, list[ChannelMessage]]:
    """Its description, and the messages of one type on its channels."""
    description = recorded.descriptions[name]
    channels = set(description.physical_channel_names)
    return description, [message for message in recorded.of_type(kind) if message.channel in channels]


@pytest.mark.parametrize(("name", "channels"), [(PLAIN, 2), (KEYED, 3)])
def test_create_collection(recorded: ChannelRecording, name: str, channels: int) -> None:
    description, found = of_collection(recorded, CREATE, name)
    assert len(found) == channels
    ids = recorded.partitions[name]
    for message in found:
        assert message.payload == messages.create_collection(
            description.created_timestamp,
            collection_id=description.collectionID,
            schema=description.schema,
            virtual_channels=description.virtual_channel_names,
            physical_channels=description.physical_channel_names,
            partition_ids=[ids[part] for part in ids if part != PARTITION],
        )


@pytest.mark.parametrize("name", [PLAIN, KEYED])
def test_start_positions_are_the_ids_of_these_messages(recorded: ChannelRecording, name: str) -> None:
    description, found = of_collection(recorded, CREATE, name)
    positions = {pair.key: pair.data for pair in description.start_positions}
    assert positions == {message.channel: message_id(message.offset) for message in found}


def test_drop_partition(recorded: ChannelRecording) -> None:
    description, found = of_collection(recorded, DROP_PARTITION, PLAIN)
    assert len(found) == 2
    for message in found:
        assert message.payload == messages.drop_partition(
            message.base.timestamp,
            server_id=recorded.server_id,
            collection_id=description.collectionID,
            partition_id=recorded.partitions[PLAIN][PARTITION],
            partition_name=PARTITION,
        )


def test_drop_collection(recorded: ChannelRecording) -> None:
    description, found = of_collection(recorded, DROP, PLAIN)
    assert len(found) == 2
    for message in found:
        assert message.payload == messages.drop_collection(
            message.base.timestamp,
            server_id=recorded.server_id,
            collection_id=description.collectionID,
            collection_name=PLAIN,
        )


def test_time_ticks(recorded: ChannelRecording) -> None:
    found = recorded.of_type(TICK)
    assert len(found) >= 5
    for message in found:
        assert message.payload == messages.time_tick(message.base.timestamp, server_id=recorded.server_id)


def test_nothing_else_is_sent(recorded: ChannelRecording) -> None:
    kinds = {message.base.msg_type for message in recorded.messages}
    assert kinds == {CREATE, DROP, DROP_PARTITION, TICK}
    assert {message.facts["partition"] for message in recorded.messages} == {0}
    assert {message.facts["key"] for message in recorded.messages} == {None}


def test_after_a_tick_nothing_is_as_old(recorded: ChannelRecording) -> None:
    for channel in {message.channel for message in recorded.messages}:
        tick = 0
        for message in recorded.messages:
            if message.channel != channel:
                continue
            assert message.base.timestamp > tick or message.base.msg_type == TICK
            assert message.base.timestamp >= tick
            if message.base.msg_type == TICK:
                tick = message.base.timestamp
