"""A pair of rootcoords and all that is around them, each part of which can be held back.

Each replica reaches etcd through a proxy of its own, and Kafka (a mock) through a door; DataCoord, QueryCoord
and a proxy are gRPC servers of the test, which the replicas find by their session keys. So a change can be
made to stand still at one step, and the active replica be killed there with kill -9.
"""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from coordd.etcd import EtcdClient, prefix_end
from coordd.ha.leadership import SessionEntry
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.keys import AliasKey, CollectionKey, DatabaseKey, FieldKey, PartitionKey, RoleKey
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import MsgBase, MsgType, StateCode, Status
from coordd.pb.data_coord_pb2 import GcConfirmResponse
from coordd.pb.etcd_meta_pb2 import AliasInfo, CollectionInfo, DatabaseInfo, PartitionInfo
from coordd.pb.internal_pb2 import ChannelTimeTickMsg
from tests.support.coordd import (
    LAYOUT,
    CoorddProcess,
    Launcher,
    coordd_processes,
    etcd_client,
    milvus_yaml,
    wait_active,
)
from tests.support.etcd import etcd_cluster
from tests.support.kafka import Broker, kafka_broker
from tests.support.managed import STANDBY, until
from tests.support.peers import SERVICES, Acting, Cluster
from tests.support.rootcoord_client import RootCoordClient
from tests.support.tcp_proxy import TcpProxy
from tests.unit.rootcoord.collections.support import create_request

ROLE: Final = "rootcoord"
CHANNEL: Final = "by-dev-rootcoord-dml_0"
"""All collections share one channel, so that the queue's client knows it before a kill is prepared."""
PROXY_ID: Final = 103
RECOVERY_S: Final = 60.0
"""Until all is well again: generous, for slow machines."""
CALL_S: Final = 20.0
TICK_S: Final = 0.1


@dataclass(eq=False)
class Place:
    """One of the replicas: a process comes, is killed, and another one comes; and its way to etcd."""

    way: TcpProxy
    process: CoorddProcess | None = None


@dataclass(frozen=True)
class Stored:
    """What etcd holds. States by name; partitions by (collection, name); keys of properties by collection;
    IDs of collections by name, and by alias.
    """

    databases: set[str]
    roles: set[str]
    collections: dict[str, int]
    partitions: dict[tuple[str, str], int]
    aliases: dict[str, int]
    properties: dict[str, set[str]]
    ids: dict[str, int]
    unfinished: list[str]


@dataclass(frozen=True)
class Held:
    """A method of a peer that answers nothing for now, and what it answered before."""

    peer: Acting
    method: str
    before: Any
    gate: asyncio.Event


