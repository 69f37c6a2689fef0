"""Changes of metadata while the active rootcoord is killed between two of their steps: all, or nothing.

Real replicas, etcd and message queue; a change is made to stand still at one step, there the active replica
gets kill -9. Its successor must come to either all of the change or nothing of it, whatever the client does;
what was acknowledged must be there; and the client's repeated call must succeed.

`tests/unit/rootcoord/test_life.py` does the same at every step, in one process.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc.aio
import pytest
from google.protobuf.message import Message

from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgType, Status
from coordd.rootcoord.looks import ON_ITS_WAY_S
from tests.faults.ddl_stage import CHANNEL, RECOVERY_S, ROLE, DdlStage, Stored, asked, ddl_stage
from tests.support.coordd import LAYOUT
from tests.support.etcd import eventually
from tests.support.managed import until
from tests.unit.rootcoord.collections.support import create_request

pytestmark = pytest.mark.timeout(600)

FORGET = "InvalidateCollectionMetaCache"


class Moment(Protocol):
    """One step of a change."""

    async def arm(self, stage: DdlStage, name: str) -> None:
        """Have the change stand still there when it comes there."""

    async def reached(self, stage: DdlStage, name: str) -> None:
        """Wait until it has."""


class NotWritten:
    """What is to be written does not reach etcd; when the way is free again it does, too late."""

    async def arm(self, stage: DdlStage, name: str) -> None:
        stage.leader().way.up.stall()

    async def reached(self, stage: DdlStage, name: str) -> None:
        """Every change rewrites the mark of its kind, and nothing else does."""
        mark, way = LAYOUT.ddl(ROLE).encode(), stage.leader().way.up
        await eventually(lambda: mark in way.come, RECOVERY_S)


@dataclass
class InEtcd:
    """etcd has it; nothing stands still."""

    seen: Callable[[Stored, str], object]

    async def arm(self, stage: DdlStage, name: str) -> None:
        """Nothing to do."""

    async def reached(self, stage: DdlStage, name: str) -> None:
        async def written() -> bool:
            return bool(self.seen(await stage.stored(), name))

        await until("it is in etcd", written, RECOVERY_S)


class Written(InEtcd):
    """etcd has it, and the replica does not hear so."""

    async def arm(self, stage: DdlStage, name: str) -> None:
        stage.leader().way.stall_down()


class Asked:
    """A peer is asked, and has not answered."""

    def __init__(self, peer: str, method: str) -> None:
        self.peer = peer
        self.method = method
        self.before = 0

    async def arm(self, stage: DdlStage, name: str) -> None:
        peer = getattr(stage, self.peer)
        self.before = len(peer.requests(self.method))
        stage.hold(peer, self.method)

    async def reached(self, stage: DdlStage, name: str) -> None:
        peer = getattr(stage, self.peer)
        await eventually(lambda: len(peer.requests(self.method)) > self.before, RECOVERY_S)


class AskedEarly(Asked):
    """As `Asked`, beside the write: in a term in which no older answer can be on its way to the peer."""

    async def arm(self, stage: DdlStage, name: str) -> None:
        await asyncio.sleep(2 * ON_ITS_WAY_S)
        await super().arm(stage, name)


@dataclass
class Sent:
    """The queue has the message, and has not confirmed it."""

    kind: str

    async def arm(self, stage: DdlStage, name: str) -> None:
        stage.broker.hold_answers()

    async def reached(self, stage: DdlStage, name: str) -> None:
        def is_it(payload: bytes) -> bool:
            header = milvus_pb2.HasCollectionRequest.FromString(payload).base
            return header.msg_type == MsgType.Value(self.kind) and name.encode() in payload

        await stage.broker.until_message([CHANNEL], is_it)


@dataclass
class Then:
    """The first moment, and when it is over the second."""

    first: Moment
    second: Moment

    async def arm(self, stage: DdlStage, name: str) -> None:
        await self.first.arm(stage, name)

    async def reached(self, stage: DdlStage, name: str) -> None:
        await self.first.reached(stage, name)
        await self.second.arm(stage, name)
        stage.release_peers()
        await self.second.reached(stage, name)


@dataclass
class Both:
    """Two moments of what goes on at the same time."""

    first: Moment
    second: Moment

    async def arm(self, stage: DdlStage, name: str) -> None:
        await self.first.arm(stage, name)
        await self.second.arm(stage, name)

    async def reached(self, stage: DdlStage, name: str) -> None:
        await self.first.reached(stage, name)
        await self.second.reached(stage, name)


@dataclass(frozen=True)
class Change:
    """A change that is to be interrupted. `name` makes each one's names its own.

    `prepare`: what must be there before; `request`: the call; `done`: whether clients see it done; `told`:
    whether a peer that has to know of it does, though nobody repeats the call.
    """

    prepare: Callable[[DdlStage, str], Awaitable[object]]
    request: Callable[[str], tuple[str, Message]]
    done: Callable[[DdlStage, str], Awaitable[bool]]
    told: Callable[[DdlStage, str], bool] = lambda _stage, _name: True


async def ask(stage: DdlStage, method: str, request: Message) -> Status | None:
    """One call; None if it ended without an answer."""
    try:
        status: Status = await stage.call(method, request)
    except grpc.aio.AioRpcError as error:
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN):
            raise
        return None
    return status


async def interrupted(stage: DdlStage, change: Change, moment: Moment, name: str, *, completed: bool) -> None:
    """Kill the active replica at that moment of the change. `completed`: what must come of it."""
    await change.prepare(stage, name)
    await stage.settled()
    await stage.until_paired()
    await stage.ticks()
    request = change.request(name)
    await moment.arm(stage, name)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(ask(stage, *request), name="the call")
        await moment.reached(stage, name)
        await stage.kill()
    status = call.result()
    await stage.settled()
    done = await change.done(stage, name)
    assert done == completed
    assert done or status is None, "what was acknowledged is lost"
    if done:
        await eventually(lambda: change.told(stage, name), RECOVERY_S)
    again = await ask(stage, *request)
    assert again is not None
    assert again.code == 0, again
    assert await change.done(stage, name)
    await stage.settled()


async def nothing(_stage: DdlStage, _name: str) -> None:
    """Nothing has to be there before."""


async def has_collection(stage: DdlStage, name: str) -> bool:
    answer = await stage.call(
        "HasCollection", asked("HasCollection", collection_name=name), milvus_pb2.BoolResponse
    )
    return bool(answer.value)


async def has_no_collection(stage: DdlStage, name: str) -> bool:
    return not await has_collection(stage, name)


async def has_partition(stage: DdlStage, name: str) -> bool:
    request = asked("HasPartition", collection_name="base", partition_name=name)
    answer = await stage.call("HasPartition", request, milvus_pb2.BoolResponse)
    return bool(answer.value)


async def has_no_partition(stage: DdlStage, name: str) -> bool:
    return not await has_partition(stage, name)


async def has_database(stage: DdlStage, name: str) -> bool:
    answer = await stage.call("ListDatabases", asked("ListDatabases"), milvus_pb2.ListDatabasesResponse)
    return name in answer.db_names


async def has_no_database(stage: DdlStage, name: str) -> bool:
    return not await has_database(stage, name)


async def behind(stage: DdlStage, alias: str) -> str:
    """The collection behind an alias; "" for none."""
    request = milvus_pb2.DescribeAliasRequest(alias=alias)
    answer = await stage.call("DescribeAlias", request, milvus_pb2.DescribeAliasResponse)
    return str(answer.collection)


async def property_of(stage: DdlStage, name: str) -> str:
    request = asked("DescribeCollection", collection_name="base")
    answer = await stage.call("DescribeCollection", request, milvus_pb2.DescribeCollectionResponse)
    return {pair.key: pair.value for pair in answer.properties}.get(name, "")


async def create(stage: DdlStage, name: str) -> None:
    status = await stage.create(name)
    assert status.code == 0, status


def partition(method: str) -> Callable[[str], tuple[str, Message]]:
    return lambda name: (method, asked(method, collection_name="base", partition_name=name))


CREATE = Change(
    nothing, lambda name: ("CreateCollection", create_request(name, shards_num=1)), has_collection
)
DROP = Change(
    create, lambda name: ("DropCollection", asked("DropCollection", collection_name=name)), has_no_collection
)
CREATE_PARTITION = Change(nothing, partition("CreatePartition"), has_partition)
DROP_PARTITION = Change(
    lambda stage, name: stage.do("CreatePartition", collection_name="base", partition_name=name),
    partition("DropPartition"),
    has_no_partition,
)
CREATE_DATABASE = Change(
    nothing, lambda name: ("CreateDatabase", asked("CreateDatabase", db_name=name)), has_database
)
DROP_DATABASE = Change(
    lambda stage, name: stage.do("CreateDatabase", db_name=name),
    lambda name: ("DropDatabase", asked("DropDatabase", db_name=name)),
    has_no_database,
)


async def is_alias_of_base(stage: DdlStage, name: str) -> bool:
    return await behind(stage, name) == "base"


async def is_no_alias(stage: DdlStage, name: str) -> bool:
    return await behind(stage, name) == ""


def alias(method: str, **fields: str) -> Callable[[str], tuple[str, Message]]:
    return lambda name: (method, asked(method, alias=name, **fields))


CREATE_ALIAS = Change(nothing, alias("CreateAlias", collection_name="base"), is_alias_of_base)
ALTER_ALIAS = Change(
    lambda stage, name: stage.do("CreateAlias", alias=name, collection_name="other"),
    alias("AlterAlias", collection_name="base"),
    is_alias_of_base,
)
DROP_ALIAS = Change(
    lambda stage, name: stage.do("CreateAlias", alias=name, collection_name="base"),
    alias("DropAlias"),
    is_no_alias,
)


def with_property(name: str) -> tuple[str, Message]:
    pairs = [KeyValuePair(key=name, value="1")]
    return "AlterCollection", asked("AlterCollection", collection_name="base", properties=pairs)


async def has_property(stage: DdlStage, name: str) -> bool:
    return await property_of(stage, name) == "1"


def property_told(stage: DdlStage, name: str) -> bool:
    told = stage.data.requests("BroadcastAlteredCollection")
    return any(name in [pair.key for pair in one.properties] for one in told)


ALTER = Change(nothing, with_property, has_property, property_told)


def rename(name: str) -> tuple[str, Message]:
    return "RenameCollection", asked("RenameCollection", oldName=name, newName=f"new {name}")


async def is_renamed(stage: DdlStage, name: str) -> bool:
    assert await has_collection(stage, name) != await has_collection(stage, f"new {name}")
    return await has_collection(stage, f"new {name}")


RENAME = Change(create, rename, is_renamed)


def restore(name: str) -> tuple[str, Message]:
    """A role and 150 users: what two transactions hold."""
    users = [milvus_pb2.UserInfo(user=f"{name}_{number}", password="$2a$x") for number in range(150)]
    meta = milvus_pb2.RBACMeta(roles=[milvus_pb2.RoleEntity(name=name)], users=users)
    return "RestoreRBAC", asked("RestoreRBACMeta", RBAC_meta=meta)


async def is_restored(stage: DdlStage, name: str) -> bool:
    request = asked("BackupRBACMeta")
    answer = await stage.call("BackupRBAC", request, milvus_pb2.BackupRBACMetaResponse)
    return sum(user.user.startswith(f"{name}_") for user in answer.RBAC_meta.users) == 150


RESTORE = Change(nothing, restore, is_restored)


def creating(stored: Stored, name: str) -> bool:
    return bool(stored.collections.get(name))


def created(stored: Stored, name: str) -> bool:
    return stored.collections.get(name) == 0


def leads_to_base(stored: Stored, alias: str) -> bool:
    return stored.aliases.get(alias) == stored.ids.get("base")


def partition_there(stored: Stored, name: str) -> bool:
    return stored.partitions.get(("base", name)) == 0


def partition_unfinished(stored: Stored, name: str) -> bool:
    return bool(stored.partitions.get(("base", name)))


Case = tuple[str, Change, Moment, bool]
COLLECTIONS: Sequence[Case] = [
    ("create, message sent", CREATE, Sent("CreateCollection"), False),
    ("create, written", CREATE, Written(creating), False),
    ("create, proxy asked", CREATE, Asked("proxy", FORGET), False),
    ("create, DataCoord asked", CREATE, Asked("data", "WatchChannels"), False),
    ("create, made", CREATE, Then(Asked("data", "WatchChannels"), Written(created)), True),
    ("drop, not written", DROP, NotWritten(), False),
    ("drop, written", DROP, Written(creating), True),
    ("drop, proxy asked, not written", DROP, Both(AskedEarly("proxy", FORGET), NotWritten()), False),
    ("drop, proxy asked", DROP, Both(Asked("proxy", FORGET), InEtcd(creating)), True),
    ("drop, QueryCoord asked", DROP, Asked("query", "ReleaseCollection"), True),
    ("drop, message sent", DROP, Then(Asked("data", "DropIndex"), Sent("DropCollection")), True),
    ("drop, segments asked for", DROP, Asked("data", "GcConfirm"), True),
]
PARTITIONS: Sequence[Case] = [
    ("create, written", CREATE_PARTITION, Written(partition_unfinished), False),
    ("create, QueryCoord asked", CREATE_PARTITION, Asked("query", "SyncNewCreatedPartition"), False),
    (
        "create, made",
        CREATE_PARTITION,
        Then(Asked("query", "SyncNewCreatedPartition"), Written(partition_there)),
        True,
    ),
    ("drop, written", DROP_PARTITION, Written(partition_unfinished), True),
    (
        "drop, proxy asked",
        DROP_PARTITION,
        Both(Asked("proxy", FORGET), InEtcd(partition_unfinished)),
        True,
    ),
    ("drop, message sent", DROP_PARTITION, Sent("DropPartition"), True),
    ("drop, segments asked for", DROP_PARTITION, Asked("data", "GcConfirm"), True),
]
NAMES: Sequence[Case] = [
    ("create database, written", CREATE_DATABASE, Written(lambda s, name: name in s.databases), True),
    ("drop database, not written", DROP_DATABASE, NotWritten(), False),
    ("drop database, written", DROP_DATABASE, Written(lambda s, name: name not in s.databases), True),
    ("create alias, written", CREATE_ALIAS, Written(lambda s, name: name in s.aliases), True),
    (
        "alter alias, proxy asked",
        ALTER_ALIAS,
        Both(Asked("proxy", FORGET), InEtcd(leads_to_base)),
        True,
    ),
    ("drop alias, written", DROP_ALIAS, Written(lambda s, name: name not in s.aliases), True),
    ("alter, written", ALTER, Written(lambda s, name: name in s.properties.get("base", ())), True),
    ("rename, proxy asked, not written", RENAME, Both(AskedEarly("proxy", FORGET), NotWritten()), False),
    ("restore, first of two transactions written", RESTORE, Written(lambda s, name: name in s.roles), False),
]


async def interrupt_all(stage: DdlStage, cases: Sequence[Case]) -> None:
    for number, (title, change, moment, completed) in enumerate(cases):
        try:
            await interrupted(stage, change, moment, f"n{number:02}", completed=completed)
        except Exception as error:
            error.add_note(f"at: {title}")
            raise


async def test_collections_are_made_and_dropped_as_a_whole(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path) as stage:
        await create(stage, "base")
        await interrupt_all(stage, COLLECTIONS)
        for name in (await stage.stored()).collections:
            await stage.do("DropCollection", collection_name=name)
        await stage.settled()
        assert await stage.is_quiet(for_s=1.0), "a channel that nobody uses has ticks"


async def test_partitions_are_made_and_dropped_as_a_whole(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path) as stage:
        await create(stage, "base")
        await interrupt_all(stage, PARTITIONS)


async def test_names_are_changed_as_a_whole(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path) as stage:
        await create(stage, "base")
        await create(stage, "other")
        await interrupt_all(stage, NAMES)


async def test_what_was_dropped_is_told_to_the_proxies_by_the_successor(tmp_path: Path) -> None:
    """Nobody repeats the call: the client may have ended, too."""
    async with ddl_stage(tmp_path) as stage:
        await create(stage, "base")
        await create(stage, "gone")
        await stage.ticks()
        moment = Written(creating)
        await moment.arm(stage, "gone")
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(stage, *DROP.request("gone")), name="the call")
            await moment.reached(stage, "gone")
            assert stage.active is not None
            assert stage.active.record is not None
            killed = stage.active.record.server_id
            await stage.kill()
        await eventually(
            lambda: [one for one in stage.proxy.requests(FORGET) if dropped(one, other_than=killed)],
            RECOVERY_S,
        )


def dropped(request: Any, *, other_than: int) -> bool:
    """Whether a collection's end is told by another than this rootcoord."""
    base = request.base
    return bool(
        base.msg_type == MsgType.DropCollection and request.collectionID and base.sourceID != other_than
    )
