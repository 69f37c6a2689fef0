"""What librdkafka's mock broker does not do: keep the numbers of messages, as a broker of Kafka does. Pure.

A producer that numbers has an ID and an epoch; its messages of one partition have consecutive numbers, from 0
on in each epoch. A broker takes none with an epoch below the newest, and within an epoch none but the next.

Source of truth: Apache Kafka's storage module, ProducerAppendInfo.java; its protocol guide for the encoding.
"""

import struct
from dataclasses import dataclass, field
from typing import Final

PRODUCE: Final = 0
METADATA: Final = 3
INIT_PRODUCER_ID: Final = 22
FLEXIBLE_SINCE: Final = {PRODUCE: 9, INIT_PRODUCER_ID: 2}
"""Version of a request from which on its lists are "compact"; librdkafka speaks later ones to the mock."""

NOT_ENOUGH_REPLICAS: Final = 19
TOPIC_AUTHORIZATION_FAILED: Final = 29
CLUSTER_AUTHORIZATION_FAILED: Final = 31
OUT_OF_ORDER: Final = 45
DUPLICATE: Final = 46
OLD_EPOCH: Final = 47

NO_NUMBERS: Final = -1
"""As the ID of a producer: it does not number."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages of one partition."""

    topic: str
    partition: int
    producer: int
    epoch: int
    first: int
    count: int


class Reader:
    """Reads one request."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, form: str) -> int:
        value: int = struct.unpack(f">{form}", self.take(struct.calcsize(f">{form}")))[0]
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def compact(self) -> bytes:
        """A string, bytes or null."""
        return self.take(max(0, self.varint() - 1))

    def rest(self) -> bytes:
        return self._data[self._at :]

    def no_tags(self) -> None:
        assert self.varint() == 0


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    api: int
    version: int
    correlation: int
    body: Reader

    @classmethod
    def of(cls, data: bytes) -> "Request":
        """`data`: without its length."""
        reader = Reader(data)
        api, version, correlation = reader.number("h"), reader.number("h"), reader.number("i")
        reader.take(max(0, reader.number("h")))  # the client's name
        if version >= FLEXIBLE_SINCE.get(api, 1 << 15):
            reader.no_tags()
        return cls(api, version, correlation, reader)

    def batch(self) -> Batch:
        """Of a Produce request; librdkafka puts one batch into each."""
        assert self.api == PRODUCE
        assert self.version in (9, 10)
        reader = self.body
        reader.compact()  # transactional ID
        reader.number("h")  # acks
        reader.number("i")  # time-out
        assert reader.varint() == 2  # one topic
        topic = reader.compact().decode()
        assert reader.varint() == 2  # one partition
        partition = reader.number("i")
        records = reader.compact()
        # offset, length, leader epoch, magic, crc, attributes, last delta, two times, then what is wanted
        producer, epoch, first, count = struct.unpack_from(">qhii", records, 43)
        return Batch(topic, partition, producer, epoch, first, count)

    def refusal(self, code: int) -> bytes:
        """An answer that refuses, with its length."""
        assert self.version >= FLEXIBLE_SINCE[self.api]
        head = struct.pack(">ib", self.correlation, 0)
        if self.api == INIT_PRODUCER_ID:
            body = struct.pack(">ihqhb", 0, code, -1, -1, 0)
        else:
            batch = self.batch()
            topic = batch.topic.encode()
            body = b"".join(
                (
                    bytes((2, len(topic) + 1)),
                    topic,
                    b"\2",
                    struct.pack(">ihqqqbbb", batch.partition, code, -1, -1, -1, 1, 0, 0),
                    struct.pack(">bib", 0, 0, 0),
                )
            )
        return struct.pack(">i", len(head) + len(body)) + head + body


@dataclass(slots=True)
class Numbers:
    """What a broker remembers: by topic, partition and producer the newest epoch and number."""

    newest: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)

    def take(self, batch: Batch) -> int:
        """0, and the numbers are remembered; or the code by which the batch is refused."""
        if batch.producer == NO_NUMBERS:
            return 0
        key = batch.topic, batch.partition, batch.producer
        last = batch.first + batch.count - 1
        if key in self.newest:
            epoch, number = self.newest[key]
            if batch.epoch < epoch:
                return OLD_EPOCH
            if batch.epoch == epoch and last <= number:
                return DUPLICATE
            if batch.first != (number + 1 if batch.epoch == epoch else 0):
                return OUT_OF_ORDER
        self.newest[key] = batch.epoch, last
        return 0
