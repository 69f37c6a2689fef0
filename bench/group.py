"""A pair of replicas to make trouble for: who is active, which processes it has, how it is made whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from bench import generate
from bench.etcd_gate import Gate, open_gate
from bench.side import LIMIT_S, ROLE, BenchError, Holder, Side, healthy, wait
from tests.lab.cluster import Component, MilvusLab

# Slow enough not to take part in what is measured.
_POLL_S = 0.05
_UNDISTURBED_S = 0.2
_CLI_LIMIT_S = 60.0
_SUCCESS = re.compile(r"startup success\b.*")
_PHASE = re.compile(r"\[?(\w+)_s=\"?([0-9.e-]+)")


class Group(Side):
    """A pair on an etcd of its own. ``gated``: each process reaches etcd through a gate of its own.

    ``limit_s``: how long a process may take until it stands by.
    """

    def __init__(self, name: str, lab: MilvusLab, *, gated: bool = False, limit_s: float = LIMIT_S) -> None:
        super().__init__(name, lab)
        self._gated = gated
        self._limit_s = limit_s
        self._stack = ExitStack()
        self._gates: dict[int, Gate] = {}
        self._next: Gate | None = None
        self._stopped: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def extra(self) -> dict[str, Any] | None:
        """The gate as the etcd of the next process."""
        if not self._gated:
            return None
        self._next = self._stack.enter_context(open_gate(self.lab.etcd.endpoint))
        return {"etcd": {"endpoints": self._next.endpoint}}

    def start(self) -> Component:
        """Start one more process; does not wait."""
        component = super().start()
        if self._next is not None:
            self._gates[component.process.pid] = self._next
        return component

    def gate(self, component: Component) -> Gate:
        """The gate between a process and etcd."""
        return self._gates[component.process.pid]

    def replica_pid(self) -> int:
        """The process that serves, not the one that looks after it."""
        return self.known_holder().pid or self.pair_of_running()[0].process.pid

    def wait_taken_over(self, before: Holder, limit_s: float) -> Component:
        """Wait until another replica than ``before`` is active and Healthy; returns its process."""

        def taken_over() -> bool:
            holder = self.holder()
            return holder is not None and holder.server_id != before.server_id and healthy(holder.address)

        time.sleep(_UNDISTURBED_S)
        wait(f"{self.name}: another replica is active", taken_over, limit_s, every_s=_POLL_S)
        return self.pair_of_running()[0]

    def pair_of_running(self) -> list[Component]:
        """The running processes, the active one first."""
        address = self.known_holder().address
        return sorted(self.running(), key=lambda one: one.address != address)

    def make_whole(self) -> tuple[Component, Component]:
        """Wait until there are an active replica and a standby; processes that have ended are replaced."""
        if not self.running():
            self.start_active()
        if len(self.running()) == 1:
            self.start()
        active, *others = self.pair_of_running()
        for other in others:
            other.wait_standby(timeout_s=self._limit_s)
        return active, others[0]

    def replace(self, component: Component) -> None:
        """End a process the hard way, and start another."""
        component.process.kill()
        self.make_whole()

    def stop_host(self, component: Component, replica: int) -> None:
        """SIGSTOP the replica and what looks after it, which must not notice."""
        self._stopped = [component.process.pid, replica]
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)

    def continue_host(self) -> None:
        """Let run again what ``stop_host`` has stopped."""
        while self._stopped:
            os.kill(self._stopped.pop(), signal.SIGCONT)

    def phases_ms(self, component: Component) -> dict[str, float]:
        """Phases of the newest takeover by a process, from its log; milliseconds."""
        lines = _SUCCESS.findall(component.process.log.read_text(errors="replace"))
        return {name: float(value) * 1000 for name, value in _PHASE.findall(lines[-1])} if lines else {}

    def switchover(self, component: Component) -> None:
        """Ask for a switchover as an operator does. Raises: BenchError when it is refused."""
        folder = str(component.process.log.parent)
        command = [sys.executable, "-m", "coordd", "switchover", ROLE, "--wait", "--config", folder]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_CLI_LIMIT_S, check=False, cwd=folder
        )
        if done.returncode != 0:
            raise BenchError(f"coordd switchover: {done.returncode}\n{done.stdout}{done.stderr}")


@contextmanager
def open_group(
    work: Path,
    name: str,
    ttl_s: int,
    collections: int,
    *,
    gated: bool = False,
    limit_s: float = LIMIT_S,
) -> Iterator[Group]:
    """A group of "milvus" or "coordd" on generated metadata, with a process that is active.

    Raises: LabError when that one is not Healthy within ``limit_s``, which each later start may take, too.
    """
    milvus = name == "milvus"
    with (
        MilvusLab(work, session_ttl_s=ttl_s, milvus=milvus, kafka=True, watchdog=True) as lab,
        Group(name, lab, gated=gated, limit_s=limit_s) as group,
    ):
        generate.write(lab.etcd.endpoint, generate.metadata(collections, snapshots=milvus))
        group.start_active(limit_s)
        yield group
