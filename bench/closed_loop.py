"""Closed-loop client of one server: rate with many streams, or latency with one. A process of its own.

``python -m bench.closed_loop`` reads one job as JSON from standard input and prints its result as JSON:

    {"address": "127.0.0.1:1", "method": "AllocID", "server_id": 1, "pid": 7, "cpus": [0],
     "connections": 4, "streams": 64, "seconds": 1.0, "warm_up_s": 0.2}

``pid`` is the server's, for its CPU time. With one stream the latencies are in the result. Each reply is
checked by its first bytes (see ``bench.requests.status_prefix``).
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench import proc
from bench.requests import call_of, status_prefix
from bench.wire import PREFIX, Call, Connection, WireError, call_once, connect

TIMEOUT_S = 5.0
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Job:
    """What to do; ``expected`` is what the message of a good reply begins with, prefix not counted."""

    address: str
    call: Call
    expected: bytes
    pid: int
    connections: int
    streams: int
    seconds: float
    warm_up_s: float


def rate(job: Job) -> dict[str, Any]:
    """Keep ``streams`` calls under way on ``connections`` connections; count the replies."""
    with selectors.DefaultSelector() as selector:
        for index in range(job.connections):
            sock, connection = connect(job.address, job.call, TIMEOUT_S)
            selector.register(sock, selectors.EVENT_READ, connection)
            share = len(range(index, job.streams, job.connections))
            sock.sendall(b"".join(connection.request()[1] for _ in range(share)))
        try:
            _turn(selector, job, time.monotonic() + job.warm_up_s)
            usage = proc.Usage(job.pid)
            calls, failed = _turn(selector, job, time.monotonic() + job.seconds)
            result = usage.result()
        finally:
            for key in list(selector.get_map().values()):
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return {"calls": calls, "failed": failed, **result}


def _turn(selector: selectors.BaseSelector, job: Job, until: float) -> tuple[int, int]:
    """Answer each reply with the next request until the time is over: (replies, bad ones among them)."""
    calls = failed = 0
    expected, offset = job.expected, PREFIX.size
    while time.monotonic() < until:
        ready = selector.select(timeout=TIMEOUT_S)
        if not ready:
            raise WireError(f"{job.call.path}: no reply within {TIMEOUT_S} s")
        for key, _ in ready:
            sock, connection = key.fileobj, key.data
            data = sock.recv(_CHUNK)
            if not data:
                raise WireError(f"{job.call.path}: the server closed the connection")
            ended = connection.receive(data)
            for _, body in ended:
                if body is None or not body.startswith(expected, offset):
                    failed += 1
            calls += len(ended)
            out = connection.pending() + b"".join([connection.request()[1] for _ in ended])
            if out:
                sock.sendall(out)
    return calls, failed


def latency(job: Job) -> dict[str, Any]:
    """One call after the other on one connection; latencies in microseconds, ascending."""
    sock, connection = connect(job.address, job.call, TIMEOUT_S)
    with sock:
        _one_by_one(sock, connection, job, job.warm_up_s)
        usage = proc.Usage(job.pid)
        taken, failed = _one_by_one(sock, connection, job, job.seconds)
        result = usage.result()
    taken.sort()
    return {"calls": len(taken), "failed": failed, **result, "latencies_us": taken}


def _one_by_one(
    sock: socket.socket, connection: Connection, job: Job, seconds: float
) -> tuple[list[float], int]:
    taken: list[float] = []
    failed = 0
    until = time.perf_counter() + seconds
    began = time.perf_counter()
    while began < until:
        sock.sendall(connection.pending() + connection.request()[1])
        ended: list[tuple[int, bytes | None]] = []
        while not ended:
            data = sock.recv(_CHUNK)
            if not data:
                raise WireError(f"{job.call.path}: the server closed the connection")
            ended = connection.receive(data)
        now = time.perf_counter()
        taken.append((now - began) * 1e6)
        body = ended[0][1]
        if body is None or not body.startswith(job.expected, PREFIX.size):
            failed += 1
        began = time.perf_counter()
    return taken, failed


def _job(spec: dict[str, Any]) -> Job:
    call = call_of(spec["method"], spec["server_id"])
    body = call_once(spec["address"], call)
    if body is None:
        raise WireError(f"{spec['method']}: no reply from {spec['address']}")
    expected = status_prefix(spec["method"], body)
    names = ("address", "pid", "connections", "streams", "seconds", "warm_up_s")
    return Job(call=call, expected=expected, **{name: spec[name] for name in names})


def main() -> None:
    """Do one job."""
    spec = json.load(sys.stdin)
    if spec["cpus"]:
        os.sched_setaffinity(0, spec["cpus"])
    job = _job(spec)
    json.dump(latency(job) if job.streams == 1 else rate(job), sys.stdout)


if __name__ == "__main__":
    main()
