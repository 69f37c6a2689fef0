"""A gRPC client that does what no library would: requests without a body, many in one packet, no reading."""

import asyncio
import contextlib
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from coordd.http2.connection import Http2Connection
from coordd.http2.hpack import encode
from coordd.http2.owner import Side
from tests.support.rpc import PREFIX

LIMIT_S = 15.0
TIMESTAMP = f"{PREFIX}AllocTimestamp"
HEADERS = {
    ":method": "POST",
    ":scheme": "http",
    ":path": TIMESTAMP,
    ":authority": "127.0.0.1",
    "content-type": "application/grpc",
    "te": "trailers",
}


def framed(body: bytes, *, compressed: bool = False) -> bytes:
    """A gRPC message."""
    return struct.pack(">BI", compressed, len(body)) + body


@dataclass
class Answer:
    """What has come on one stream.

    Attributes:
        headers: the first block; of a failure without data the only one.
        reset: the code of RST_STREAM.
    """

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """grpc-status."""
        return int((self.trailers or self.headers)["grpc-status"])

    @property
    def text(self) -> str:
        """grpc-message, as it came."""
        return (self.trailers or self.headers).get("grpc-message", "")


class RawClient:
    """One connection. What comes is written down, nothing is answered but what HTTP/2 wants answered.

    Attributes:
        goaways: (last stream, code, text).
        ended: the server has closed the connection.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, window: int = 4 << 20
    ) -> None:
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int, bytes]] = []
        self.pongs: list[bytes] = []
        self.is_settled = False
        self.ended = False
        self.core = Http2Connection(Side.CLIENT, self, window=window)
        self.writer = writer
        self._reader = reader
        self.core.start()

    # --- told by the core ---

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        answer = self.answers[stream]
        if answer.headers:
            answer.trailers = dict(headers)
        else:
            answer.headers = dict(headers)
        answer.ended = ended

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.answers[stream].data += data
        self.answers[stream].ended = ended

    def reset(self, stream: int, code: int) -> None:
        self.answers[stream].reset = code

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        self.goaways.append((last_stream, code, text))

    def pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def settled(self) -> None:
        self.is_settled = True

    # --- done by a test ---

    def begin(self, body: bytes | None = None, *, end: bool = True, **headers: str | None) -> int:
        """A request, not sent yet; `body` is what goes into DATA.

        Headers are named with "_" for "-"; one that is None is left out.
        """
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {
            **HEADERS,
            **{f":{name}" if f":{name}" in HEADERS else name: v for name, v in changed.items()},
        }
        stream = self.core.new_stream()
        self.answers[stream] = Answer()
        block = encode((name, value) for name, value in fields.items() if value is not None)
        self.core.send_headers(stream, block, end=end and body is None)
        if body is not None:
            self.core.send_data(stream, body, end=end)
        return stream

    async def send(self) -> None:
        """All that was begun, in one piece."""
        self.writer.write(self.core.take())
        await self.writer.drain()

    async def until(self, told: Callable[[], object]) -> None:
        """Read until it is true, or the server has closed."""
        async with asyncio.timeout(LIMIT_S):
            while not told() and not self.ended:
                try:
                    data = await self._reader.read(1 << 16)
                except ConnectionError:
                    data = b""
                self.ended = not data
                self.core.feed(data)
                if output := self.core.take():
                    self.writer.write(output)

    async def call(
        self, body: bytes | None = framed(b""), *, end: bool = True, **headers: str | None
    ) -> Answer:
        """A whole call: its answer, as far as it comes."""
        stream = self.begin(body, end=end, **headers)
        await self.send()
        return await self.answer(stream)

    async def answer(self, stream: int) -> Answer:
        """The answer, when it has ended."""
        answer = self.answers[stream]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def until_closed(self) -> None:
        """Read to the end of the connection."""
        await self.until(lambda: False)


@asynccontextmanager
async def raw_client(
    host: str, port: int, *, tls: ssl.SSLContext | None = None, window: int = 4 << 20
) -> AsyncIterator[RawClient]:
    """A connection that has been greeted."""
    reader, writer = await asyncio.open_connection(host, port, ssl=tls)
    client = RawClient(reader, writer, window=window)
    try:
        await client.send()
        await client.until(lambda: client.is_settled)
        yield client
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