@dataclass(eq=False)
class DdlStage:
    """See the module. `active`: whoever serves, as far as is known."""

    client: EtcdClient
    cluster: Cluster
    broker: Broker
    data: Acting
    query: Acting
    proxy: Acting
    launcher: Launcher
    places: list[Place]
    active: SessionEntry | None = None
    held: list[Held] = field(default_factory=list)

    # --- clients ---

    @property
    def address(self) -> str:
        """Of the active replica."""
        assert self.active is not None
        assert self.active.record is not None
        return self.active.record.address

    async def call(
        self, method: str, request: Message, answer: type[Message] = Status, within_s: float = CALL_S
    ) -> Any:
        """One call of the active replica; raises what gRPC raises."""
        async with RootCoordClient(self.address) as rootcoord:
            return await rootcoord.call(method, request, answer, within_s)

    async def change(self, method: str, within_s: float = CALL_S, **fields: Any) -> Status:
        """One call that changes something."""
        return await self.call(method, asked(method, **fields), within_s=within_s)

    async def create(self, name: str, *, within_s: float = CALL_S) -> Status:
        """CreateCollection."""
        return await self.call("CreateCollection", create_request(name, shards_num=1), Status, within_s)

    async def do(self, method: str, **fields: Any) -> None:
        """A change that has to succeed."""
        status = await self.change(method, **fields)
        assert status.code == 0, (method, status)

    # --- what there is ---

    async def stored(self) -> Stored:
        """Read etcd."""
        prefix = LAYOUT.root_coord_prefix
        found = await self.client.range(prefix, prefix_end(prefix))
        collections: dict[int, CollectionInfo] = {}
        partitions: list[PartitionInfo] = []
        databases: set[str] = set()
        roles: set[str] = set()
        aliases: dict[str, int] = {}
        owners: set[int] = set()
        for kv in found.kvs:
            if kv.value == TOMBSTONE:
                continue
            match LAYOUT.parse(kv.key):
                case CollectionKey(_, collection_id):
                    collections[collection_id] = CollectionInfo.FromString(kv.value)
                case PartitionKey(collection_id, _):
                    partitions.append(PartitionInfo.FromString(kv.value))
                    owners.add(collection_id)
                case FieldKey(collection_id, _):
                    owners.add(collection_id)
                case AliasKey(_, alias):
                    aliases[alias] = AliasInfo.FromString(kv.value).collection_id
                    owners.add(aliases[alias])
                case DatabaseKey():
                    databases.add(DatabaseInfo.FromString(kv.value).name)
                case RoleKey(role):
                    roles.add(role)
        names = {collection_id: info.schema.name for collection_id, info in collections.items()}
        return Stored(
            databases,
            roles,
            {info.schema.name: info.state for info in collections.values()},
            {(names.get(one.collection_id, ""), one.partitionName): one.state for one in partitions},
            aliases,
            {info.schema.name: {pair.key for pair in info.properties} for info in collections.values()},
            {name: collection_id for collection_id, name in names.items()},
            [
                *(f"collection {info.schema.name}" for info in collections.values() if info.state != CREATED),
                *(f"partition {one.partitionName}" for one in partitions if one.state != CREATED),
                *(f"parts of collection {collection_id}" for collection_id in owners - names.keys()),
            ],
        )

    async def settled(self) -> None:
        """Wait until nothing is half made or half dropped."""

        async def nothing_left() -> bool:
            return not (await self.stored()).unfinished

        await until("nothing is half made or half dropped", nothing_left, RECOVERY_S)

    async def ticks(self) -> None:
        """Wait until two more time ticks have come: the queue's client is at work."""
        [before] = (await self.broker.lengths([CHANNEL])).values()

        async def more() -> bool:
            return (await self.broker.lengths([CHANNEL]))[CHANNEL] >= before + 2

        await until("time ticks", more, RECOVERY_S)

    async def is_quiet(self, for_s: float) -> bool:
        """Whether no message comes in that time."""
        before = await self.broker.lengths([CHANNEL])
        await asyncio.sleep(for_s)
        return await self.broker.lengths([CHANNEL]) == before

    # --- holding back ---

    def hold(self, peer: Acting, method: str) -> None:
        """Have a peer take in calls of a method and answer none, until `release`."""
        gate = asyncio.Event()
        output = SERVICES[peer.role].methods_by_name[method].output_type
        before = peer.replies.get(method)
        answer = GetMessageClass(output)() if before is None else before

        async def wait() -> Message:
            await gate.wait()
            assert isinstance(answer, Message)
            return answer

        peer.replies[method] = wait
        self.held.append(Held(peer, method, before, gate))

    def release_peers(self) -> None:
        """Answer what waits, and whatever comes, as before."""
        while self.held:
            held = self.held.pop()
            if held.before is None:
                del held.peer.replies[held.method]
            else:
                held.peer.replies[held.method] = held.before
            held.gate.set()

    def release(self) -> None:
        """Nothing is held back any more, but for what has to do with etcd."""
        self.release_peers()
        self.broker.release_answers()

    # --- replicas ---

    def leader(self) -> Place:
        """Where the active replica runs."""
        assert self.active is not None
        assert self.active.record is not None
        assert self.active.record.safety is not None
        pid = self.active.record.safety.pid
        [place] = [one for one in self.places if one.process is not None and one.process.pid == pid]
        return place

    async def start(self, place: Place) -> None:
        """A new process; returns before it has registered."""
        settings = milvus_yaml(
            [place.way.endpoint],
            mq={"type": "kafka"},
            kafka={"brokerList": self.broker.address},
            rootCoord={"ip": "127.0.0.1", "port": 0, "enableActiveStandby": True, "dmlChannelNum": 1},
        )
        place.process = await self.launcher.run(ROLE, settings, module="tests.faults.hurried")

    async def until_led(self, *, other_than: SessionEntry | None = None) -> None:
        """Wait until one leads, and serves."""
        server_id = 0 if other_than is None or other_than.record is None else other_than.record.server_id
        self.active = await wait_active(self.client, ROLE, other_than=server_id, timeout_s=RECOVERY_S)
        async with RootCoordClient(self.address) as rootcoord:

            async def healthy() -> bool:
                with suppress(grpc.aio.AioRpcError):
                    return await rootcoord.state_code() == StateCode.Healthy
                return False

            await until("the active one serves", healthy, RECOVERY_S)

    async def until_paired(self) -> None:
        """Wait until everyone but the active one stands by."""
        for place in self.places:
            if place is not self.leader() and place.process is not None:
                await place.process.wait_log(STANDBY, timeout_s=RECOVERY_S)

    async def kill(self) -> None:
        """kill -9 of the active one, and nothing is held back any more. Its successor serves when this
        returns, and a new process is on its way."""
        place, before = self.leader(), self.active
        assert place.process is not None
        place.process.send(signal.SIGKILL)
        await place.process.wait()
        self.release()
        await self.until_led(other_than=before)
        place.way.heal()
        await self.start(place)

    async def report(self) -> None:
        """Task: what a proxy without work reports to the active rootcoord, so that time goes on."""
        base = MsgBase(msg_type=MsgType.TimeTick, sourceID=PROXY_ID)
        while True:
            with suppress(grpc.aio.AioRpcError, AssertionError):
                async with RootCoordClient(self.address) as rootcoord:
                    while True:
                        timestamp, _ = await rootcoord.alloc_timestamp(timeout_s=1)
                        report = ChannelTimeTickMsg(base=base, default_timestamp=timestamp)
                        await rootcoord.call("UpdateChannelTimeTick", report, Status, 1)
                        await asyncio.sleep(TICK_S)
            await asyncio.sleep(TICK_S)

    def logs(self) -> str:
        """The end of what the processes said, for the report of a failure."""
        return "\n".join(
            f"--- pid {one.pid}, exit code {one.returncode}\n{one.log()[-4000:]}"
            for one in self.launcher.processes[-3:]
        )


