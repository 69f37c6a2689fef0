"""Open-loop client that follows the ACTIVE key: AllocTimestamp every few milliseconds, whatever comes back.

``python -m bench.open_loop ETCD KEY PERIOD_MS DEADLINE_MS`` prints "ready" with the first answer, and after a
line on its standard input a JSON object:

    {"requests": [[sent, ended, server_id, error or null], ...], "backwards": 0}

Times are CLOCK_MONOTONIC seconds, errors short texts. ``backwards`` counts timestamps not above all those
answered before the request was sent.

A request goes to the server that the ACTIVE key names, or named last if the key is gone, over the connection
to it that is open; without one a new one is opened. It is never sent again.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench.requests import call_of, parse, succeeded
from bench.wire import PREFIX, Connection, split
from coordd.etcd import EtcdClient
from coordd.etcd.settings import PlainSettings
from coordd.ha.session import SessionRecord
from coordd.log import configure

METHOD = "AllocTimestamp"
_FIRST_LIMIT_S = 10.0
_STOP_LIMIT_S = 600.0


@dataclass(slots=True)
class _Request:
    sent: float
    server_id: int
    above: int
    ended: float | None = None
    error: str | None = None


class _Link(asyncio.Protocol):
    """One connection; requests made before it is open wait for it."""

    def __init__(self, client: Client, target: SessionRecord) -> None:
        self._client = client
        self._timeout = f"{client.deadline_ms}m"
        self._wire = Connection(call_of(METHOD, target.server_id, timeout=self._timeout), target.address)
        self._transport: asyncio.Transport | None = None
        self._waiting: list[_Request] = []
        self._streams: dict[int, _Request] = {}
        self.usable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes; both set TCP_NODELAY.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._wire.opening())
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self.send(request)

    def send(self, request: _Request) -> None:
        """Send it now, or as soon as the connection is open."""
        if self._transport is None:
            self._waiting.append(request)
            return
        stream, data = self._wire.request()
        self._streams[stream] = request
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        ended = self._wire.receive(data)
        if self._transport is not None and (due := self._wire.pending()):
            self._transport.write(due)
        self.usable = self.usable and not self._wire.going_away
        for stream, body in ended:
            self._client.answered(self._streams.pop(stream), body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed("connection lost")

    def failed(self, error: str) -> None:
        """Nothing more comes from here."""
        self.usable = False
        for request in [*self._waiting, *self._streams.values()]:
            self._client.end(request, error)
        self._waiting, self._streams = [], {}

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class Client:
    """The requests made so far, and where the next one goes."""

    deadline_ms: int
    period_s: float
    requests: list[_Request] = field(default_factory=list)
    target: SessionRecord | None = None
    highest: int = 0
    backwards: int = 0
    first_answer: asyncio.Event = field(default_factory=asyncio.Event)
    _links: dict[int, _Link] = field(default_factory=dict)

    async def follow(self, etcd: EtcdClient, key: str) -> None:
        """Keep ``target`` at what the ACTIVE key says."""
        found = await etcd.get(key)
        if found.kv is not None:
            self.target = SessionRecord.from_json(found.kv.value)
        async for batch in etcd.watch(key, key + "\0", from_revision=found.revision + 1):
            for event in batch.events:
                if event.value is not None:
                    self.target = SessionRecord.from_json(event.value)

    async def tick(self, group: asyncio.TaskGroup) -> None:
        """Make a request each period, those that are late at once."""
        due = time.monotonic()
        while True:
            if self.target is not None:
                self._send(self.target, group)
            due += self.period_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _send(self, target: SessionRecord, group: asyncio.TaskGroup) -> None:
        request = _Request(time.monotonic(), target.server_id, self.highest)
        self.requests.append(request)
        asyncio.get_running_loop().call_later(self.deadline_ms / 1000, self.end, request, "deadline exceeded")
        link = self._links.get(target.server_id)
        if link is None or not link.usable:
            link = self._links[target.server_id] = _Link(self, target)
            group.create_task(_open(link, target.address), name="open")
        link.send(request)

    def end(self, request: _Request, error: str | None) -> None:
        """Note how a request ended, unless it has ended before."""
        if request.ended is None:
            request.ended, request.error = time.monotonic(), error

    def answered(self, request: _Request, body: bytes | None) -> None:
        """Take a reply."""
        if request.ended is not None:
            return
        if body is None:
            self.end(request, "gRPC error")
            return
        reply = parse(METHOD, body[PREFIX.size :])
        if not succeeded(reply):
            self.end(request, f"status {reply.status.code or reply.status.error_code}")
            return
        self.end(request, None)
        self.backwards += reply.timestamp <= request.above
        self.highest = max(self.highest, reply.timestamp)
        self.first_answer.set()

    def result(self) -> dict[str, Any]:
        """All requests that have ended."""
        ended = [[r.sent, r.ended, r.server_id, r.error] for r in self.requests if r.ended is not None]
        return {"requests": ended, "backwards": self.backwards}

    def close(self) -> None:
        """Drop all connections."""
        for link in self._links.values():
            link.close()


async def _open(link: _Link, address: str) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: link, *split(address))
    except OSError as error:
        link.failed(type(error).__name__)


class _StopError(Exception):
    """The input says stop."""


async def _until_told() -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_STOP_LIMIT_S):
        await loop.run_in_executor(None, sys.stdin.readline)
    raise _StopError


async def _run(endpoint: str, key: str, client: Client) -> None:
    try:
        async with EtcdClient(PlainSettings(endpoints=(endpoint,))) as etcd, asyncio.TaskGroup() as group:
            group.create_task(client.follow(etcd, key), name="follow")
            group.create_task(client.tick(group), name="tick")
            async with asyncio.timeout(_FIRST_LIMIT_S):
                await client.first_answer.wait()
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            group.create_task(_until_told(), name="until-told")
    except* _StopError:
        client.close()


def main() -> None:
    """Run until told to stop."""
    endpoint, key, period_ms, deadline_ms = sys.argv[1:]
    configure(level="error", stream=sys.stderr)
    client = Client(deadline_ms=int(deadline_ms), period_s=float(period_ms) / 1000)
    uvloop.run(_run(endpoint, key, client))
    json.dump(client.result(), sys.stdout)


if __name__ == "__main__":
    main()
