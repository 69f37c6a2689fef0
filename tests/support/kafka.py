"""A Kafka broker in a process of its own, at one address however often it is killed and started again."""

import asyncio
import os
import signal
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from confluent_kafka import Consumer, Message, TopicPartition

from coordd.config.message_queue import KafkaSettings
from tests.lab.process import LabProcess, Ports

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 15.0
QUIET_S = 0.5


class Broker:
    """librdkafka's mock broker behind a door of our own.

    The mock picks a port at each start and names it in its metadata. Clients connect to the door, which
    always has the same port and puts that one into the metadata instead. The mock forgets all messages when
    it ends.
    """

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: what the door speaks to clients."""
        self._folder = folder
        self._tls = tls
        self._process: LabProcess | None = None
        self._starts = 0
        # Below the ephemeral range: a client that tries a closed port there can end up connected to itself.
        self._port = Ports().take()
        self._door: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._mock_port = 0
        self._answering = asyncio.Event()
        self._answering.set()

    @property
    def address(self) -> str:
        """`host:port` for `kafka.brokerList`."""
        return f"127.0.0.1:{self._port}"

    @property
    def settings(self) -> KafkaSettings:
        """`kafka.*` of a cluster on this broker."""
        return KafkaSettings(broker_list=(self.address,))

    async def start(self) -> None:
        """Start it, and let connections in."""
        self._starts += 1
        folder = self._folder / f"broker-{self._starts}"
        published = folder / "address"
        self._process = LabProcess(
            "kafka",
            [sys.executable, "-m", "tests.lab.kafka_mock", str(published)],
            cwd=folder,
            env={"PATH": os.defpath, "PYTHONPATH": str(PROJECT)},
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not published.exists():
            assert self._process.alive(), self._process.tail()
            assert time.monotonic() < deadline, self._process.tail()
            await asyncio.sleep(0.02)
        self._mock_port = int(published.read_text().rpartition(":")[2])
        await self.open_door()

    async def kill(self) -> None:
        """SIGKILL; connections end, and are refused from now on."""
        assert self._process is not None
        self.close_door()
        self._process.kill()

    def freeze(self) -> None:
        """SIGSTOP: it answers nothing any more, its connections stay."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End it for good. May be called again."""
        self.close_door()
        if self._process is not None:
            self._process.kill()

    async def open_door(self) -> None:
        """Listen, on the same port as before."""
        self._door = await asyncio.start_server(self._enter, "127.0.0.1", self._port, ssl=self._tls)

    def close_door(self) -> None:
        """Refuse connections, end those that are there."""
        if self._door is not None:
            self._door.close()
            self._door = None
        for writer in self._connections:
            writer.transport.abort()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_mock, to_mock = await asyncio.open_connection("127.0.0.1", self._mock_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, to_mock}
        self._connections |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, to_mock), name="requests")
                group.create_task(self._answers(from_mock, writer), name="answers")
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass  # one end is gone
        finally:
            self._connections -= ends
            for end in ends:
                end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        raise ConnectionError

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mock, door = (struct.pack(">i", port) for port in (self._mock_port, self._port))
        while True:
            size = await reader.readexactly(4)
            answer = await reader.readexactly(struct.unpack(">i", size)[0])
            await self._answering.wait()
            writer.write(size + answer.replace(mock, door))
            await writer.drain()

    def hold_answers(self) -> None:
        """Take messages in and confirm none, until `release_answers`."""
        self._answering.clear()

    def release_answers(self) -> None:
        """Confirm what has been taken in, and whatever comes."""
        self._answering.set()

    async def until_message(self, channels: Sequence[str], wanted: Callable[[bytes], bool]) -> None:
        """Wait for a message on one of the channels, of now or of before, that is wanted."""
        await asyncio.to_thread(self._look_for, channels, wanted)

    def _look_for(self, channels: Sequence[str], wanted: Callable[[bytes], bool]) -> None:
        consumer = self._reader()
        try:
            consumer.assign([TopicPartition(channel, 0, 0) for channel in channels])
            deadline = time.monotonic() + READ_TIMEOUT_S
            while time.monotonic() < deadline:
                message = consumer.poll(QUIET_S)
                if message is not None and message.error() is None and wanted(message.value() or b""):
                    return
            raise AssertionError(f"no such message in {', '.join(channels)}")
        finally:
            consumer.close()

    async def lengths(self, channels: Sequence[str]) -> dict[str, int]:
        """How many messages each of the channels holds."""

        def ask() -> dict[str, int]:
            consumer = self._reader()
            try:
                ends = {one: consumer.get_watermark_offsets(TopicPartition(one, 0)) for one in channels}
            finally:
                consumer.close()
            return {one: high for one, (_low, high) in ends.items()}

        return await asyncio.to_thread(ask)

    def _reader(self) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": f"127.0.0.1:{self._mock_port}",
                "group.id": "reader",
                "enable.auto.commit": False,
                "log_level": 3,
            }
        )

    async def messages(self, channel: str, count: int) -> list[Message]:
        """The messages of partition 0, once there are `count` of them; more if there are more."""
        return await asyncio.to_thread(self._read, channel, count)

    async def payloads(self, channel: str, count: int) -> list[bytes]:
        """As `messages`, the payloads only."""
        return [message.value() or b"" for message in await self.messages(channel, count)]

    def _read(self, channel: str, count: int) -> list[Message]:
        consumer = self._reader()
        try:
            consumer.assign([TopicPartition(channel, 0, 0)])
            found: list[Message] = []
            deadline = time.monotonic() + READ_TIMEOUT_S
            while time.monotonic() < deadline:
                message = consumer.poll(QUIET_S)
                if message is not None and message.error() is None:
                    found.append(message)
                elif message is None and len(found) >= count:
                    return found
            raise AssertionError(f"{len(found)} of {count} messages in {channel}")
        finally:
            consumer.close()


@asynccontextmanager
async def kafka_broker(
    folder: Path, *, running: bool = True, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Broker]:
    """A broker that runs, or one that does not run yet."""
    broker = Broker(folder, tls)
    try:
        if running:
            await broker.start()
        yield broker
    finally:
        broker.stop()
