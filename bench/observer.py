"""When does an etcd commit? ``python -m bench.observer ETCD PERIOD_MS`` puts one key every few milliseconds.

Prints "ready" with the first commit, and after a line on its standard input (or its end) a JSON object:
``{"commits": [[sent, acknowledged], ...]}``, CLOCK_MONOTONIC seconds. What is measured against it is how soon
coordd's etcd client finds etcd again, so it does not use that client, only its messages: without a connection
it opens one in every period, and so knows of etcd's return within a period.
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

from bench.wire import Call, Connection, WireError, split
from coordd.etcd.messages import rpc

_KEY = b"bench/observer"
# So many puts may wait for an answer; they all wait for the same.
_WAITING_MAX = 20
_OPEN_LIMIT_S = 0.5


@dataclass(slots=True)
class _Commits:
    """What was committed: (sent, acknowledged)."""

    every: list[tuple[float, float]] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, sent: float) -> None:
        """Note a commit, acknowledged now."""
        self.every.append((round(sent, 6), round(time.monotonic(), 6)))
        self.first.set()


class _Link(asyncio.Protocol):
    def __init__(self, address: str, commits: _Commits) -> None:
        body = rpc.PutRequest(key=_KEY, value=b"x").SerializeToString()
        self._wire = Connection(Call("/etcdserverpb.KV/Put", body), address)
        self._commits = commits
        self._sent: dict[int, float] = {}
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._wire.opening())
        self.put()

    def put(self) -> None:
        """Send one more, unless too many wait."""
        if self._transport is None or len(self._sent) >= _WAITING_MAX:
            return
        try:
            stream, data = self._wire.request()
        except WireError:
            return
        self._sent[stream] = time.monotonic()
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        ended = self._wire.receive(data)
        if self._transport is not None and (due := self._wire.pending()):
            self._transport.write(due)
        for stream, body in ended:
            sent = self._sent.pop(stream)
            if body is not None:
                self._commits.add(sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def _observe(address: str, period_s: float, commits: _Commits) -> None:
    link: _Link | None = None
    try:
        while True:
            if link is None or link.closed:
                link = await _open(address, commits)
            else:
                link.put()
            await asyncio.sleep(period_s)
    finally:
        if link is not None:
            link.close()


async def _open(address: str, commits: _Commits) -> _Link | None:
    link = _Link(address, commits)
    try:
        async with asyncio.timeout(_OPEN_LIMIT_S):
            await asyncio.get_running_loop().create_connection(lambda: link, *split(address))
    except OSError:
        return None
    return link


async def _run(address: str, period_s: float) -> dict[str, Any]:
    commits = _Commits()
    running = asyncio.create_task(_observe(address, period_s, commits), name="observe")
    await commits.first.wait()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # No limit: the process ends with the one that started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    running.cancel()
    return {"commits": commits.every}


if __name__ == "__main__":
    gc.disable()
    json.dump(uvloop.run(_run(sys.argv[1], float(sys.argv[2]) / 1000)), sys.stdout)