_MESSAGE_IDS = itertools.count(1)

CREATED: Final = 0
"""Of collections and of partitions: the number of the state in which they are there."""


def asked(method: str, **fields: Any) -> Message:
    """A request of the method as a proxy sends it: with the message type, and an ID of its own."""
    kind = dict(MsgType.items()).get(method, 0)
    base = MsgBase(msg_type=kind, msgID=next(_MESSAGE_IDS))
    request: Message = getattr(milvus_pb2, f"{method}Request")(base=base, **fields)
    return request


async def register(stage: DdlStage, peer: Acting) -> None:
    """Give a peer its session key."""
    name = f"proxy-{peer.server_id}" if peer.role == "proxy" else peer.role
    await stage.cluster.register(name, peer.server_id, peer.address, wait=False)


async def unregister(stage: DdlStage, peer: Acting) -> None:
    """Take a coordinator's session key away."""
    await stage.client.delete(LAYOUT.session(peer.role))


@asynccontextmanager
async def ddl_stage(
    folder: Path,
    *,
    replicas: int = 2,
    broker_runs: bool = True,
    without: Sequence[str] = (),
) -> AsyncIterator[DdlStage]:
    """The stage, with one replica leading and the others standing by. `without`: peers of these roles have no
    session yet."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_cluster())
        client = await stack.enter_async_context(etcd_client(etcd.endpoints))
        broker = await stack.enter_async_context(kafka_broker(folder / "kafka", running=broker_runs))
        data, query, proxy = [
            await stack.enter_async_context(Acting(role, number))
            for role, number in (("datacoord", 101), ("querycoord", 102), ("proxy", PROXY_ID))
        ]
        data.replies["GcConfirm"] = GcConfirmResponse(gc_finished=True)
        proxy.replies["GetComponentStates"] = milvus_pb2.ComponentStates(
            state=milvus_pb2.ComponentInfo(nodeID=PROXY_ID, role="proxy", state_code=StateCode.Healthy)
        )
        launcher = await stack.enter_async_context(coordd_processes(folder))
        ways = [await stack.enter_async_context(TcpProxy(etcd.endpoints[0])) for _ in range(replicas)]
        stage = DdlStage(
            client,
            Cluster(client, LAYOUT),
            broker,
            data,
            query,
            proxy,
            launcher,
            [Place(way) for way in ways],
        )
        for peer in (data, query, proxy):
            if peer.role not in without:
                await register(stage, peer)
        try:
            for place in stage.places:
                await stage.start(place)
                if stage.active is None:
                    await stage.until_led()
            await stage.until_paired()
            async with asyncio.TaskGroup() as group:
                reporting = group.create_task(stage.report(), name="proxy reports")
                yield stage
                reporting.cancel()
        except BaseException as error:
            error.add_note(stage.logs())
            raise
