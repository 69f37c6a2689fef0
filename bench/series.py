"""Closed-loop client of one server for calls that each have a request of their own. A process of its own.

``python -m bench.series`` reads one job as JSON from standard input and prints its result as JSON:

    {"address": "127.0.0.1:1", "method": "CreateCollection", "server_id": 1, "streams": 16,
     "collections": ["a", "b"]}

One call is made about each of the collections (names), in their order, ``streams`` of them under way at a
time. The result has the number of ``calls``, ``wall_s``, ``client_cpu_s``, the time of each call in
``latencies_us``, and in ``failed`` how often each reason was given by replies that are no success.
"""

from __future__ import annotations

import gc
import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from bench.requests import about, call_of, parse, status_of, succeeded
from bench.wire import PREFIX, Call, Connection, WireError, connect

# At most. A proxy has one, and so has each of the other processes.
CONNECTIONS = 4
_TIMEOUT_S = 60
_CHUNK = 1 << 18


@dataclass(slots=True)
class _Link:
    """A connection, and when each call that is under way there was sent."""

    sock: socket.socket
    wire: Connection
    sent: dict[int, float] = field(default_factory=dict)


class Series:
    """The calls of one job."""

    def __init__(self, method: str, bodies: Iterable[bytes]) -> None:
        self._method = method
        self._rest = iter(bodies)
        self.latencies_us: list[float] = []
        self.failed: Counter[str] = Counter()

    def run(self, address: str, call: Call, streams: int) -> None:
        """Make all calls, so many at a time. Raises: WireError, OSError."""
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            links = []
            for _ in range(min(streams, CONNECTIONS)):
                sock, wire = connect(address, call, _TIMEOUT_S)
                links.append(_Link(stack.enter_context(sock), wire))
                selector.register(sock, selectors.EVENT_READ, links[-1])
            for index in range(streams):
                self._send(links[index % len(links)], 1)
            while any(link.sent for link in links):
                ready = selector.select(timeout=_TIMEOUT_S)
                if not ready:
                    raise WireError(f"{self._method}: no reply within {_TIMEOUT_S} s")
                for key, _ in ready:
                    self._receive(key.data)

    def _send(self, link: _Link, count: int) -> None:
        """Acknowledgements that are due, and the next calls, if there are any left."""
        out = link.wire.pending()
        for _, body in zip(range(count), self._rest, strict=False):
            stream, data = link.wire.request(body)
            link.sent[stream] = time.perf_counter()
            out += data
        if out:
            link.sock.sendall(out)

    def _receive(self, link: _Link) -> None:
        data = link.sock.recv(_CHUNK)
        now = time.perf_counter()
        if not data:
            raise WireError(f"{self._method}: the server closed the connection")
        ended = link.wire.receive(data)
        for stream, body in ended:
            self.latencies_us.append((now - link.sent.pop(stream)) * 1e6)
            self._judge(body)
        self._send(link, len(ended))

    def _judge(self, body: bytes | None) -> None:
        if body is None:
            self.failed["gRPC error"] += 1
            return
        reply = parse(self._method, body[PREFIX.size :])
        if not succeeded(reply):
            status = status_of(reply)
            self.failed[f"{status.code or status.error_code}: {status.reason}"] += 1


def run(
    address: str, method: str, server_id: int, streams: int, collections: Sequence[str]
) -> dict[str, Any]:
    """Do one job."""
    requests = [about(method, name) for name in collections]
    bodies = [request.SerializeToString() for request in requests]
    call = call_of(method, server_id, timeout=f"{_TIMEOUT_S}S", request=requests[0])
    series = Series(method, bodies)
    began, used = time.perf_counter(), time.process_time()
    series.run(address, call, streams)
    return {
        "calls": len(series.latencies_us),
        "wall_s": time.perf_counter() - began,
        "client_cpu_s": time.process_time() - used,
        "failed": dict(series.failed),
        "latencies_us": series.latencies_us,
    }


if __name__ == "__main__":
    # Looking through what is kept again and again would delay some of the calls.
    gc.disable()
    json.dump(run(**json.load(sys.stdin)), sys.stdout)
