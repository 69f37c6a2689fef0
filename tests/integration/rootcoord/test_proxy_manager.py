"""What all proxies are told: real servers and sessions; proxies that crash, hang, refuse and come back."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from coordd.clock import boottime
from coordd.etcd import EtcdClient
from coordd.ha.tasks import TaskScope
from coordd.pb.common_pb2 import MsgBase, MsgType, StateCode, Status
from coordd.pb.milvus_pb2 import ComponentStates
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest, SetRatesRequest
from coordd.rootcoord.proxies import ProxyFailed, ProxyManager, TimestampBar
from coordd.rootcoord.proxies.bar import BarredError
from coordd.rootcoord.proxies.link import PATIENCE_S
from coordd.rootcoord.proxies.manager import SessionsNotKnown
from coordd.rootcoord.proxies.outbox import PolicyChange
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError
from tests.support.etcd import EtcdCluster, eventually, free_ports, unique_root
from tests.support.peers import CLUSTER, OPTIONS, Acting, Cluster, acting_process, cluster_in, refusal

pytestmark = pytest.mark.timeout(60)

FORGET = "InvalidateCollectionMetaCache"
REFRESH = "RefreshPolicyInfoCache"
PASSWORD = "InvalidateCredentialCache"


@dataclass
class Scene:
    cluster: Cluster
    bar: TimestampBar
    manager: ProxyManager

    async def forget(self, name: str = "a", *, committed_at: int = 0) -> None:
        await self.manager.invalidate_collection_meta_cache(collection(name), committed_at=committed_at)

    def gets_timestamps(self, server_id: int) -> bool:
        try:
            self.bar.check(server_id)
        except BarredError:
            return False
        return True


def collection(name: str) -> InvalidateCollMetaCacheRequest:
    base = MsgBase(msg_type=MsgType.AlterCollection, sourceID=4)
    return InvalidateCollMetaCacheRequest(base=base, db_name="default", collection_name=name)


def names(proxy: Acting) -> list[str]:
    """Which collections the proxy was told to forget."""
    return [request.collection_name for request in proxy.requests(FORGET)]


@asynccontextmanager
async def scene_in(cluster: Cluster, patience_s: float = PATIENCE_S) -> AsyncIterator[Scene]:
    bar = TimestampBar()
    manager = ProxyManager(cluster.sessions, bar, OPTIONS, patience_s)
    async with TaskScope() as scope:
        scope.create_task(manager.run(), name="proxies")
        yield Scene(cluster, bar, manager)


@pytest.fixture
async def cluster(etcd_server: EtcdCluster) -> AsyncIterator[Cluster]:
    async with EtcdClient(etcd_server.settings()) as client, cluster_in(client, unique_root()) as made:
        yield made


@pytest.fixture
async def scene(cluster: Cluster) -> AsyncIterator[Scene]:
    async with scene_in(cluster) as made:
        yield made


@pytest.fixture
async def proxy(scene: Scene) -> AsyncIterator[Acting]:
    """Proxy 7, which has a session."""
    async with Acting("proxy", 7) as made:
        await scene.cluster.proxy(made)
        yield made


# --- all proxies ---


async def test_without_proxies_everything_succeeds(scene: Scene) -> None:
    await scene.forget()
    scene.manager.invalidate_credential("u")
    assert await scene.manager.told(deadline=boottime() + 1)


async def test_every_proxy_with_a_session_is_told(scene: Scene, proxy: Acting) -> None:
    async with Acting("proxy", 8) as other, Acting("proxy", 9) as without:
        await scene.cluster.proxy(other)
        await scene.forget("books")
    for told in (proxy, other):
        assert told.requests(FORGET) == [collection("books")]
    assert without.asked == []
    headers = proxy.asked[-1].metadata
    assert (headers["serverid"], headers["cluster"]) == ("7", CLUSTER)


async def test_who_was_told_early_is_not_told_again(scene: Scene, proxy: Acting) -> None:
    told = await scene.manager.invalidate_collection_meta_cache(collection("books"))
    async with Acting("proxy", 8) as later:
        revision = await scene.cluster.proxy(later)
        await scene.manager.invalidate_collection_meta_cache(
            collection("books"), committed_at=revision, told=told
        )
    assert (names(proxy), names(later)) == (["books"], ["books"])
    await scene.forget("books")
    assert names(proxy) == ["books", "books"]


async def test_proxies_are_told_at_the_same_time(scene: Scene, proxy: Acting) -> None:
    async with Acting("proxy", 8) as other:
        await scene.cluster.proxy(other)
        proxy.hang()
        other.hang()
        async with TaskScope() as scope:
            call = scope.create_task(scene.forget())
            await eventually(lambda: names(proxy) == names(other) == ["a"])
            proxy.resume()
            other.resume()
            await call
    assert scene.bar.ids == set()


async def test_a_proxy_keeps_one_connection_and_leaves_none(scene: Scene, proxy: Acting) -> None:
    await scene.forget()
    way = scene.manager._links[7]
    connection = way._connection
    await scene.forget("b")
    assert way._connection is connection
    await scene.cluster.remove("proxy-7")
    await eventually(lambda: connection.closed)
    assert scene.manager._links == {}


async def test_the_end_of_the_term_closes_every_connection(cluster: Cluster) -> None:
    async with Acting("proxy", 7) as proxy:
        await cluster.proxy(proxy)
        async with scene_in(cluster) as scene:
            await scene.forget()
            proxy.hang()
            under_way = asyncio.get_running_loop().create_task(scene.forget("b"))
            await eventually(lambda: "b" in names(proxy))
            connection = scene.manager._links[7]._connection
        assert connection.closed
        for call in (under_way, scene.forget("c")):
            with pytest.raises(RpcFailure) as caught:
                await call
            assert caught.value.code is RpcCode.UNAVAILABLE


# --- a proxy that does not answer ---


async def test_a_proxy_that_hangs_blocks_nobody_and_gets_no_timestamps_until_it_has_answered(
    scene: Scene, proxy: Acting
) -> None:
    proxy.hang()
    async with Acting("proxy", 8) as good:
        await scene.cluster.proxy(good)
        await scene.forget("a")  # the bound: PATIENCE_S, not the TTL of the session
        assert names(good) == ["a"]
        assert scene.bar.ids == {7}
        assert not scene.gets_timestamps(7)
        assert scene.gets_timestamps(8)
        proxy.resume()
        await eventually(lambda: not scene.bar.ids)
        await scene.forget("b")
    assert names(proxy)[-1] == "b"
    assert "a" in names(proxy)


async def test_pitfall_7_a_dead_proxy_holds_one_change_up_and_no_more(scene: Scene) -> None:
    async with acting_process("proxy", 7) as dead:
        await scene.cluster.proxy(dead)
        await scene.forget("a")
        assert scene.bar.ids == set()
        dead.end()
        await scene.forget("b")
        assert scene.bar.ids == {7}
        for number in range(100):  # if each took PATIENCE_S the test would not end in time
            await scene.forget(f"c{number}")
        await scene.cluster.remove("proxy-7")
        await scene.forget("d")
        assert not scene.gets_timestamps(7)


async def test_a_stopped_process_wakes_up_without_timestamps_and_is_told_all_it_missed(scene: Scene) -> None:
    async with acting_process("proxy", 7) as proxy:
        await scene.cluster.proxy(proxy)
        await scene.forget("a")
        proxy.signal(signal.SIGSTOP)
        await scene.forget("b")
        await scene.forget("c")
        assert not scene.gets_timestamps(7)
        proxy.signal(signal.SIGCONT)
        await eventually(lambda: not scene.bar.ids, limit_s=15)
    assert not scene.manager._links[7]._outbox.owes_collections


async def test_pitfall_16_a_proxy_that_hangs_in_another_call_does_not_hold_a_change_up(
    scene: Scene, proxy: Acting
) -> None:
    async with Acting("proxy", 8) as other, TaskScope() as scope:
        await scene.cluster.proxy(other)
        rates = asyncio.Event()

        async def slow() -> Status:
            await rates.wait()
            return Status()

        proxy.replies["SetRates"] = slow
        asked = scope.create_task(
            scene.manager.ask(7, "SetRates", SetRatesRequest(), Status, deadline=boottime() + 10)
        )
        await eventually(lambda: proxy.requests("SetRates"))
        await scene.forget()
        assert names(proxy) == names(other) == ["a"]
        assert not asked.done()
        rates.set()
        assert await asked == Status()


async def test_a_proxy_that_comes_back_on_its_address_is_told(scene: Scene) -> None:
    [port] = free_ports(1)
    async with Acting("proxy", 7, port=port) as before:
        await scene.cluster.proxy(before)
        await scene.forget("a")
    await scene.forget("b")
    assert scene.bar.ids == {7}
    async with Acting("proxy", 7, port=port) as again:
        await eventually(lambda: not scene.bar.ids)
        assert names(again) == ["b"]


async def test_a_proxy_that_is_slow_but_in_time_is_not_barred(scene: Scene, proxy: Acting) -> None:
    proxy.hang()
    async with TaskScope() as scope:
        call = scope.create_task(scene.forget())
        await eventually(lambda: names(proxy) == ["a"])
        proxy.resume()
        await call
    assert scene.bar.ids == set()


async def test_a_proxy_that_is_not_ready_is_asked_again_in_time(scene: Scene, proxy: Acting) -> None:
    proxy.gate.change(state_code=StateCode.Initializing)
    async with TaskScope() as scope:
        call = scope.create_task(scene.forget())
        await asyncio.sleep(0.1)
        assert not call.done()
        proxy.gate.change(state_code=StateCode.Healthy)
        await call
    assert (names(proxy), scene.bar.ids) == (["a"], set())


async def test_a_stopping_proxy_fails_no_change(scene: Scene, proxy: Acting) -> None:
    proxy.gate.change(state_code=StateCode.Abnormal)
    await scene.forget()
    assert not scene.gets_timestamps(7)


async def test_a_stranger_on_the_address_of_a_proxy_is_told_nothing(scene: Scene) -> None:
    async with Acting("proxy", 99) as stranger:
        await scene.cluster.register("proxy-7", 7, stranger.address)
        await scene.forget()
        assert stranger.asked == []
    assert scene.bar.ids == {7}


# --- sessions that come and go ---


async def test_a_session_that_ends_meanwhile_ends_the_wait(scene: Scene, proxy: Acting) -> None:
    proxy.hang()
    async with TaskScope() as scope:
        call = scope.create_task(scene.forget())
        await eventually(lambda: names(proxy) == ["a"])
        await scene.cluster.remove("proxy-7")
        await call
    assert not scene.gets_timestamps(7)


async def test_a_proxy_that_came_before_the_change_is_told_even_if_the_watch_lags(scene: Scene) -> None:
    async with Acting("proxy", 7) as proxy:
        revision = await scene.cluster.register("proxy-7", 7, proxy.address, wait=False)
        await scene.forget(committed_at=revision)
        assert names(proxy) == ["a"]


async def test_who_is_to_be_told_must_be_known(scene: Scene, proxy: Acting) -> None:
    revision = await scene.cluster.client.revision()
    with pytest.raises(SessionsNotKnown):
        await scene.forget(committed_at=revision + 1_000_000)
    assert names(proxy) == []


# --- refusals and cancellation ---


async def test_a_refusal_fails_the_change_in_milvus_words_and_all_others_are_told(
    scene: Scene, proxy: Acting
) -> None:
    proxy.replies[FORGET] = refusal("out of order")
    async with Acting("proxy", 8) as good:
        await scene.cluster.proxy(good)
        with pytest.raises(MilvusError) as caught:
            await scene.forget()
        assert names(good) == ["a"]
    assert str(caught.value) == "InvalidateCollectionMetaCache failed, proxyID = 7, err = out of order"
    assert not scene.gets_timestamps(7)
    del proxy.replies[FORGET]
    await eventually(lambda: not scene.bar.ids)


async def test_a_change_that_is_broken_off_bars_who_has_not_answered(scene: Scene, proxy: Acting) -> None:
    proxy.hang()
    async with Acting("proxy", 8) as good, TaskScope() as scope:
        await scene.cluster.proxy(good)
        call = scope.create_task(scene.forget())
        await eventually(lambda: names(proxy) == ["a"] and names(good) == ["a"])
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert scene.bar.ids == {7}
        proxy.resume()
        await eventually(lambda: not scene.bar.ids)


async def test_a_change_that_is_broken_off_at_once_is_told_all_the_same(scene: Scene, proxy: Acting) -> None:
    await scene.forget("first")
    async with TaskScope() as scope:
        call = scope.create_task(scene.forget("b"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    await eventually(lambda: "b" in names(proxy) and not scene.bar.ids)


# --- credentials and policies ---


def policies(proxy: Acting) -> list[tuple[int, str]]:
    return [(request.opType, request.opKey) for request in proxy.requests(REFRESH)]


async def test_a_term_begins_with_the_proxies_reading_all_policies(cluster: Cluster) -> None:
    async with Acting("proxy", 7) as proxy, Acting("proxy", 8) as late:
        await cluster.proxy(proxy)
        async with scene_in(cluster):
            await eventually(lambda: policies(proxy) == [(7, "")])
        async with scene_in(cluster):
            await eventually(lambda: policies(proxy) == [(7, "")] * 2)
        async with scene_in(cluster):
            await cluster.proxy(late)
            await eventually(lambda: policies(late) == [(7, "")])


async def test_a_term_begins_with_the_proxies_forgetting_passwords(cluster: Cluster) -> None:
    async with Acting("proxy", 7) as proxy:
        await cluster.proxy(proxy)
        manager = ProxyManager(cluster.sessions, TimestampBar(), OPTIONS, users=lambda: ["alice", "bob"])
        async with TaskScope() as scope:
            scope.create_task(manager.run(), name="proxies")
            assert await manager.told(deadline=boottime() + 10)
    assert {one.username for one in proxy.requests(PASSWORD)} == {"alice", "bob"}
    assert policies(proxy) == [(7, "")]


async def test_credentials_and_policies_are_told_in_order_by_and_by(scene: Scene, proxy: Acting) -> None:
    await eventually(lambda: policies(proxy) == [(7, "")])
    proxy.hang()
    scene.manager.invalidate_credential("alice")
    scene.manager.refresh_policies(PolicyChange.ADD_USER_TO_ROLE, "alice/reader")
    scene.manager.invalidate_credential("alice")
    scene.manager.refresh_policies(PolicyChange.REMOVE_USER_FROM_ROLE, "alice/reader")
    scene.manager.invalidate_credential("bob")
    proxy.resume()
    await eventually(lambda: not scene.manager._links[7]._outbox.pending())
    assert policies(proxy)[1:] == [(1, "alice/reader"), (2, "alice/reader")]
    assert [one.username for one in proxy.requests(PASSWORD)][-2:] == ["bob", "alice"]


async def test_a_proxy_that_may_take_a_withdrawn_password_gets_no_timestamps(
    scene: Scene, proxy: Acting
) -> None:
    scene.manager.invalidate_credential("alice")
    assert await scene.manager.told(deadline=boottime() + 10)
    await scene.manager.withhold("alice")
    assert scene.gets_timestamps(7), "it knows"
    proxy.hang()
    scene.manager.invalidate_credential("alice")
    assert scene.gets_timestamps(7), "it has some time"
    await scene.manager.withhold("bob")
    assert scene.gets_timestamps(7)
    await scene.manager.withhold("alice")
    assert not scene.gets_timestamps(7)
    proxy.resume()
    await eventually(lambda: scene.gets_timestamps(7))
    assert len(proxy.requests(PASSWORD)) >= 2, "and once more"


async def test_they_are_told_again_until_the_proxy_is_back(scene: Scene) -> None:
    [port] = free_ports(1)
    await scene.cluster.register("proxy-7", 7, f"127.0.0.1:{port}")
    scene.manager.invalidate_credential("alice")
    await asyncio.sleep(0.1)
    async with Acting("proxy", 7, port=port) as proxy:
        await eventually(lambda: proxy.requests(PASSWORD))
        await eventually(lambda: policies(proxy) == [(7, "")])


async def test_a_proxy_that_hangs_in_a_notice_is_still_asked_about_collections(
    scene: Scene, proxy: Acting
) -> None:
    await eventually(lambda: policies(proxy) == [(7, "")])
    go_on = asyncio.Event()

    async def slow() -> ComponentStates:
        await go_on.wait()
        raise AssertionError("never answered")

    proxy.replies[PASSWORD] = slow
    scene.manager.invalidate_credential("alice")
    await eventually(lambda: proxy.requests(PASSWORD))
    await scene.forget()
    assert (names(proxy), scene.bar.ids) == (["a"], set())


async def test_a_policy_operation_that_is_refused_becomes_a_refresh(scene: Scene, proxy: Acting) -> None:
    await eventually(lambda: policies(proxy) == [(7, "")])

    proxy.replies[REFRESH] = refusal("no JSON")
    scene.manager.refresh_policies(PolicyChange.GRANT, "{")
    await eventually(lambda: policies(proxy)[-1] == (7, "") and len(policies(proxy)) > 2)
    del proxy.replies[REFRESH]
    await eventually(lambda: not scene.manager._links[7]._outbox.pending())
    assert policies(proxy)[1] == (3, "{")


async def test_who_waits_for_them_is_told_when_all_have_taken_them_in(scene: Scene, proxy: Acting) -> None:
    async with Acting("proxy", 8) as other:
        await scene.cluster.proxy(other)
        proxy.hang()
        scene.manager.invalidate_credential("alice")
        scene.manager.refresh_policies(PolicyChange.DELETE_USER, "bob")
        assert not await scene.manager.told(deadline=boottime() + 0.2)
        assert not await scene.manager.told(deadline=boottime())
        async with TaskScope() as scope:
            waiting = scope.create_task(scene.manager.told(deadline=boottime() + 10), name="waiting")
            await eventually(lambda: policies(other)[-1:] == [(5, "bob")])
            assert not waiting.done()
            proxy.resume()
            assert await waiting
    assert policies(proxy)[-1] == (5, "bob")
    assert await scene.manager.told(deadline=boottime() + 10)


async def test_a_session_that_ends_ends_the_wait_for_it(scene: Scene, proxy: Acting) -> None:
    proxy.hang()
    scene.manager.invalidate_credential("alice")
    async with TaskScope() as scope:
        waiting = scope.create_task(scene.manager.told(deadline=boottime() + 10), name="waiting")
        await eventually(lambda: proxy.requests(PASSWORD) or policies(proxy))
        await scene.cluster.remove("proxy-7")
        assert await waiting


# --- questions ---


async def test_one_proxy_is_asked(scene: Scene, proxy: Acting) -> None:
    async with Acting("proxy", 8) as other:
        await scene.cluster.proxy(other)
        assert sorted(scene.manager.server_ids()) == [7, 8]
        request = SetRatesRequest(base=MsgBase(msgID=5))
        assert await scene.manager.ask(8, "SetRates", request, Status, deadline=boottime() + 5) == Status()
        assert (proxy.requests("SetRates"), other.requests("SetRates")) == ([], [request])


async def test_one_proxy_that_does_not_answer_or_is_gone_is_an_error(scene: Scene, proxy: Acting) -> None:
    async def rates(timeout_s: float, server_id: int = 7) -> None:
        deadline = boottime() + timeout_s
        await scene.manager.ask(server_id, "SetRates", SetRatesRequest(), Status, deadline=deadline)

    proxy.replies["SetRates"] = refusal("no")
    with pytest.raises(ProxyFailed, match="SetRates failed, proxyID = 7, err = no"):
        await rates(5)
    proxy.hang()
    with pytest.raises(ProxyFailed, match="DEADLINE_EXCEEDED"):
        await rates(0.1)
    proxy.resume()
    del proxy.replies["SetRates"]
    await rates(5)
    [closed] = free_ports(1)
    await scene.cluster.register("proxy-9", 9, f"127.0.0.1:{closed}")
    with pytest.raises(ProxyFailed, match="proxyID = 9, err = rpc error: code = UNAVAILABLE"):
        await rates(5, 9)
    await scene.cluster.remove("proxy-7")
    with pytest.raises(ProxyFailed, match="session has ended"):
        await rates(5)
