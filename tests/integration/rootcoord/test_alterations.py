"""Aliases, names and properties changed by a whole replica on real etcd: what is written, and who is told."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgBase, MsgType, Status
from coordd.rootcoord.collections import Limits, Placement, define, plan_begin, plan_finish
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.integration.rootcoord.test_peers import ROOT_COORD, Running, running
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.peers import Acting, Cluster, cluster_in, refusal
from tests.unit.rootcoord.collections.support import create_request

pytestmark = pytest.mark.timeout(60)

LIMITS = Limits(16, 16, 100, 100, 100)
FORGET = "InvalidateCollectionMetaCache"
BROADCAST = "BroadcastAlteredCollection"


@dataclass
class Scene:
    """A replica with collections `a` and `b`, a proxy and a DataCoord."""

    cluster: Cluster
    root: Running
    proxy: Acting
    data: Acting

    async def call(self, method: str, *, within_s: float = 30, **fields: Any) -> Status:
        kind = getattr(milvus_pb2, f"{method}Request")
        request = kind(base=MsgBase(msg_type=MsgType.Value(method)), **fields)
        path = f"{ROOT_COORD}{method}"
        call = Call(path, {}, boottime() + within_s)
        return Status.FromString(await self.root.dispatcher.dispatch(path, request.SerializeToString(), call))

    def forgotten(self) -> list[tuple[str, str, int]]:
        """What the proxy was told to forget so far: database, name, ID."""
        requests = self.proxy.requests(FORGET)
        return [(one.db_name, one.collection_name, one.collectionID) for one in requests]

    def id_of(self, name: str) -> int:
        row = self.root.coordinator.metadata.resolve(1, name)
        return 0 if row is None else row.collection_id


@pytest.fixture
async def cluster(etcd_server: EtcdCluster) -> AsyncIterator[Cluster]:
    async with EtcdClient(etcd_server.settings()) as client, cluster_in(client, unique_root()) as made:
        yield made


@pytest.fixture
async def scene(cluster: Cluster) -> AsyncIterator[Scene]:
    async with Acting("proxy", 1007) as proxy, Acting("datacoord", 12) as data:
        await cluster.proxy(proxy)
        await cluster.active(data)
        async with running(cluster) as root:
            for name in ("a", "b"):
                await make(root, cluster, name)
            yield Scene(cluster, root, proxy, data)


async def make(root: Running, cluster: Cluster, name: str) -> None:
    """A collection, written step by step as CreateCollection will write it."""
    tables, layout, ddl = root.coordinator.metadata, cluster.layout, root.coordinator.parts.ddl
    wanted = define(tables, create_request(name), limits=LIMITS, default_partition="_default")
    oracle, until = root.coordinator.parts.oracle, boottime() + 10
    first_id, ts = await oracle.wait_ids(2, until), await oracle.wait_timestamps(1, until)
    placement = Placement(first_id, first_id + 1, ts, (f"dml_0_{first_id}v0",), ("dml_0",), ())
    await ddl.carry_out(lambda _: plan_begin(tables, layout, wanted, placement)[0], deadline=until)
    await ddl.carry_out(lambda stamp: plan_finish(tables, layout, first_id, stamp.timestamp), deadline=until)


async def test_each_change_is_made_and_the_proxies_forget(scene: Scene) -> None:
    a, b = scene.id_of("a"), scene.id_of("b")
    assert await scene.call("CreateAlias", alias="x", collection_name="a") == Status()
    assert scene.id_of("x") == a
    assert await scene.call("AlterAlias", alias="x", collection_name="b") == Status()
    assert scene.id_of("x") == b
    assert await scene.call("RenameCollection", oldName="a", newName="c") == Status()
    assert (scene.id_of("a"), scene.id_of("c")) == (0, a)
    assert await scene.call("DropAlias", alias="x") == Status()
    assert scene.id_of("x") == 0
    assert scene.forgotten() == [
        ("default", "x", 0),
        ("default", "a", 0),
        ("default", "x", 0),
        ("default", "a", a),
        ("default", "x", 0),
    ]
    assert {one.base.sourceID for one in scene.proxy.requests(FORGET)} == {scene.root.replica.gate.server_id}
    assert scene.data.requests(BROADCAST) == []


async def test_pitfall_8_data_coord_is_told_all_properties(scene: Scene) -> None:
    for key in ("k", "l"):
        properties = [KeyValuePair(key=key, value="1")]
        assert await scene.call("AlterCollection", collection_name="a", properties=properties) == Status()
    told = scene.data.requests(BROADCAST)
    assert [[pair.key for pair in one.properties] for one in told] == [["k"], ["k", "l"]]
    assert {one.collectionID for one in told} == {scene.id_of("a")}
    assert scene.forgotten() == [("default", "a", scene.id_of("a"))] * 2


async def test_data_coord_is_told_the_fields_as_they_are_now(scene: Scene) -> None:
    asked = {"collection_name": "a", "field_name": "vector"}
    properties = [KeyValuePair(key="mmap.enabled", value="true")]
    assert await scene.call("AlterCollectionField", **asked, properties=properties) == Status()
    assert await scene.call("AlterCollectionField", **asked, delete_keys=["mmap.enabled"]) == Status()
    params = [
        {field.name: {pair.key: pair.value for pair in field.type_params} for field in one.schema.fields}
        for one in scene.data.requests(BROADCAST)
    ]
    assert [one["vector"] for one in params] == [{"dim": "8", "mmap.enabled": "true"}, {"dim": "8"}]
    assert scene.forgotten() == [("default", "a", scene.id_of("a"))] * 2


async def test_a_repeated_call_tells_everybody_again_and_writes_nothing(scene: Scene) -> None:
    properties = [KeyValuePair(key="k", value="1")]
    for _ in range(2):
        assert await scene.call("CreateAlias", alias="x", collection_name="a") == Status()
        assert await scene.call("AlterCollection", collection_name="a", properties=properties) == Status()
    revision = await scene.cluster.client.revision()
    keys = scene.root.coordinator.metadata.aliases.keys_of(1, "x")
    kv = (await scene.cluster.client.get(keys[0])).kv
    assert kv is not None
    assert (kv.version, kv.mod_revision < revision) == (1, True)
    assert len(scene.data.requests(BROADCAST)) == 2
    assert len(scene.forgotten()) == 6


async def test_a_refusal_is_milvus_and_the_proxies_forget_all_the_same(scene: Scene) -> None:
    """The name may have been changed by a term that ended before it told them."""
    status = await scene.call("RenameCollection", oldName="gone", newName="c")
    assert (status.code, status.reason.partition(": ")[2]) == (
        100,
        "collection not found[database=1][collection=gone]",
    )
    assert scene.forgotten() == [("default", "gone", 0)]
    status = await scene.call("AlterCollection", properties=[KeyValuePair(key="k", value="1")])
    assert status.reason == "alter collection failed, collection name does not exists"
    assert len(scene.forgotten()) == 1


async def test_a_proxy_that_refuses_fails_the_call_after_all_names_were_told(scene: Scene) -> None:
    scene.proxy.replies[FORGET] = refusal("out of order")
    status = await scene.call("CreateAlias", alias="x", collection_name="a")
    assert status.reason == f"{FORGET} failed, proxyID = 1007, err = out of order"
    assert scene.id_of("x") == scene.id_of("a")


async def test_it_goes_on_when_the_caller_leaves(scene: Scene) -> None:
    """The caller's time ends while DataCoord thinks; the proxies were told, and DataCoord is."""
    scene.data.hang()
    properties = [KeyValuePair(key="k", value="1")]
    status = await scene.call("AlterCollection", within_s=1, collection_name="a", properties=properties)
    assert (status.code, status.retriable) == (2, True)
    assert "it goes on" in status.reason
    assert scene.forgotten() == [("default", "a", scene.id_of("a"))]
    scene.data.resume()
    await eventually(lambda: len(scene.root.coordinator.parts.operations) == 0)
    assert await scene.call("AlterCollection", collection_name="a", properties=properties) == Status()


