"""Time ticks of real terms: dead and silent proxies with real ports, takeovers, real etcd."""

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from coordd import clock
from coordd.config import load_config
from coordd.etcd import EtcdClient
from coordd.ha.replica import Replica
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout
from coordd.pb import milvus_pb2, msg_pb2
from coordd.pb.common_pb2 import MsgBase, MsgType, StateCode
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from coordd.rootcoord import RootCoord
from coordd.rootcoord.oracle import NotHandedOutError
from coordd.rootcoord.timetick.gone import Answer
from coordd.rootcoord.timetick.probe import who_is_there
from coordd.rpc.forward import GrpcForwarder
from coordd.rpc.status import MilvusError
from coordd.rpc.table import DispatchTable
from tests.support.etcd import eventually, free_ports
from tests.support.replicas import SilentServer, quick_settings

pytestmark = pytest.mark.usefixtures("one_collection")

CHANNEL = "by-dev-rootcoord-dml_0"
PATIENCE_S = 15.0


@dataclass
class Log:
    """A message queue in memory: what readers of the channels get, in order."""

    messages: list[tuple[str, int]] = field(default_factory=list)

    async def send(self, channel: str, payload: bytes) -> bytes:
        await asyncio.sleep(0.002)
        assert channel == CHANNEL
        base = msg_pb2.TimeTickMsg.FromString(payload).base
        assert base.msg_type == MsgType.TimeTick
        self.messages.append(("tick", base.timestamp))
        return b"id"

    async def missing(self, channels: Collection[str]) -> Collection[str]:
        """The channel is there, and no other."""
        return [name for name in channels if name != CHANNEL]

    async def close(self) -> None:
        return

    def has(self, number: int) -> bool:
        return len(self.ticks) >= number

    @property
    def ticks(self) -> list[int]:
        return [timestamp for kind, timestamp in self.messages if kind == "tick"]


@dataclass(eq=False)
class Member:
    """A replica of RootCoord, but for its gRPC port."""

    coordinator: RootCoord
    replica: Replica
    task: asyncio.Task[None] = field(init=False)

    @property
    def serving(self) -> bool:
        return self.replica.gate.serving()


