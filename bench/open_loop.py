"""Open-loop clients that follow the ACTIVE key: AllocTimestamp every few milliseconds, whatever comes back.

``python -m bench.open_loop ETCD KEY PERIOD_MS DEADLINE_MS [CLIENTS]`` prints "ready" when each client has its
first answer, and after a line on its standard input (or its end) a JSON object:

    {"clients": [{"requests": [[sent, ended, server_id, error or null], ...], "backwards": 0}, ...],
     "switches": [[seen, server_id], ...]}

Times are CLOCK_MONOTONIC seconds, errors short texts. ``backwards`` counts timestamps not above all those
that the client had been answered before the request was sent; ``switches`` are the writes of the ACTIVE key
since the start (server ID 0: it was deleted). The clients take turns in sending.

A request goes to the server that the ACTIVE key names, or named last if the key is gone, over the connection
to it that is open; without one a new one is opened. It is never sent again.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from bench.requests import call_of, parse, succeeded
from bench.wire import PREFIX, Connection, WireError, split
from coordd.etcd import EtcdClient
from coordd.etcd.settings import PlainSettings
from coordd.ha.session import SessionRecord
from coordd.log import configure

METHOD = "AllocTimestamp"
_FIRST_LIMIT_S = 10.0


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
        self._send_waiting()

    def send(self, request: _Request) -> None:
        """Send it now, or as soon as the connection is open and the server's window is."""
        if self._transport is None or self._waiting:
            self._waiting.append(request)
            return
        try:
            stream, data = self._wire.request()
        except WireError:
            self._waiting.append(request)
            return
        self._streams[stream] = request
        self._transport.write(data)

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            if request.ended is None:
                self.send(request)

    def data_received(self, data: bytes) -> None:
        ended = self._wire.receive(data)
        if self._transport is not None and (due := self._wire.pending()):
            self._transport.write(due)
        self.usable = self.usable and not self._wire.going_away
        for stream, body in ended:
            self._client.answered(self._streams.pop(stream), body)
        if self._waiting:
            self._send_waiting()

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
    _closed: bool = False

    async def tick(self, group: asyncio.TaskGroup, first_s: float) -> None:
        """Make a request each period from CLOCK_MONOTONIC ``first_s`` on, those that are late at once."""
        due = first_s
        await asyncio.sleep(max(0.0, due - time.monotonic()))
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
        if request.ended is None and not self._closed:
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
        ended = [
            [round(r.sent, 6), round(r.ended, 6), r.server_id, r.error]
            for r in self.requests
            if r.ended is not None
        ]
        return {"requests": ended, "backwards": self.backwards}

    def close(self) -> None:
        """Drop all connections; requests under way are forgotten."""
        self._closed = True
        for link in self._links.values():
            link.close()


async def _open(link: _Link, address: str) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: link, *split(address))
    except OSError as error:
        link.failed(type(error).__name__)


@dataclass(slots=True)
class _Crowd:
    """All clients, and the writes of the ACTIVE key that were seen."""

    clients: list[Client]
    switches: list[tuple[float, int]] = field(default_factory=list)

    async def follow(self, etcd: EtcdClient, key: str) -> None:
        """Keep each client's ``target`` at what the ACTIVE key says."""
        found = await etcd.get(key)
        if found.kv is not None:
            self._aim(found.kv.value)
        async for batch in etcd.watch(key, None, from_revision=found.revision + 1):
            for event in batch.events:
                server_id = 0 if event.value is None else self._aim(event.value)
                self.switches.append((round(time.monotonic(), 6), server_id))

    def _aim(self, value: bytes) -> int:
        target = SessionRecord.from_json(value)
        for client in self.clients:
            client.target = target
        return target.server_id

    def result(self) -> dict[str, Any]:
        """What is printed at the end."""
        return {"clients": [client.result() for client in self.clients], "switches": self.switches}


class _StopError(Exception):
    """The input says stop, or has ended."""


async def _until_told(crowd: _Crowd) -> None:
    # No limit: the process ends with the one that started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for client in crowd.clients:
        client.close()
    raise _StopError


async def _run(endpoint: str, key: str, crowd: _Crowd) -> None:
    try:
        async with EtcdClient(PlainSettings(endpoints=(endpoint,))) as etcd, asyncio.TaskGroup() as group:
            group.create_task(crowd.follow(etcd, key), name="follow")
            began = time.monotonic()
            for index, client in enumerate(crowd.clients):
                first_s = began + client.period_s * index / len(crowd.clients)
                group.create_task(client.tick(group, first_s), name=f"tick-{index}")
            async with asyncio.timeout(_FIRST_LIMIT_S):
                for client in crowd.clients:
                    await client.first_answer.wait()
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            group.create_task(_until_told(crowd), name="until-told")
    except* _StopError:
        pass


def main() -> None:
    """Run until told to stop."""
    endpoint, key, period_ms, deadline_ms, *more = sys.argv[1:]
    configure(level="error", stream=sys.stderr)
    count = int(more[0]) if more else 1
    crowd = _Crowd([Client(int(deadline_ms), float(period_ms) / 1000) for _ in range(count)])
    # What is kept grows with every request; looking through it again and again would delay some of them.
    gc.disable()
    uvloop.run(_run(endpoint, key, crowd))
    json.dump(crowd.result(), sys.stdout)


if __name__ == "__main__":
    main()
