"""What Milvus' own RootCoord puts on the channels, recorded.

``python -m tests.lab.channel_recording FILE`` runs a RootCoord, a DataCoord and a QueryCoord, creates and
drops collections and a partition, and keeps the messages with what RootCoord says of the collections (10 s).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from coordd.pb import common_pb2, milvus_pb2, schema_pb2
from tests.lab.cluster import MilvusLab
from tests.lab.install import LabError
from tests.lab.recorder import base, open_rootcoord
from tests.lab.wire import Stub

DATABASE = "other"
PLAIN = "plain"
KEYED = "keyed"
PARTITION = "extra"
TICKS_KEPT = 2
WAIT_S = 30.0
POOL = [f"by-dev-rootcoord-dml_{number}" for number in range(16)]


@dataclass(frozen=True, slots=True)
class ChannelMessage:
    """One message on one channel; ``facts`` is what Kafka has besides the payload."""

    channel: str
    offset: int
    payload: bytes
    facts: dict[str, Any]

    @property
    def base(self) -> common_pb2.MsgBase:
        """The part that all messages have."""
        return common_pb2.MsgHeader.FromString(self.payload).base


@dataclass(frozen=True, slots=True)
class ChannelRecording:
    """The messages, and for each collection its description and the IDs of its partitions by name."""

    server_id: int
    descriptions: dict[str, milvus_pb2.DescribeCollectionResponse]
    partitions: dict[str, dict[str, int]]
    messages: list[ChannelMessage]

    def of_type(self, kind: int) -> list[ChannelMessage]:
        """The messages of one type, in order of channel and offset."""
        return [message for message in self.messages if message.base.msg_type == kind]


def load(path: Path) -> ChannelRecording:
    """Read a recording."""
    kept = json.loads(path.read_text())
    describe = milvus_pb2.DescribeCollectionResponse.FromString
    return ChannelRecording(
        server_id=kept["server_id"],
        descriptions={name: describe(bytes.fromhex(text)) for name, text in kept["descriptions"].items()},
        partitions=kept["partitions"],
        messages=[
            ChannelMessage(one["channel"], one["offset"], bytes.fromhex(one["payload"]), one["facts"])
            for one in kept["messages"]
        ],
    )


def read_channels(brokers: str, done: Any) -> list[ChannelMessage]:
    """All messages of the pool from the beginning, until ``done(messages)``. Raises: LabError."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "recording", "enable.auto.commit": False, "log_level": 3}
    )
    try:
        existing = consumer.list_topics(timeout=10).topics
        consumer.assign([TopicPartition(name, 0, 0) for name in POOL if name in existing])
        found: list[ChannelMessage] = []
        deadline = time.monotonic() + WAIT_S
        while not done(found):
            if time.monotonic() > deadline:
                raise LabError(f"the channels hold {len(found)} messages, not what was waited for")
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(_kept(message))
        return found
    finally:
        consumer.close()


def _kept(message: Message) -> ChannelMessage:
    headers = [name for name, _value in message.headers() or []]
    facts = {"partition": message.partition(), "key": message.key(), "headers": headers}
    return ChannelMessage(message.topic() or "", message.offset() or 0, message.value() or b"", facts)


def _fewer_ticks(messages: list[ChannelMessage]) -> Iterator[ChannelMessage]:
    seen: dict[str, int] = {}
    for message in sorted(messages, key=lambda one: (one.channel, one.offset)):
        if message.base.msg_type == common_pb2.MsgType.TimeTick:
            seen[message.channel] = seen.get(message.channel, 0) + 1
            if seen[message.channel] > TICKS_KEPT:
                continue
        yield message


def _field(name: str, kind: int, **more: Any) -> schema_pb2.FieldSchema:
    parameters = [common_pb2.KeyValuePair(key=key, value=str(value)) for key, value in more.pop("params", ())]
    return schema_pb2.FieldSchema(name=name, data_type=kind, type_params=parameters, **more)