@asynccontextmanager
async def members(
    client: EtcdClient,
    layout: MetaLayout,
    log: Log,
    count: int = 1,
    env: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[list[Member]]:
    started: list[Member] = []
    loaded = load_config(env=env)
    for number in range(count):
        coordinator = RootCoord(lambda: loaded, layout, client, log)
        settings = quick_settings(number + 1, serve_guard_ms=2000, margin_ms=500, forward_grace_ms=100)
        replica = Replica(settings, client, layout, coordinator, SilentServer, GrpcForwarder)
        coordinator.add_services(DispatchTable(), replica)
        member = Member(coordinator, replica)
        member.task = asyncio.get_running_loop().create_task(replica.run(), name=f"replica {number}")
        started.append(member)
    try:
        await eventually(lambda: any(member.serving for member in started), PATIENCE_S)
        yield started
    finally:
        for member in started:
            member.replica.request_stop()
        await asyncio.wait([member.task for member in started], timeout=PATIENCE_S)
        for member in started:
            member.task.cancel()


async def register(
    client: EtcdClient, layout: MetaLayout, server_id: int, address: str, *, barred: bool = False
) -> str:
    key = layout.session("proxy", server_id)
    record = SessionRecord(
        server_id=server_id, server_name="proxy", address=address, version="2.3.5", barred=barred
    )
    await client.put(key, record.to_json())
    return key


def report(member: Member, server_id: int, default: int | None = None) -> None:
    """What a proxy with nothing to send reports: a fresh timestamp."""
    stamp = member.coordinator.parts.oracle.timestamps_now(1) if default is None else default
    assert isinstance(stamp, int)
    base = MsgBase(msg_type=MsgType.TimeTick, sourceID=server_id)
    member.coordinator.parts.services.time_ticks.report(
        ChannelTimeTickMsg(base=base, default_timestamp=stamp)
    )


async def known(member: Member, server_id: int) -> None:
    await eventually(lambda: member.replica.sessions.get(f"proxy-{server_id}"), PATIENCE_S)


def forgotten(member: Member, server_id: int) -> bool:
    return member.replica.sessions.get(f"proxy-{server_id}") is None


async def exists(client: EtcdClient, key: str) -> bool:
    return (await client.get(key)).kv is not None


async def wait_ended(client: EtcdClient, key: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await exists(client, key):  # noqa: ASYNC110 - a key in etcd has no event to wait for
            await asyncio.sleep(0.05)


@asynccontextmanager
async def proxy_port(node_id: int) -> AsyncIterator[str]:
    """The internal port of a proxy."""

    async def states(_request: object, _context: object) -> object:
        info = milvus_pb2.ComponentInfo(nodeID=node_id, role="proxy", state_code=StateCode.Healthy)
        return milvus_pb2.ComponentStates(state=info)

    handler = grpc.unary_unary_rpc_method_handler(
        states,
        request_deserializer=milvus_pb2.GetComponentStatesRequest.FromString,
        response_serializer=milvus_pb2.ComponentStates.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("milvus.proto.proxy.Proxy", {"GetComponentStates": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@contextmanager
def hung_port() -> Iterator[str]:
    """A port at which connects succeed and nothing is ever said, as at that of a stopped process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


class TestWhoIsThere:
    async def test_a_proxy_says_who_it_is(self) -> None:
        async with proxy_port(7) as address:
            assert await who_is_there(address, 7, 5.0) is Answer.ITSELF
            assert await who_is_there(address, 8, 5.0) is Answer.ANOTHER

    async def test_one_that_has_not_registered_proves_nothing(self) -> None:
        async with proxy_port(-1) as address:
            assert await who_is_there(address, 7, 5.0) is Answer.NOTHING

    async def test_where_nobody_listens_it_is_refused(self) -> None:
        [port] = free_ports(1)
        assert await who_is_there(f"127.0.0.1:{port}", 7, 5.0) is Answer.REFUSED

    async def test_silence_proves_nothing(self) -> None:
        with hung_port() as address:
            assert await who_is_there(address, 7, 0.3) is Answer.NOTHING

    @pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:99999", "no.such.host.invalid:1", ":1"])
    async def test_nor_does_an_address_that_leads_nowhere(self, address: str) -> None:
        assert await who_is_there(address, 7, 2.0) is Answer.NOTHING


class TestPitfall7DeadProxyFreezesNoTicks:
    async def test_one_that_crashed_is_taken_out_long_before_its_lease_ends(
        self, client: EtcdClient, layout: MetaLayout
    ) -> None:
        log = Log()
        [port] = free_ports(1)
        async with members(client, layout, log) as [member]:
            key = await register(client, layout, 7, f"127.0.0.1:{port}")
            await known(member, 7)
            report(member, 7)
            await wait_ended(client, key)
            seen = len(log.ticks)
            await eventually(lambda: len(log.ticks) >= seen + 3, PATIENCE_S)
            with pytest.raises(MilvusError, match="un-recognized session 7"):
                report(member, 7)

    async def test_one_that_was_replaced_on_its_port_is_taken_out(
        self, client: EtcdClient, layout: MetaLayout
    ) -> None:
        async with members(client, layout, Log()) as [member], proxy_port(8) as address:
            old = await register(client, layout, 7, address)
            new = await register(client, layout, 8, address)
            await known(member, 8)
            async with asyncio.timeout(PATIENCE_S):
                while await exists(client, old):
                    report(member, 8)
                    await asyncio.sleep(0.1)
            assert await exists(client, new)

    async def test_one_that_only_is_slow_is_waited_for(self, client: EtcdClient, layout: MetaLayout) -> None:
        log = Log()
        async with members(client, layout, log) as [member], proxy_port(7) as address:
            key = await register(client, layout, 7, address)
            await known(member, 7)
            promised = member.coordinator.parts.oracle.timestamps_now(1)
            assert isinstance(promised, int)
            report(member, 7, promised)
            await asyncio.sleep(3.0)
            assert await exists(client, key)
            assert max(log.ticks) <= promised
            report(member, 7)
            await eventually(lambda: max(log.ticks) > promised, PATIENCE_S)

    async def test_one_that_hangs_is_waited_for(self, client: EtcdClient, layout: MetaLayout) -> None:
        log = Log()
        with hung_port() as address:
            async with members(client, layout, log) as [member]:
                key = await register(client, layout, 7, address)
                await known(member, 7)
                await asyncio.sleep(0.3)  # a tick that was on its way
                seen = len(log.ticks)
                await asyncio.sleep(3.0)
                assert await exists(client, key)
                assert len(log.ticks) == seen

    async def test_one_that_has_not_reported_in_this_term_is_given_longer(
        self, client: EtcdClient, layout: MetaLayout
    ) -> None:
        """After a takeover reports may come seconds late, and a proxy that stops does not listen."""
        [port] = free_ports(1)
        key = await register(client, layout, 7, f"127.0.0.1:{port}")
        async with members(client, layout, Log()) as [member]:
            await known(member, 7)
            await asyncio.sleep(3.0)
            assert await exists(client, key)


class TestPitfall18Takeover:
    async def test_the_ticks_of_a_new_term_lie_above_all_that_were_sent(
        self, client: EtcdClient, layout: MetaLayout
    ) -> None:
        """Two proxies report all the time; one of them was told nothing by the predecessor's last ticks."""
        log = Log()
        async with members(client, layout, log, 2) as group, proxy_port(7) as first, proxy_port(8) as second:
            await register(client, layout, 7, first)
            await register(client, layout, 8, second)
            reporting = asyncio.create_task(keep_reporting(group, [7, 8]), name="proxies")
            try:
                for _ in range(3):
                    await eventually(lambda: any(member.serving for member in group), PATIENCE_S)
                    enough = len(log.ticks) + 3
                    await eventually(partial(log.has, enough), PATIENCE_S)
                    await client.delete(layout.session("rootcoord"))
            finally:
                reporting.cancel()
                with suppress(asyncio.CancelledError):
                    await reporting
        assert log.ticks == sorted(set(log.ticks))

    async def test_one_whose_session_was_ended_alive_is_waited_for_by_the_successor(
        self, client: EtcdClient, layout: MetaLayout
    ) -> None:
        """What it had begun may be on its way, until another process has taken its place."""
        log = Log()
        async with members(client, layout, log, 2) as group, proxy_port(8) as other, proxy_port(7) as port:
            key = await register(client, layout, 7, port, barred=True)
            await register(client, layout, 8, other)
            for member in group:
                await known(member, 7)
                await known(member, 8)
            await client.delete(key)
            for member in group:
                await eventually(partial(forgotten, member, 7), PATIENCE_S)
            terms = [member.coordinator.parts.epoch for member in group if member.serving]
            await client.delete(layout.session("rootcoord"))
            await eventually(lambda: begun(group) not in (*terms, 0), PATIENCE_S)
            before = len(log.ticks)
            reporting = asyncio.create_task(keep_reporting(group, [8]), name="proxy 8")
            try:
                successor = next(member for member in group if member.serving)
                ticks = successor.coordinator.parts.services.time_ticks
                await eventually(lambda: 8 not in ticks.silent(0.2), PATIENCE_S)
                assert 7 in ticks.silent(0.0)
                assert len(log.ticks) == before
                await register(client, layout, 9, port)
                reporting.cancel()
                reporting = asyncio.create_task(keep_reporting(group, [8, 9]), name="proxies")
                await eventually(partial(log.has, before + 3), PATIENCE_S)
            finally:
                reporting.cancel()
                with suppress(asyncio.CancelledError):
                    await reporting


def begun(group: list[Member]) -> int:
    """The term of whoever serves, 0 for nobody."""
    return next((member.coordinator.parts.epoch for member in group if member.serving), 0)


async def keep_reporting(group: list[Member], proxies: list[int]) -> None:
    """To whoever serves; each report is the fact that the proxy has nothing to send up to then."""
    while True:
        for member in group:
            if not member.serving:
                continue
            with suppress(MilvusError, NotHandedOutError):
                for server_id in proxies:
                    stamp = await member.coordinator.parts.oracle.wait_timestamps(1, clock.boottime() + 0.1)
                    report(member, server_id, stamp)
        await asyncio.sleep(0.02)


async def test_a_new_term_looks_for_the_topics_that_were_made_beforehand(
    client: EtcdClient, layout: MetaLayout
) -> None:
    env = {"COMMON_PRECREATEDTOPIC_ENABLED": "true", "COMMON_PRECREATEDTOPIC_NAMES": f"{CHANNEL},other"}
    with capture_logs() as lines:
        async with members(client, layout, Log(), env=env):
            await eventually(lambda: any(line["log_level"] == "error" for line in lines), PATIENCE_S)
    [error] = [line for line in lines if line["log_level"] == "error"]
    assert "common.preCreatedTopic.names lists other, but" in error["reason"]
