"""The quota centre beside Milvus' own: what proxies are told, and what clients of a real one meet with."""

import asyncio
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coordd.ha.session import SessionRecord
from coordd.ha.tasks import TaskScope
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.internal_pb2 import ChannelTimeTickMsg, RateType
from coordd.pb.milvus_pb2 import GetMetricsResponse
from coordd.pb.proxy_pb2 import CollectionRate
from coordd.rootcoord.quota.request import NO_LIMIT
from coordd.rpc.status import success
from tests.interop.scenario import connect
from tests.interop.test_collections import create
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.recorder import open_rootcoord
from tests.lab.wire import Stub
from tests.support.etcd import eventually
from tests.support.peers import Acting
from tests.unit.rootcoord.quota.support import proxy_text

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

PATIENCE_S = 40.0
RATE_LIMIT, QUOTA_EXCEEDED = 8, 9
PROXIES = (70, 71)
DENY = "by-dev/config/quotaAndLimits/limitWriting/forceDeny"
DENY_READING = "by-dev/config/quotaAndLimits/limitReading/forceDeny"
EXTRA: dict[str, Any] = {
    "quotaAndLimits": {
        "enabled": True,
        "quotaCenterCollectInterval": 1,
        "dml": {
            "enabled": True,
            "insertRate": {"collection": {"max": 0.001}},
            "deleteRate": {"max": 5, "collection": {"max": -1}},
        },
    }
}


# --- what proxies are told ---


def session(proxy: Acting) -> dict[str, bytes]:
    record = SessionRecord(
        server_id=proxy.server_id, server_name="proxy", address=proxy.address, version="2.3.5"
    )
    return {f"by-dev/meta/session/proxy-{proxy.server_id}": record.to_json()}


def last_told(proxy: Acting) -> list[CollectionRate]:
    requests = proxy.requests("SetRates")
    return list(requests[-1].rates) if requests else []


def as_data(rate: CollectionRate) -> dict[str, Any]:
    rates = {RateType.Name(one.rt): one.r for one in rate.rates if one.r < NO_LIMIT}
    return {"rates": rates, "states": list(rate.states), "codes": list(rate.codes)}


def start(kind: str, lab: MilvusLab) -> Component:
    component = lab.start("rootcoord") if kind == "milvus" else lab.start_coordd("rootcoord")
    lab.start_cluster(rootcoord=component, nodes=("datanode",))
    return component