def plain_schema() -> schema_pb2.CollectionSchema:
    """A collection without anything special."""
    return schema_pb2.CollectionSchema(
        name=PLAIN,
        description="two shards",
        fields=[
            _field("pk", schema_pb2.DataType.Int64, is_primary_key=True, autoID=True),
            _field("v", schema_pb2.DataType.FloatVector, params=[("dim", 4)], description="a vector"),
        ],
    )


def keyed_schema() -> schema_pb2.CollectionSchema:
    """A collection with a partition key and dynamic fields."""
    return schema_pb2.CollectionSchema(
        name=KEYED,
        enable_dynamic_field=True,
        fields=[
            _field("pk", schema_pb2.DataType.VarChar, is_primary_key=True, params=[("max_length", 9)]),
            _field("tenant", schema_pb2.DataType.VarChar, is_partition_key=True, params=[("max_length", 64)]),
            _field("b", schema_pb2.DataType.BinaryVector, params=[("dim", 16)]),
        ],
    )


def _call(stub: Stub, method: str, **fields: Any) -> Any:
    reply = stub.call(method, stub.request_class(method)(base=base(method), **fields), timeout_s=30)
    status = reply if isinstance(reply, common_pb2.Status) else reply.status
    if status.code or status.error_code:
        raise LabError(f"{method}: {status.reason}")
    return reply


def record(lab: MilvusLab, stub: Stub) -> ChannelRecording:
    """Create, look, drop; then read the channels."""
    _call(stub, "CreateDatabase", db_name=DATABASE)
    made = (("", PLAIN, plain_schema(), 2, 0), (DATABASE, KEYED, keyed_schema(), 3, 3))
    for database, name, schema, shards, partitions in made:
        _call(
            stub,
            "CreateCollection",
            db_name=database,
            collection_name=name,
            schema=schema.SerializeToString(),
            shards_num=shards,
            num_partitions=partitions,
        )
    _call(stub, "CreatePartition", collection_name=PLAIN, partition_name=PARTITION)
    descriptions, ids = {}, {}
    for database, name, *_rest in made:
        descriptions[name] = _call(stub, "DescribeCollection", db_name=database, collection_name=name)
        shown = _call(stub, "ShowPartitions", db_name=database, collection_name=name)
        ids[name] = dict(zip(shown.partition_names, shown.partitionIDs, strict=True))
    states = stub.call("GetComponentStates", stub.request_class("GetComponentStates")())
    time.sleep(1)  # some ticks
    _call(stub, "DropPartition", collection_name=PLAIN, partition_name=PARTITION)
    time.sleep(1)
    _call(stub, "DropCollection", collection_name=PLAIN)

    def dropped(messages: list[ChannelMessage]) -> bool:
        kinds = [message.base.msg_type for message in messages]
        return kinds.count(common_pb2.MsgType.DropCollection) == 2

    messages = read_channels(lab.config.kafka_brokers, dropped)
    return ChannelRecording(states.state.nodeID, descriptions, ids, list(_fewer_ticks(messages)))


def save(path: Path, recording: ChannelRecording) -> None:
    """Write a recording."""
    document = {
        "server_id": recording.server_id,
        "descriptions": {
            name: reply.SerializeToString().hex() for name, reply in recording.descriptions.items()
        },
        "partitions": recording.partitions,
        "messages": [
            {
                "channel": message.channel,
                "offset": message.offset,
                "payload": message.payload.hex(),
                "facts": message.facts,
            }
            for message in recording.messages
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def main(path: Path) -> None:
    """Run the coordinators and record."""
    with tempfile.TemporaryDirectory() as folder, MilvusLab(Path(folder)) as lab:
        lab.start_cluster(nodes=())
        with open_rootcoord(lab.component("rootcoord").address) as stub:
            recording = record(lab, stub)
    save(path, recording)
    print(f"{path}: {len(recording.messages)} messages, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
