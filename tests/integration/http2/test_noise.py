"""Damaged answers and requests on real sockets: every call ends, no error gets away into the loop."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from coordd.http2.client import CallFailed, Channel, ClientSettings
from tests.support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    SETTINGS,
    block,
    data,
    frame,
    settings,
)
from tests.support.http2_peers import CHAT, ECHO, HOST, SLOW, OwnServer, own_caller, serving
from tests.support.http2_raw import Raw, call, greeted, message, raw_server

ANSWER_HEADERS = block([(":status", "200"), ("content-type", "application/grpc")])
TRAILERS = block([("grpc-status", "0"), ("grpc-message", "all%20right")])
ROUNDS = 150


@pytest.fixture
async def strays() -> Any:
    """What reached the loop's handler of exceptions that nobody caught: nothing, in the end."""
    caught: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
    yield caught
    assert caught == []


def damaged(rng: random.Random, octets: bytes) -> bytes:
    """One to three octets changed, left out or put in."""
    bad = bytearray(octets)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(bad))
        match rng.randrange(3):
            case 0:
                bad[at] ^= 1 << rng.randrange(8)
            case 1:
                del bad[at : at + rng.randrange(1, 6)]
            case _:
                bad[at:at] = rng.randbytes(rng.randrange(1, 6))
        if not bad:
            return b"\0"
    return bytes(bad)


def answers(rng: random.Random) -> Iterator[bytes]:
    """Answers to the calls on streams 1, 3 and 5, damaged in one place or another."""
    while True:
        good = b"".join(
            frame(HEADERS, END_HEADERS, stream, ANSWER_HEADERS)
            + data(stream, message(b"abc" * 20))
            + frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILERS)
            for stream in (1, 3, 5)
        )
        yield damaged(rng, good)


async def outcome(channel: Channel) -> str:
    try:
        body = await channel.unary(ECHO, b"x", timeout_s=10)
    except CallFailed:
        return "failed"
    assert isinstance(body, bytes)
    return "answered"


async def messages(channel: Channel) -> str:
    stream = channel.stream(CHAT)
    try:
        while await stream.receive() is not None:
            pass
    except CallFailed:
        return "failed"
    finally:
        stream.cancel()
    return "answered"


@pytest.mark.parametrize("seed", [1, 2])
async def test_damaged_answers(strays: list[dict[str, Any]], seed: int) -> None:
    rng = random.Random(seed)
    source = answers(rng)

    async def serve(raw: Raw) -> None:
        raw.write(settings() + frame(SETTINGS, ACK))
        asked = 0
        while asked < 2:
            for one in await raw.frames():
                asked += one.kind == DATA and bool(one.flags & END_STREAM)
        await raw.push(next(source))

    seen = set()
    async with raw_server(serve) as port:
        for _ in range(ROUNDS):
            channel = await Channel.connect(HOST, port, settings=ClientSettings(max_receive_bytes=1 << 20))
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                chat = group.create_task(messages(channel))
                calls = [group.create_task(outcome(channel)) for _ in range(2)]
            seen.update([chat.result(), *(task.result() for task in calls)])
            channel.close()
            await channel.closed.wait()
    assert seen == {"failed", "answered"}


@pytest.mark.parametrize("seed", [3, 4])
async def test_damaged_requests(strays: list[dict[str, Any]], seed: int) -> None:
    rng = random.Random(seed)
    good = call(1, SLOW, b"x" * 50) + call(3, ECHO, b"abc" * 20) + call(5, "/no/Such", b"x") + call(7, SLOW)
    async with serving(OwnServer()) as server:
        for _ in range(ROUNDS):
            async with greeted(server.port) as raw:
                await raw.push(damaged(rng, good))
                if rng.random() < 0.3:
                    raw.abort()
        caller = await own_caller(server.port)
        assert await caller.call(ECHO, b"still there") == b"still there"
        await caller.close()
        assert server.service.calls
