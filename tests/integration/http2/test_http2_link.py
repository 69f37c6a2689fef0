"""Connections on real sockets: writes, closing, keep-alive, and peers that do not read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from coordd.http2 import frames, link
from coordd.http2.hpack import encode
from coordd.http2.link import Keepalive, Link, PeerSilent, format_peer
from coordd.http2.owner import Http2Error, Side

REQUEST = encode([(":method", "POST"), (":path", "/s/M")])
RESPONSE = encode([(":status", "200")])
TRAILERS = encode([("grpc-status", "0")])


class Peer:
    """An owner that answers each request with its own data, and keeps what it is told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.headers_of: list[int] = []
        self.bodies: dict[int, bytes] = {}
        self.pongs = 0
        self.ended = asyncio.Event()
        self.settled_now = asyncio.Event()
        self.gone: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def headers(self, stream: int, headers: list[tuple[str, str]], ended: bool) -> None:
        self.headers_of.append(stream)
        if dict(headers).get(":path") == "/s/Bug":
            raise RuntimeError("a bug")
        if ended:
            self.ended.set()

    def data(self, stream: int, data: bytes, ended: bool) -> None:
        self.bodies[stream] = self.bodies.get(stream, b"") + data
        if ended:
            self.link.core.send_headers(stream, RESPONSE)
            self.link.core.send_last(stream, self.bodies[stream], TRAILERS)

    def reset(self, stream: int, code: int) -> None:
        self.bodies[stream] = b"reset"

    def goaway(self, last_stream: int, code: int, text: bytes) -> None:
        self.link.close()

    def pong(self, payload: bytes) -> None:
        self.pongs += 1

    def settled(self) -> None:
        self.settled_now.set()

    def lost(self, error: Exception | None) -> None:
        self.gone.set_result(error)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[int, list[Peer]]]:
    """A server on a port; the peers appear as they connect."""
    peers: list[Peer] = []

    def make(link: Link) -> Peer:
        peers.append(Peer(link))
        return peers[-1]

    server = await asyncio.get_running_loop().create_server(
        lambda: Link(make, Side.SERVER, **options), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1], peers
    finally:
        server.close()
        for peer in peers:
            peer.link.abort()
        await asyncio.sleep(0)


async def connect(port: int, **options: Any) -> Peer:
    loop = asyncio.get_running_loop()
    made: list[Peer] = []

    def make(link: Link) -> Peer:
        made.append(Peer(link))
        return made[-1]

    await loop.create_connection(lambda: Link(make, Side.CLIENT, **options), "127.0.0.1", port)
    return made[0]


def ask(peer: Peer, body: bytes, block: bytes = REQUEST) -> int:
    stream = peer.link.core.new_stream()
    peer.link.core.send_headers(stream, block)
    peer.link.core.send_data(stream, body, end=True)
    peer.link.flush_soon()
    return stream


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for sets no event
            await asyncio.sleep(0.005)


async def test_calls_and_the_end() -> None:
    async with serving() as (port, peers):
        client = await connect(port)
        streams = [ask(client, bytes([number]) * 100_000) for number in range(5)]
        await until(lambda: client.link.core.streams == 0)
        assert [client.bodies[stream][:1] for stream in streams] == [bytes([number]) for number in range(5)]
        assert all(len(client.bodies[stream]) == 100_000 for stream in streams)
        assert client.link.peername == f"ipv4:127.0.0.1:{port}"
        assert peers[0].link.peername.startswith("ipv4:127.0.0.1:")
        client.link.close()
        async with asyncio.timeout(10):
            assert await client.gone is None
            assert await peers[0].gone is None


async def test_what_is_no_http2_is_told_so_and_closed() -> None:
    async with serving() as (port, peers):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        said = await reader.read()
        assert frames.goaway(0, frames.PROTOCOL_ERROR, b"this is not HTTP/2") in said
        writer.close()
        async with asyncio.timeout(10):
            assert isinstance(await peers[0].gone, Http2Error)


async def test_a_bug_of_the_owner_ends_its_connection_only() -> None:
    async with serving() as (port, peers):
        other, client = await connect(port), await connect(port)
        ask(client, b"x", encode([(":path", "/s/Bug")]))
        async with asyncio.timeout(10):
            await client.gone
        stream = ask(other, b"still here")
        await until(lambda: other.bodies.get(stream) == b"still here")
        errors = [peer.gone.result() for peer in peers if peer.gone.done()]
        assert [type(error) for error in errors] == [RuntimeError]


async def test_the_last_words_are_written_before_it_closes() -> None:
    async with serving() as (port, peers):
        client = await connect(port)
        await until(lambda: bool(peers) and peers[0].settled_now.is_set())
        peers[0].link.core.goaway(frames.NO_ERROR)
        peers[0].link.close()
        async with asyncio.timeout(10):
            assert await client.gone is None
        assert client.link.core.peer_going_away


async def test_an_answer_to_a_ping_leaves_with_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PONG_S", 60.0)
    ping, pong = (frames.frame(frames.PING, flags, 0, b"12345678") for flags in (0, frames.ACK))
    async with serving() as (port, peers):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(frames.PREFACE + frames.settings({}))
        await until(lambda: bool(peers) and peers[0].settled_now.is_set())
        writer.write(ping)
        await until(lambda: peers[0].link.core.only_pongs)
        call = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, REQUEST)
        writer.write(call + frames.frame(frames.DATA, frames.END_STREAM, 1, b"question"))
        said = b""
        async with asyncio.timeout(10):
            while pong not in said:
                said += await reader.read(4096)
        assert said.endswith(TRAILERS + pong)
        writer.close()


