"""Calls to the active process of a role through its crashes, hangs and moves: real servers and sessions."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from google.protobuf.message import Message

from coordd.clock import boottime
from coordd.etcd import EtcdClient
from coordd.ha.tasks import TaskScope
from coordd.pb import common_pb2, data_coord_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.rpc.connection import ClientOptions
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.peer import Peer, PeerUnavailable
from tests.support.etcd import EtcdCluster, eventually, free_ports, unique_root
from tests.support.peers import CLUSTER, OPTIONS, Acting, Cluster, acting_process, cluster_in, refusal

pytestmark = pytest.mark.timeout(60)

GC_CONFIRM = "/milvus.proto.data.DataCoord/GcConfirm"
REQUEST = data_coord_pb2.GcConfirmRequest(collection_id=1, partition_id=-1)
DONE = data_coord_pb2.GcConfirmResponse(gc_finished=True)


@pytest.fixture
async def cluster(etcd_server: EtcdCluster) -> AsyncIterator[Cluster]:
    async with EtcdClient(etcd_server.settings()) as client, cluster_in(client, unique_root()) as made:
        yield made


@asynccontextmanager
async def kept(cluster: Cluster, options: ClientOptions = OPTIONS) -> AsyncIterator[Peer]:
    async with TaskScope() as scope:
        peer = Peer("datacoord", cluster.sessions, options)
        scope.create_task(peer.keep(), name="keep")
        yield peer


@pytest.fixture
async def peer(cluster: Cluster) -> AsyncIterator[Peer]:
    async with kept(cluster) as made:
        yield made


async def ask(peer: Peer, in_s: float = 30.0) -> data_coord_pb2.GcConfirmResponse:
    return await peer.call(GC_CONFIRM, REQUEST, data_coord_pb2.GcConfirmResponse, boottime() + in_s)


async def why_not(peer: Peer, reason: str) -> None:
    """Ask in vain until the error says `reason`; on a busy machine a short deadline comes before that."""
    for in_s in (0.2, 1.0, 5.0, 20.0):
        with pytest.raises(PeerUnavailable) as caught:
            await ask(peer, in_s)
        if reason in str(caught.value):
            return
    raise AssertionError(f"{reason!r} is not in {caught.value}")


async def test_the_active_process_is_asked_by_its_server_id_and_cluster(cluster: Cluster, peer: Peer) -> None:
    async with Acting("datacoord", 12) as acting:
        acting.replies["GcConfirm"] = DONE
        await cluster.active(acting)
        assert await ask(peer) == DONE
    [asked] = acting.asked
    assert asked.request == REQUEST
    assert (asked.metadata["serverid"], asked.metadata["cluster"]) == ("12", CLUSTER)


async def test_one_connection_serves_all_calls_to_one_process(cluster: Cluster, peer: Peer) -> None:
    async with Acting("datacoord", 12) as acting:
        await cluster.active(acting)
        await ask(peer)
        connection = peer._connection
        await ask(peer)
        assert peer._connection is connection


async def test_a_standby_that_only_has_its_own_key_is_not_asked(cluster: Cluster, peer: Peer) -> None:
    async with Acting("datacoord", 12) as acting:
        await cluster.register("datacoord-12", 12, acting.address)
        with pytest.raises(PeerUnavailable):
            await ask(peer, 0.1)
    assert acting.asked == []


async def test_without_an_active_process_the_error_names_the_role_and_the_key(
    cluster: Cluster, peer: Peer
) -> None:
    with pytest.raises(PeerUnavailable, match="there is no active datacoord") as caught:
        await ask(peer, 0.1)
    assert caught.value.role == "datacoord"
    assert cluster.layout.session("datacoord") in str(caught.value)


async def test_a_call_waits_for_an_absent_process_to_appear(cluster: Cluster, peer: Peer) -> None:
    async with Acting("datacoord", 12) as acting, TaskScope() as scope:
        acting.replies["GcConfirm"] = DONE
        call = scope.create_task(ask(peer))
        await asyncio.sleep(0.05)
        assert not call.done()
        await cluster.active(acting)
        assert await call == DONE


async def test_a_crash_and_a_successor_elsewhere(cluster: Cluster, peer: Peer) -> None:
    async with acting_process("datacoord", 12) as first, Acting("datacoord", 13) as second:
        await cluster.active(first)
        assert await ask(peer) == data_coord_pb2.GcConfirmResponse()
        first.end()
        second.replies["GcConfirm"] = DONE
        async with TaskScope() as scope:
            call = scope.create_task(ask(peer))
            await asyncio.sleep(0.05)
            assert not call.done()
            await cluster.active(second)
            assert await call == DONE


async def test_a_process_that_comes_back_on_its_port_is_found_again(cluster: Cluster, peer: Peer) -> None:
    [port] = free_ports(1)
    async with Acting("datacoord", 12, port=port) as first:
        await cluster.active(first)
        await ask(peer)
    async with TaskScope() as scope:
        call = scope.create_task(ask(peer))
        await asyncio.sleep(0.05)
        async with Acting("datacoord", 12, port=port) as again:
            again.replies["GcConfirm"] = DONE
            assert await call == DONE


async def test_a_call_to_a_process_that_hangs_goes_to_its_successor(cluster: Cluster, peer: Peer) -> None:
    async with acting_process("datacoord", 12) as first, Acting("datacoord", 13) as second:
        await cluster.active(first)
        await ask(peer)
        first.signal(signal.SIGSTOP)
        second.replies["GcConfirm"] = DONE
        async with TaskScope() as scope:
            call = scope.create_task(ask(peer))
            await asyncio.sleep(0.05)
            assert not call.done()
            await cluster.active(second)
            assert await call == DONE
        first.signal(signal.SIGCONT)


async def test_a_hang_without_a_successor_ends_at_the_deadline_and_names_the_process(
    cluster: Cluster, peer: Peer
) -> None:
    async with Acting("datacoord", 12) as acting:
        await cluster.active(acting)
        acting.hang()
        with pytest.raises(
            PeerUnavailable, match=f"datacoord 12 at {acting.address} did not answer: DEADLINE"
        ):
            await ask(peer, 0.2)


async def test_a_stranger_on_the_old_address_is_not_mistaken_for_the_peer(
    cluster: Cluster, peer: Peer
) -> None:
    async with Acting("datacoord", 99) as stranger, Acting("datacoord", 13) as successor:
        await cluster.register("datacoord", 12, stranger.address)
        successor.replies["GcConfirm"] = DONE
        await why_not(peer, "node not match")
        async with TaskScope() as scope:
            call = scope.create_task(ask(peer))
            await asyncio.sleep(0.05)
            await cluster.active(successor)
            assert await call == DONE
        assert stranger.asked == []


async def test_a_process_of_another_cluster_refuses(cluster: Cluster) -> None:
    async with Acting("datacoord", 12) as acting, kept(cluster, ClientOptions(cluster="other")) as peer:
        await cluster.active(acting)
        await why_not(peer, "cross cluster routing")
        assert acting.asked == []


async def test_a_process_that_is_not_ready_is_asked_again_on_the_same_connection(
    cluster: Cluster, peer: Peer
) -> None:
    async with Acting("datacoord", 12) as acting, TaskScope() as scope:
        await cluster.active(acting)
        await ask(peer)
        connection = peer._connection
        acting.gate.change(state_code=StateCode.Initializing)
        call = scope.create_task(ask(peer))
        await asyncio.sleep(0.1)
        assert not call.done()
        acting.gate.change(state_code=StateCode.Healthy)
        await call
        assert peer._connection is connection
    assert len(acting.asked) == 2


async def test_not_ready_until_the_deadline_says_so(cluster: Cluster, peer: Peer) -> None:
    async with Acting("datacoord", 12) as acting:
        acting.gate.change(state_code=StateCode.Initializing)
        await cluster.active(acting)
        await why_not(peer, "service not ready[datacoord=12]: Initializing")


async def test_an_error_that_is_not_retriable_is_the_callers(cluster: Cluster, peer: Peer) -> None:
    refused = data_coord_pb2.GcConfirmResponse(status=refusal("no such collection"))
    async with Acting("datacoord", 12) as acting:
        acting.replies["GcConfirm"] = refused
        await cluster.active(acting)
        assert await ask(peer) == refused
        assert len(acting.asked) == 1


async def test_a_method_that_is_not_there_is_not_asked_for_again(cluster: Cluster, peer: Peer) -> None:
    async with Acting("querycoord", 12) as acting:
        await cluster.register("datacoord", 12, acting.address)
        with pytest.raises(RpcFailure) as caught:
            await ask(peer)
        assert caught.value.code is RpcCode.UNIMPLEMENTED


async def test_no_connection_is_left_when_the_process_moves_or_goes(cluster: Cluster, peer: Peer) -> None:
    connections = []
    for server_id in (12, 13, 14):
        async with Acting("datacoord", server_id) as acting:
            await cluster.active(acting)
            await ask(peer)
            connections.append(peer._connection)
            assert connections[-1] is not None
    await cluster.remove("datacoord")
    await eventually(lambda: peer._connection is None)
    assert all(one is not None and one.retired and one.closed for one in connections)


async def test_a_call_under_way_keeps_its_connection_when_another_one_fails(
    cluster: Cluster, peer: Peer
) -> None:
    go_on = asyncio.Event()

    async def slow() -> Message:
        await go_on.wait()
        return DONE

    async with Acting("datacoord", 12) as acting, TaskScope() as scope:
        acting.replies["GcConfirm"] = slow
        await cluster.active(acting)
        call = scope.create_task(ask(peer))
        await eventually(lambda: len(acting.asked) == 1)
        first = peer._connection
        assert first is not None
        with pytest.raises(PeerUnavailable):
            await ask(peer, 0.1)  # of no answer in time, which costs the connection its future
        assert first.retired
        assert not first.closed
        go_on.set()
        assert await call == DONE
        assert first.closed


async def test_a_cancelled_call_is_cancelled_and_leaves_the_client_in_order(
    cluster: Cluster, peer: Peer
) -> None:
    async with Acting("datacoord", 12) as acting, TaskScope() as scope:
        await cluster.active(acting)
        acting.hang()
        call = scope.create_task(ask(peer))
        await eventually(lambda: len(acting.asked) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        acting.resume()
        await ask(peer)


async def test_when_the_client_is_closed_calls_fail_and_none_is_left_hanging(cluster: Cluster) -> None:
    async with Acting("datacoord", 12) as acting:
        await cluster.active(acting)
        acting.hang()
        async with kept(cluster) as peer:
            await asyncio.sleep(0)
            under_way = asyncio.get_running_loop().create_task(ask(peer))
            await eventually(lambda: len(acting.asked) == 1)
        for call in (under_way, ask(peer)):
            with pytest.raises(RpcFailure) as caught:
                await call
            assert caught.value.code is RpcCode.UNAVAILABLE
        assert peer._connection is None


async def test_a_garbled_address_is_a_failure_like_any_other(cluster: Cluster, peer: Peer) -> None:
    for address in ("", "no such host.invalid:1", "127.0.0.1"):
        await cluster.register("datacoord", 12, address)
        with pytest.raises(PeerUnavailable, match="datacoord 12"):
            await ask(peer, 0.3)


async def test_large_messages_pass_up_to_the_limit_and_not_beyond(cluster: Cluster) -> None:
    small = ClientOptions(cluster=CLUSTER, max_receive_bytes=1 << 20, max_send_bytes=1 << 20)
    async with Acting("datacoord", 12) as acting, kept(cluster) as wide, kept(cluster, small) as narrow:
        await cluster.active(acting)
        text = "x" * (8 << 20)
        acting.replies["GcConfirm"] = data_coord_pb2.GcConfirmResponse(status=common_pb2.Status(reason=text))
        assert (await ask(wide)).status.reason == text
        await why_not(narrow, "RESOURCE_EXHAUSTED")
