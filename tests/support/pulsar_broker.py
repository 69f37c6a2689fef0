"""As much of a Pulsar broker as a producer needs, inside the test: it is no proof of what a real one does.

Speaks Pulsar's binary protocol (frames of `BaseCommand`, sends with metadata and payload) to the real client
and keeps what is sent. Field numbers are those of Pulsar's PulsarApi.proto.
"""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from tests.lab.process import Ports


class Command(IntEnum):
    """Types of commands, which are also the numbers of the fields of BaseCommand that hold them."""

    CONNECT = 2
    CONNECTED = 3
    PRODUCER = 5
    SEND = 6
    SEND_RECEIPT = 7
    SUCCESS = 13
    ERROR = 14
    CLOSE_PRODUCER = 15
    PRODUCER_SUCCESS = 17
    PING = 18
    PONG = 19
    PARTITIONED_METADATA = 21
    PARTITIONED_METADATA_RESPONSE = 22
    LOOKUP = 23
    LOOKUP_RESPONSE = 24


ZSTD = 3
AUTHENTICATION_ERROR = 3
AUTHORIZATION_ERROR = 4
TOPIC_NOT_FOUND = 11
NO_REQUEST = (1 << 64) - 1
"""-1, for what is no answer to a request with a number."""
MAGIC = b"\x0e\x01"
LEDGER = 300

Fields = Mapping[int, "int | bytes"]


def encode(fields: Fields) -> bytes:
    """A protobuf message with these fields: numbers as varints, bytes with their length."""
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def decode(data: bytes) -> dict[int, "int | bytes"]:
    """The fields of a protobuf message, the last of repeated ones."""
    fields: dict[int, int | bytes] = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            fields[tag >> 3], at = _read_varint(data, at)
        else:
            size, at = _read_varint(data, at)
            fields[tag >> 3] = data[at : at + size]
            at += size
    return fields


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
        shift += 7


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: the topic, its metadata (MessageMetadata's fields) and what follows it."""

    topic: str
    metadata: dict[int, "int | bytes"]
    payload: bytes


@dataclass(slots=True)
class PulsarBroker:
    """What came in, and how it answers: with `mute` not at all, with `refuse` that nobody may write.

    `refuse_login`: it knows nobody. `makes_topics`: what is not there when it is asked for. `tls`: what it
    speaks, if not plain text.
    """

    ports: Ports = field(default_factory=Ports)
    port: int = field(init=False)
    sent: list[Sent] = field(default_factory=list)
    logins: list[dict[int, "int | bytes"]] = field(default_factory=list)
    mute: bool = False
    refuse: bool = False
    refuse_login: bool = False
    makes_topics: bool = True
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.port = self.ports.take()

    @property
    def address(self) -> str:
        """For `pulsar.address`."""
        return f"pulsar{'+ssl' if self.tls else ''}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen (again, on the same port)."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)

    async def stop(self) -> None:
        """Refuse connections, end those that are there."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        topics: dict[int | bytes, str] = {}
        self._writers.add(writer)
        try:
            while True:
                frame = await reader.readexactly(struct.unpack(">I", await reader.readexactly(4))[0])
                (size,) = struct.unpack(">I", frame[:4])
                command = decode(frame[4 : 4 + size])
                kind = int(command[1])
                body = decode(bytes(command.get(kind, b"")))
                answer = self._answer(kind, body, frame[4 + size :], topics)
                if answer is not None and not self.mute:
                    reply, fields = answer
                    data = encode({1: reply, reply: encode(fields)})
                    writer.write(struct.pack(">II", len(data) + 4, len(data)) + data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(  # noqa: PLR0911 - one answer to each command
        self, kind: int, body: dict[int, "int | bytes"], rest: bytes, topics: dict["int | bytes", str]
    ) -> tuple[int, Fields] | None:
        match kind:
            case Command.CONNECT:
                self.logins.append(body)
                if self.refuse_login:
                    return Command.ERROR, {1: NO_REQUEST, 2: AUTHENTICATION_ERROR, 3: b"who are you"}
                return Command.CONNECTED, {1: b"stand-in", 2: 15, 3: 5 << 20}
            case Command.PING:
                return Command.PONG, {}
            case Command.PARTITIONED_METADATA:
                return Command.PARTITIONED_METADATA_RESPONSE, {1: 0, 2: body[2], 3: 0}
            case Command.LOOKUP:
                return Command.LOOKUP_RESPONSE, {
                    2 if self.tls else 1: self.address.encode(),
                    3: 1,
                    4: body[2],
                    5: 1,
                }
            case Command.PRODUCER if self.refuse:
                return Command.ERROR, {1: body[3], 2: AUTHORIZATION_ERROR, 3: b"not you"}
            case Command.PRODUCER if not self.makes_topics:
                return Command.ERROR, {1: body[3], 2: TOPIC_NOT_FOUND, 3: b"no such topic"}
            case Command.PRODUCER:
                topics[body[2]] = bytes(body[1]).decode()
                return Command.PRODUCER_SUCCESS, {1: body[3], 2: b"stand-in-1", 4: b""}
            case Command.SEND:
                return self._keep(body, rest, topics)
            case Command.CLOSE_PRODUCER:
                return Command.SUCCESS, {1: body[2]}
            case _:
                return None

    def _keep(
        self, body: dict[int, "int | bytes"], rest: bytes, topics: dict["int | bytes", str]
    ) -> tuple[int, Fields]:
        assert rest[:2] == MAGIC
        (size,) = struct.unpack(">I", rest[6:10])
        sent = Sent(topics[body[1]], decode(rest[10 : 10 + size]), rest[10 + size :])
        if not self.mute:
            self.sent.append(sent)
        place = encode({1: LEDGER, 2: len(self.sent) - 1})
        return Command.SEND_RECEIPT, {1: body[1], 2: body.get(2, 0), 3: place}


@asynccontextmanager
async def pulsar_broker(
    *, running: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[PulsarBroker]:
    """A broker that runs, or one that refuses connections so far."""
    broker = PulsarBroker(tls=tls)
    await broker.start()
    try:
        if not running:
            await broker.stop()
        yield broker
    finally:
        await broker.stop()