async def test_an_answer_to_a_ping_leaves_by_itself_if_nothing_comes() -> None:
    async with serving() as (port, _):
        client = await connect(port)
        for number in range(1, 4):
            client.link.core.ping(b"12345678")
            client.link.flush()
            await until(lambda number=number: client.pongs == number)  # type: ignore[misc]
        client.link.abort()


async def test_keepalive_pings_what_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_PONG_S", 0.0)  # as other peers answer
    async with serving() as (port, _):
        client = await connect(port, keepalive=Keepalive(0.02, 5, without_calls=True))
        await until(lambda: client.pongs >= 3)
        assert not client.gone.done()
        client.link.abort()


async def test_keepalive_without_calls_leaves_idle_connections_alone() -> None:
    async with serving() as (port, peers):
        client = await connect(port, keepalive=Keepalive(0.01, 5, without_calls=False))
        await asyncio.sleep(0.1)
        assert client.pongs == 0
        stream = client.link.core.new_stream()
        client.link.core.send_headers(stream, REQUEST)
        client.link.flush()
        await until(lambda: client.pongs >= 1)
        assert peers[0].headers_of == [stream]
        client.link.abort()


async def test_keepalive_gives_up_a_peer_that_does_not_answer() -> None:
    done = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        done.set()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = await connect(port, keepalive=Keepalive(0.02, 0.02, without_calls=True))
    async with asyncio.timeout(10):
        assert isinstance(await client.gone, PeerSilent)
        await done.wait()
    server.close()
    await server.wait_closed()


async def test_a_server_reads_no_more_from_who_does_not_read() -> None:
    async with serving(window=1 << 30) as (port, peers):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        window = frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30)
        writer.write(frames.PREFACE + window)
        chunk = b"x" * 16_384
        for stream in range(1, 1001, 2):
            call = frames.frame(frames.HEADERS, frames.END_HEADERS, stream, REQUEST)
            call += frames.frame(frames.DATA, 0, stream, chunk) * 3
            writer.write(call + frames.frame(frames.DATA, frames.END_STREAM, stream, chunk))
        await until(lambda: bool(peers) and len(peers[0].headers_of) > 0)
        seen = -1
        while seen != len(peers[0].headers_of):
            seen = len(peers[0].headers_of)
            await asyncio.sleep(0.2)
        assert seen < 500
        transport = peers[0].link.transport
        assert transport is not None
        assert transport.get_write_buffer_size() < 2 << 20
        while len(peers[0].bodies) < 500:
            assert await reader.read(1 << 20)
        writer.transport.abort()


async def test_who_reads_slowly_is_not_taken_for_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says is not read meanwhile, and a ping would lie behind the answers."""
    monkeypatch.setattr(link, "_set_user_timeout", lambda *_: None)  # the kernel's own limit
    keepalive = Keepalive(time_s=0.02, timeout_s=0.2, without_calls=True)
    async with serving(window=1 << 30, keepalive=keepalive) as (port, peers):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        window = frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30)
        writer.write(frames.PREFACE + window)
        size = 0
        while not (peers and peers[0].link._held_up):
            call = frames.frame(frames.HEADERS, frames.END_HEADERS, 2 * size + 1, REQUEST)
            writer.write(call + frames.frame(frames.DATA, frames.END_STREAM, 2 * size + 1, b"x" * 16_384))
            size += 1
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.sleep(1.0)
        assert not peers[0].gone.done()
        writer.transport.abort()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("1.2.3.4", 5), "ipv4:1.2.3.4:5"),
        (("::1", 5, 0, 0), "ipv6:[::1]:5"),
        (("::ffff:1.2.3.4", 5, 0, 0), "ipv4:1.2.3.4:5"),
        ("/run/socket", "unix:"),
        (None, "unix:"),
    ],
)
def test_addresses(address: Any, expected: str) -> None:
    assert format_peer(address) == expected


async def pings_answered() -> int:
    """On a connection that is idle for a while, and must stay."""
    async with serving() as (port, _):
        client = await connect(port, keepalive=Keepalive(time_s=0.01, timeout_s=0.4, without_calls=True))
        await asyncio.sleep(1.2)
        assert not client.gone.done(), client.gone
        client.link.abort()
        return client.pongs


def test_answers_that_come_within_a_tick_of_the_clock_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop's clock has milliseconds: on loopback a ping and its answer have the same time."""
    monkeypatch.setattr(link, "_PONG_S", 0.0)  # as other peers answer
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(pings_answered()) > 3


async def test_a_peer_that_never_reads_our_last_words_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol error does not leave a socket and megabytes behind for as long as the peer likes."""
    monkeypatch.setattr(link, "LINGER_S", 0.2)
    async with serving() as (port, peers):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        greeting = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: frames.MAX_WINDOW})
        writer.write(greeting + frames.window_update(0, 1 << 30))
        await until(lambda: bool(peers))
        for stream in (1, 3, 5, 7):
            writer.write(frames.frame(frames.HEADERS, frames.END_HEADERS, stream, REQUEST))
            for _ in range(256):
                writer.write(frames.frame(frames.DATA, 0, stream, bytes(16_000)))
            writer.write(frames.frame(frames.DATA, frames.END_STREAM, stream, b""))
        await until(lambda: len(peers[0].bodies) > 1 and peers[0].link.transport is not None)
        peers[0].link.close()
        async with asyncio.timeout(10):
            await peers[0].gone
        writer.transport.abort()  # type: ignore[attr-defined]
