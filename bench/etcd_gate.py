"""A TCP proxy in front of etcd that cuts one process off: ``python -m bench.etcd_gate ETCD``.

Prints its address, then obeys lines on its standard input: "cut" (nothing passes in either direction,
connections stay open, new ones are accepted and stay silent) and "heal". Ends with its input.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from bench import children
from tests.support.tcp_proxy import tcp_proxy


class Gate:
    """A running gate. ``endpoint`` is what the process behind it takes for etcd."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.endpoint = process.stdout.readline().strip() if process.stdout else ""

    def cut(self) -> None:
        """Let nothing through."""
        self._say("cut")

    def heal(self) -> None:
        """Let everything through, also what was held back."""
        self._say("heal")

    def _say(self, word: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()


@contextmanager
def open_gate(etcd: str) -> Iterator[Gate]:
    """A gate in front of the etcd at "host:port", in a process of its own."""
    with children.started("bench.etcd_gate", etcd) as process:
        yield Gate(process)


async def _serve(etcd: str) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with tcp_proxy(etcd) as proxy:
        sys.stdout.write(f"{proxy.endpoint}\n")
        sys.stdout.flush()
        while line := await reader.readline():
            if line.strip() == b"cut":
                proxy.partition()
            else:
                proxy.heal()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
