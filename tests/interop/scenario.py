"""Steps that the interop tests share: recordings, a client that keeps allocating, a connected pymilvus."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from coordd.pb import root_coord_pb2
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.compare import Difference, compare
from tests.lab.probes import build_probes
from tests.lab.recorder import Facts, Probe, gather, open_rootcoord, record

# Kept by RootCoord in etcd: what no takeover may change.
METADATA = ("by-dev/meta/root-coord/", "by-dev/meta/snapshots/root-coord/")
COUNT = 1000
SHOWN = 40
TAKEOVER_S = 30.0
# Of clusters whose leadership is handed over: nobody waits for a session to end, and none ends because the
# machine stood still for some seconds.
SESSION_TTL_S = 30


@dataclass(frozen=True, slots=True)
class Answers:
    """What one RootCoord answered; `facts`: what there was to ask about, if it was gathered from it."""

    probes: Sequence[Probe]
    replies: dict[str, dict[str, Any]]
    facts: Facts | None = None

    def differences(self, other: Answers, *, reloaded: bool = False) -> list[Difference]:
        """What another server answers differently; ``reloaded`` as in ``tests.lab.compare``."""
        methods = {probe.name: probe.method for probe in self.probes}
        return compare(self.replies, other.replies, methods, reloaded=reloaded)

    def assert_same(
        self, other: Answers, *, reloaded: bool = False, apart_from: re.Pattern[str] | None = None
    ) -> None:
        """Fail with one difference of each reply that differs, if there are any.

        `apart_from`: probes whose names match it do not count.
        """
        found = self.differences(other, reloaded=reloaded)
        if apart_from is not None:
            found = [one for one in found if not apart_from.match(one.probe)]
        first = {difference.probe: str(difference) for difference in reversed(found)}
        shown = "\n".join(list(reversed(first.values()))[:SHOWN])
        assert not found, f"{len(first)} replies differ, at most {SHOWN} shown:\n{shown}"


def ask(component: Component, dropped: dict[str, int] | None = None) -> Answers:
    """Make the matrix from what the server holds, and record its answers."""
    with open_rootcoord(component.address) as stub:
        facts = gather(stub, dropped)
        probes = build_probes(facts)
        return Answers(probes, record(stub, probes), facts)


def ask_again(component: Component, earlier: Answers) -> Answers:
    """Send the same requests to another server."""
    with open_rootcoord(component.address) as stub:
        return Answers(earlier.probes, record(stub, earlier.probes))


def connect(lab: MilvusLab, client: PymilvusClient) -> None:
    """Connect pymilvus to the cluster's proxy."""
    client.call("connect", host="127.0.0.1", port=lab.component("proxy").ports.rpc)


def hand_over(lab: MilvusLab, active: Component, product: str, name: str) -> Component:
    """Move RootCoord from a process to a new one of a product ("coordd", "milvus"), which is healthy then."""
    heir = (lab.start_coordd if product == "coordd" else lab.start)("rootcoord", name=name)
    heir.wait_standby()
    if active.kind == "coordd":
        active.process.signal(signal.SIGTERM)
    else:
        active.process.kill()
        lab.end_session("rootcoord")
    heir.wait_state("Healthy", timeout_s=TAKEOVER_S)
    return heir


def metadata(lab: MilvusLab) -> dict[str, bytes]:
    """RootCoord's part of etcd, with its history."""
    return {key: value for prefix in METADATA for key, value in lab.etcd.dump(prefix).items()}


class Allocating:
    """Takes timestamps and ids from one server as fast as it gives them, until it fails.

    Each block must lie above the one before. After ``stop``, ``timestamp`` and ``id`` are the highest values
    that were handed out. The constructor returns when the first block is there.
    """

    def __init__(self, component: Component) -> None:
        self.timestamp = 0
        self.id = 0
        self.broken_order: list[str] = []
        self._address = component.address
        self._stopped = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name="allocating", daemon=True)
        self._thread.start()
        assert self._first.wait(timeout=20), "nothing was allocated"

    def stop(self) -> None:
        """End, and fail if the order was broken."""
        self._stopped.set()
        self._thread.join(timeout=20)
        assert not self._thread.is_alive()
        assert self.broken_order == []

    def _run(self) -> None:
        with open_rootcoord(self._address) as stub:
            while not self._stopped.is_set():
                try:
                    stamp = stub.call("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=COUNT))
                    block = stub.call("AllocID", root_coord_pb2.AllocIDRequest(count=COUNT))
                except grpc.RpcError:
                    return
                if stamp.status.code or block.status.code:
                    return
                self._take(stamp.timestamp, block.ID)

    def _take(self, timestamp: int, first_id: int) -> None:
        if timestamp <= self.timestamp or first_id <= self.id:
            self.broken_order.append(f"{timestamp} after {self.timestamp}, {first_id} after {self.id}")
        self.timestamp = timestamp + COUNT - 1
        self.id = first_id + COUNT - 1
        self._first.set()


def assert_allocates_above(component: Component, earlier: Allocating) -> None:
    """The first block of each kind lies above all that the earlier server handed out."""
    with open_rootcoord(component.address) as stub:
        stamp = stub.call("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1))
        block = stub.call("AllocID", root_coord_pb2.AllocIDRequest(count=1))
    assert earlier.timestamp < stamp.timestamp
    assert earlier.id < block.ID
