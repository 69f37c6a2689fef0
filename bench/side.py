"""The two sides of the comparison: a rootcoord pair of Milvus and one of coordd, on the same metadata.

Each side has an etcd of its own, so that both can be active at once and be measured in turn. Milvus makes
the metadata through a whole cluster; then its other processes are ended and coordd's etcd gets a copy.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import proc
from bench.requests import call_of, measured, parse, succeeded
from bench.wire import call_once
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.compare import compare
from tests.lab.recorder import Probe, open_rootcoord, record

ROLE = "rootcoord"
ACTIVE_KEY = f"by-dev/meta/session/{ROLE}"
# What RootCoord keeps: its metadata with its history, and the allocators' marks.
METADATA = ("by-dev/meta/root-coord/", "by-dev/meta/snapshots/root-coord/", "by-dev/kv/gid/")
# Replies that must be the same on both sides before anything is measured.
COMPARED = ("DescribeCollection", "ShowCollections", "ListDatabases")
HEALTHY = 1
POLL_S = 0.002
LIMIT_S = 60.0
# Milvus' active goes on after SIGTERM, so nothing is gained by waiting; coordd ends by itself.
_END_S = {"milvus": 1.0, "coordd": 15.0}
_SHOWN = 10


class BenchError(Exception):
    """Nothing can be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the ACTIVE key. ``pid``: of the replica, if its record tells (coordd's does)."""

    server_id: int
    address: str
    pid: int | None = None


def wait(
    what: str, probe: Callable[[], object], limit_s: float = LIMIT_S, *, every_s: float = POLL_S
) -> None:
    """Poll until it is true. Raises: BenchError."""
    deadline = time.monotonic() + limit_s
    while not probe():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {limit_s} s: {what}")
        time.sleep(every_s)


def healthy(address: str) -> bool:
    """Tell whether a coordinator answers that it is Healthy."""
    body = call_once(address, call_of("GetComponentStates"))
    if body is None:
        return False
    reply = parse("GetComponentStates", body)
    return succeeded(reply) and reply.state.state_code == HEALTHY


class Side:
    """One product's rootcoord processes on one etcd. ``name`` is "milvus" or "coordd"."""

    def __init__(self, name: str, lab: MilvusLab) -> None:
        self.name = name
        self.lab = lab
        self._started = 0

    def start(self) -> Component:
        """Start one more process; does not wait."""
        self._started += 1
        start = self.lab.start if self.name == "milvus" else self.lab.start_coordd
        return start(ROLE, name=f"{self.name}-{ROLE}-{self._started}", extra=self.extra())

    def extra(self) -> dict[str, Any] | None:
        """What is merged into the milvus.yaml of the next process."""
        return None

    def start_active(self, limit_s: float = LIMIT_S) -> Component:
        """Start a process and wait until it is Healthy. Raises: LabError when that takes longer."""
        component = self.start()
        component.process.wait_until(
            lambda: healthy(component.address), timeout_s=limit_s, what="the state Healthy"
        )
        return component

    def start_standby(self) -> Component:
        """Start a process and wait until it stands by."""
        component = self.start()
        component.wait_standby()
        return component

    def running(self) -> list[Component]:
        """Processes that have not ended."""
        return [c for c in self.lab.components if c.role == ROLE and c.process.alive()]

    def pair(self) -> tuple[Component, Component]:
        """The active and the standby; whatever is missing of the two is started."""
        if not self.running():
            self.start_active()
        if len(self.running()) == 1:
            self.start_standby()
        holder = self.holder()
        running = self.running()
        if holder is None or holder.address not in [component.address for component in running]:
            raise BenchError(f"no running process holds the ACTIVE key of {self.name}: {holder}")
        active, standby = sorted(running, key=lambda c: c.address != holder.address)
        return active, standby

    def holder(self) -> Holder | None:
        """Who holds the ACTIVE key now."""
        value = self.lab.etcd.dump(ACTIVE_KEY).get(ACTIVE_KEY)
        if value is None:
            return None
        record = json.loads(value)
        return Holder(record["ServerID"], record["Address"], record.get("Coordd", {}).get("Pid"))

    def known_holder(self) -> Holder:
        """Who holds the ACTIVE key. Raises: BenchError when nobody does."""
        holder = self.holder()
        if holder is None:
            raise BenchError(f"nobody holds the ACTIVE key of {self.name}")
        return holder

    def target(self) -> dict[str, Any]:
        """Address, server ID and process of the active of the pair, for the clients that call it."""
        active, _ = self.pair()
        holder = self.known_holder()
        pid = holder.pid or active.process.pid
        return {"address": active.address, "server_id": holder.server_id, "pid": pid}

    def end_all(self) -> None:
        """End all processes with SIGTERM, those that go on the hard way; free the ACTIVE key.

        An orderly end matters to coordd, whose successor otherwise waits until a predecessor that may still
        live has stopped serving.
        """
        running = self.running()
        for component in running:
            component.process.signal(signal.SIGTERM)
        deadline = time.monotonic() + _END_S[self.name]
        while time.monotonic() < deadline and any(c.process.alive() for c in running):
            time.sleep(POLL_S)
        for component in running:
            component.process.kill()
        if self.holder() is not None:
            self.lab.end_session(ROLE)
        wait("the ACTIVE key is gone", lambda: self.holder() is None)

    def pin(self, cpus: list[int]) -> None:
        """Keep the running processes on these CPUs."""
        for component in self.running():
            for pid in (component.process.pid, *proc.descendants(component.process.pid)):
                proc.pin(pid, cpus)

    def unpin(self) -> None:
        """Let the running processes use all CPUs that this one may."""
        self.pin(sorted(os.sched_getaffinity(0)))


@contextmanager
def both_sides(work: Path, ttl_s: int, collections: int) -> Iterator[tuple[Side, Side]]:
    """Milvus' side and coordd's, each with an active process, on the same metadata."""
    with ExitStack() as stack:
        milvus = Side("milvus", stack.enter_context(MilvusLab(work / "milvus", session_ttl_s=ttl_s)))
        lab = MilvusLab(work / "coordd", session_ttl_s=ttl_s, milvus=False, kafka=True, watchdog=True)
        coordd = Side("coordd", stack.enter_context(lab))
        _make_metadata(milvus, collections)
        milvus.start_active()
        for prefix in METADATA:
            coordd.lab.etcd.load(milvus.lab.etcd.dump(prefix))
        coordd.start_active()
        _assert_same(milvus, coordd)
        yield milvus, coordd


def _make_metadata(side: Side, collections: int) -> None:
    """Run a cluster, make one of everything and some plain collections, end the cluster.

    The rootcoord too: the one that is measured has its metadata from etcd, as coordd's has.
    """
    lab = side.lab
    lab.start_cluster(rootcoord=side.start(), nodes=("proxy", "datanode"))
    with PymilvusClient(lab.files, lab.work) as client:
        client.call("connect", host="127.0.0.1", port=lab.component("proxy").ports.rpc)
        client.call("dataset")
        for number in range(collections):
            client.call("create_collection", name=f"plain_{number}")
    for component in lab.components:
        component.process.kill()
    side.end_all()


def _assert_same(milvus: Side, coordd: Side) -> None:
    """Both sides answer the reads that are measured equally. Raises: BenchError."""
    requests = measured()
    probes = [Probe(method, method, requests[method]) for method in COMPARED]
    replies = []
    for side in (milvus, coordd):
        with open_rootcoord(side.known_holder().address) as stub:
            replies.append(record(stub, probes))
    methods = {method: method for method in COMPARED}
    if found := compare(replies[0], replies[1], methods, reloaded=True):
        shown = "\n".join(str(difference) for difference in found[:_SHOWN])
        raise BenchError(f"coordd's answers differ from Milvus':\n{shown}")


def metadata_size(side: Side) -> dict[str, int]:
    """Collections of the default database and keys in etcd."""
    holder = side.known_holder()
    body = call_once(holder.address, call_of("ShowCollections", holder.server_id))
    if not body:
        raise BenchError(f"{side.name} does not list its collections")
    keys = sum(len(side.lab.etcd.dump(prefix)) for prefix in METADATA)
    return {"collections": len(parse("ShowCollections", body).collection_ids), "keys": keys}