async def test_without_data_coord_the_call_fails_and_it_is_told_later(scene: Scene) -> None:
    scene.data.replies[BROADCAST] = refusal("not now")
    properties = [KeyValuePair(key="k", value="1")]
    status = await scene.call("AlterCollection", collection_name="a", properties=properties)
    assert status.reason == "not now"
    del scene.data.replies[BROADCAST]
    await eventually(lambda: len(scene.data.requests(BROADCAST)) >= 2, 10)
    assert [pair.key for pair in scene.data.requests(BROADCAST)[-1].properties] == ["k"]


async def test_after_the_term_the_caller_is_sent_elsewhere(cluster: Cluster) -> None:
    async with Acting("proxy", 1007) as proxy, Acting("datacoord", 12) as data:
        async with running(cluster) as root:
            pass
        with pytest.raises(RpcFailure) as caught:
            await Scene(cluster, root, proxy, data).call("DropAlias", alias="x")
        assert caught.value.code is RpcCode.UNAVAILABLE


async def test_what_was_changed_is_there_in_the_next_term(cluster: Cluster) -> None:
    async with Acting("proxy", 1007) as proxy, Acting("datacoord", 12) as data:
        async with running(cluster) as root:
            await make(root, cluster, "a")
            scene = Scene(cluster, root, proxy, data)
            assert await scene.call("CreateAlias", alias="x", collection_name="a") == Status()
            assert await scene.call("RenameCollection", oldName="a", newName="c") == Status()
        async with running(cluster) as root:
            row = root.coordinator.metadata.resolve(1, "x")
            assert row is not None
            assert row.name == "c"
