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
from tests.support.kafka_login import PLAIN, SCRAM, Login
from tests.support.kafka_numbers import INIT_PRODUCER_ID, PRODUCE, Numbers, Request

PROJECT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 15.0
QUIET_S = 0.5
MAX_REQUEST_BYTES = 100_000_000
LOOPS_TO_ENTER = 5
"""Rounds of the event loop after which a connection that was just let in is known."""


class Broker:
    """librdkafka's mock broker behind a door of our own.

    The mock picks a port at each start and names it in its metadata. Clients connect to the door, which
    always has the same port and puts that one into the metadata instead. The door also keeps the numbers of
    messages (`kafka_numbers`), and lets only users in if there are any (`kafka_login`). The mock forgets all
    messages when it ends, the door all numbers.

    Attributes:
        refuse: codes by which coming Produce requests are refused, whatever they are; 0 for one that is not.
        no_producer_ids: the code by which all requests for one are refused, 0 if they are not.
        refused: the codes by which such were refused for their numbers.
        users: passwords by name of those who must log in; none if nobody need.
        mechanisms: ways to log in.
        logins: the mechanism of each login, and the user's name, "" if it was refused.
    """

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: what the door speaks to clients."""
        self._folder = folder
        self._tls = tls
        self._process: LabProcess | None = None
        self._starts = 0
        # Below the ephemeral range: a client that tries a closed port there can end up connected to itself.
        self._ports = Ports()
        self._port = self._ports.take()
        self._door: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._mock_port = 0
        self._answering = asyncio.Event()
        self._answering.set()
        self._numbers = Numbers()
        self._way = self._held = asyncio.Event()
        self._way.set()
        self.refuse: list[int] = []
        self.no_producer_ids = 0
        self._arrivals: dict[int, list[asyncio.Future[None]]] = {}
        self.refused: list[int] = []
        self.users: dict[str, str] = {}
        self.mechanisms: tuple[str, ...] = (PLAIN, *SCRAM)
        self.logins: list[tuple[str, str]] = []

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
        self._numbers = Numbers()
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

    async def stopped(self) -> None:
        """Wait until what `stop` has ended is no more, lest the loop ends before."""
        for _ in range(LOOPS_TO_ENTER):
            await asyncio.sleep(0)
        while self._serving:
            self.close_door()
            await asyncio.wait(self._serving)

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
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        ends = {writer}
        self._connections |= ends
        login = Login(self.users, self.mechanisms) if self.users else None
        try:
            from_mock, to_mock = await asyncio.open_connection("127.0.0.1", self._mock_port)
            ends.add(to_mock)
            self._connections.add(to_mock)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(reader, to_mock, writer, group, login), name="requests")
                group.create_task(self._answers(from_mock, writer, login), name="answers")
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one end is gone
        finally:
            self._connections -= ends
            for end in ends:
                end.transport.abort()
            self._serving.discard(serving)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        to_mock: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        group: asyncio.TaskGroup,
        login: Login | None,
    ) -> None:
        way = self._way
        while True:
            size = await reader.readexactly(4)
            length: int = struct.unpack(">i", size)[0]
            if not 0 < length < MAX_REQUEST_BYTES:
                raise ConnectionError  # this is not Kafka's protocol
            data = await reader.readexactly(length)
            if login is not None and (answer := login.take(Request.of(data))) is not None:
                await self._log_in(login, answer, back)
                continue
            for arrival in self._arrivals.pop(Request.of(data).api, ()):
                arrival.set_result(None)
            await way.wait()
            refusal = self._refusal(data)
            if refusal:
                group.create_task(self._refuse(back, refusal), name="refusal")
            else:
                to_mock.write(size + data)
                await to_mock.drain()

    async def _log_in(self, login: Login, answer: bytes, back: asyncio.StreamWriter) -> None:
        back.write(answer)
        await back.drain()
        if login.user or login.over:
            self.logins.append((login.mechanism, login.user))
        if login.over:
            back.close()
            await back.wait_closed()
            raise ConnectionError("nobody has logged in")

    def _refusal(self, data: bytes) -> bytes:
        request = Request.of(data)
        if request.api == INIT_PRODUCER_ID and self.no_producer_ids:
            return request.refusal(self.no_producer_ids)
        if request.api != PRODUCE:
            return b""
        code = self.refuse.pop(0) if self.refuse else 0
        if not code and (code := self._numbers.take(Request.of(data).batch())):
            self.refused.append(code)
        return request.refusal(code) if code else b""

    async def _refuse(self, back: asyncio.StreamWriter, answer: bytes) -> None:
        await self._answering.wait()
        back.write(answer)
        await back.drain()

    async def _answers(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, login: Login | None
    ) -> None:
        mock, door = (struct.pack(">i", port) for port in (self._mock_port, self._port))
        while True:
            length: int = struct.unpack(">i", await reader.readexactly(4))[0]
            answer = await reader.readexactly(length)
            await self._answering.wait()
            answer = answer.replace(mock, door)
            if login is not None:
                answer = login.listed(answer)
            writer.write(struct.pack(">i", len(answer)) + answer)
            await writer.drain()

    def next_produce(self) -> asyncio.Future[None]:
        """Done when the next Produce request has been sent, whatever becomes of it."""
        return self.next_request(PRODUCE)

    def next_request(self, api: int) -> asyncio.Future[None]:
        """As `next_produce`, of another kind."""
        arrival = asyncio.get_running_loop().create_future()
        self._arrivals.setdefault(api, []).append(arrival)
        return arrival

    def hold_requests(self) -> None:
        """From now on requests of the present connections are on their way, until `release_requests`.

        Those of later connections are not; and what is on its way arrives though its sender has gone.
        """
        self._held, self._way = self._way, asyncio.Event()
        self._held.clear()
        self._way.set()

    def release_requests(self) -> None:
        """What is on its way arrives."""
        self._held.set()

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
        await broker.stopped()