async def report(stub: Stub) -> None:
    """Time ticks of the two proxies: without any a data node does not get to work for a collection."""
    loop = asyncio.get_running_loop()
    while True:
        for server_id in PROXIES:
            base = MsgBase(msg_type=MsgType.TimeTick, sourceID=server_id)
            message = ChannelTimeTickMsg(base=base, default_timestamp=time.time_ns() // 1_000_000 << 18)
            await loop.run_in_executor(None, stub.call, "UpdateChannelTimeTick", message)
        await asyncio.sleep(0.2)


async def told_by(kind: str, lab: MilvusLab) -> dict[str, dict[str, Any]]:
    """What a RootCoord tells two proxies of a new collection, and again while writing is denied."""
    loop = asyncio.get_running_loop()
    rootcoord = await loop.run_in_executor(None, start, kind, lab)
    found: dict[str, dict[str, Any]] = {}
    async with Acting("proxy", PROXIES[0]) as proxy, Acting("proxy", PROXIES[1]) as other:
        for one in (proxy, other):  # an answer that is no JSON would spoil each of Milvus' rounds
            one.replies["GetProxyMetrics"] = GetMetricsResponse(status=success(), response=proxy_text())
            lab.etcd.load(session(one))
        with open_rootcoord(rootcoord.address) as stub:
            async with TaskScope() as scope:
                scope.create_task(report(stub), name="time ticks")
                method, request = create("books")
                make = partial(stub.call, method, request, timeout_s=60)
                assert (await loop.run_in_executor(None, make)).code == 0
                found["usually"] = await both_told(proxy, other, denied=False)
                lab.etcd.load({DENY: b"true"})
                found["denied"] = await both_told(proxy, other, denied=True)
    return found


async def both_told(proxy: Acting, other: Acting, *, denied: bool) -> dict[str, Any]:
    """What both are told of the collection, as soon as it is denied or not."""
    for one in (proxy, other):
        await eventually(
            lambda one=one: any(bool(rate.states) == denied for rate in last_told(one)), PATIENCE_S
        )
    ours, others = as_data(last_told(proxy)[0]), as_data(last_told(other)[0])
    assert ours == others
    return ours


async def test_proxies_are_told_what_milvus_tells_them(tmp_path: Path) -> None:
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in ("milvus", "coordd"):
        with MilvusLab(tmp_path / kind, extra=EXTRA) as lab:
            told[kind] = await told_by(kind, lab)
    assert told["coordd"] == told["milvus"]
    assert told["coordd"]["usually"]["rates"] == {
        "DMLInsert": pytest.approx(0.001 * 1_048_576 / 2),
        "DMLDelete": pytest.approx(5 * 1_048_576 / 2),
    }
    assert told["coordd"]["denied"] == {
        "rates": dict.fromkeys(("DMLInsert", "DMLUpsert", "DMLDelete", "DMLBulkLoad"), 0.0),
        "states": [5],
        "codes": [48],
    }


# --- what clients meet with ---


class Inserting:
    """A client that inserts into one collection, each time other rows."""

    def __init__(self, lab: MilvusLab, client: PymilvusClient, name: str) -> None:
        self._lab, self._client, self.name = lab, client, name
        self._next = 0

    def once(self) -> tuple[int, str]:
        """Code and message of one insert of some 4 KiB, 0 for success."""
        self._next += 100
        code, message = self._client.call(
            "refusal_of_insert", name=self.name, first=self._next, count=100, timeout_s=60
        )
        return code, re.sub(r"[0-9]+\.[0-9]+", "N", message)

    def until(self, code: int) -> str:
        """Insert until that is the outcome; its message."""

        def probe() -> tuple[int, str] | None:
            outcome = self.once()
            return outcome if outcome[0] == code else None

        return self._wait(probe)[1]

    def until_free(self) -> None:
        """Insert until three inserts in a row succeed: one does whenever a limited rate allows it."""
        self._wait(lambda: all(self.once()[0] == 0 for _ in range(3)))

    def until_search(self, code: int) -> str:
        """Search until that is the outcome; its message."""

        def probe() -> tuple[int, str] | None:
            outcome = self._client.call("refusal_of_search", name=self.name, key=150, timeout_s=60)
            return (outcome[0], outcome[1]) if outcome[0] == code else None

        return self._wait(probe)[1]

    def _wait(self, probe: Callable[[], Any]) -> Any:
        process = self._lab.component("proxy").process
        return process.wait_until(probe, timeout_s=PATIENCE_S, what="the outcome of an insert or a search")


def met_with(lab: MilvusLab, client: PymilvusClient, name: str) -> dict[str, str]:
    """Everything a client meets with, by moment."""
    client.call("create_collection", name=name)
    inserting = Inserting(lab, client, name)
    seen = {"limited": inserting.until(RATE_LIMIT)}
    client.call("alter_properties", name=name, properties={"collection.insertRate.max.mb": "64"})
    inserting.until_free()
    client.call("index_and_load", name=name)
    inserting.until_search(0)
    lab.etcd.load({DENY: b"true", DENY_READING: b"true"})
    seen["writing denied"] = inserting.until(QUOTA_EXCEEDED)
    seen["reading denied"] = inserting.until_search(QUOTA_EXCEEDED)
    lab.etcd.delete(DENY)
    lab.etcd.delete(DENY_READING)
    inserting.until_free()
    inserting.until_search(0)
    return seen


def test_clients_meet_with_what_they_do_on_milvus(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab", extra=EXTRA) as lab, PymilvusClient(lab.files, tmp_path) as client:
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_state("Healthy")
        lab.start_cluster(rootcoord=coordd)
        connect(lab, client)
        ours = met_with(lab, client, "books")
        denied = "quota exceeded[reason=the writing has been deactivated by the administrator]"
        assert ours == {
            "limited": "request is rejected by grpc RateLimiter middleware, please retry later: "
            "rate limit exceeded[rate=N]",
            "writing denied": denied,
            "reading denied": denied,
        }
        gauge = 'milvus_rootcoord_quota_states{quota_states="MemoryQuotaExhausted"} 0.0'
        assert gauge in coordd.http("/metrics")[1]
        milvus = lab.start("rootcoord")
        milvus.wait_standby()
        coordd.process.signal(signal.SIGTERM)
        milvus.wait_state("Healthy")
        assert met_with(lab, client, "more_books") == ours
