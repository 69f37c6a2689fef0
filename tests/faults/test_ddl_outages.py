"""Changes of metadata while the message queue, DataCoord or QueryCoord is away: waited for, refused clearly,
and nothing half made stays.
"""

import asyncio
from pathlib import Path

import pytest

from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import MsgBase, Status
from coordd.pb.internal_pb2 import CredentialInfo
from coordd.pb.root_coord_pb2 import AllocTimestampRequest, AllocTimestampResponse
from tests.faults.ddl_stage import PROXY_ID, DdlStage, asked, ddl_stage, register, unregister
from tests.support.etcd import eventually
from tests.support.managed import until

pytestmark = pytest.mark.timeout(300)

SHORT_S = 3.0
"""What a client that is going to be refused has as time."""
LIMIT_S = 60.0


async def created(stage: DdlStage, name: str) -> None:
    """Ask as a proxy does, which asks again if it is told that it may."""

    async def once() -> bool:
        status = await stage.create(name)
        assert status.code == 0 or status.retriable, status
        return bool(status.code == 0)

    await until(f"collection {name} is made", once, LIMIT_S)


async def collections(stage: DdlStage) -> list[str]:
    request = asked("ShowCollections")
    answer = await stage.call("ShowCollections", request, milvus_pb2.ShowCollectionsResponse)
    return sorted(answer.collection_names)


async def test_the_queue_is_down_at_start(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path, replicas=1, broker_runs=False) as stage:
        await stage.do("CreateDatabase", db_name="music")
        status = await stage.create("books")
        assert (status.code, status.retriable) == (2, True), status
        assert "kafka" in status.reason
        await stage.settled()
        assert (await stage.stored()).collections == {}
        await stage.broker.start()
        await created(stage, "books")
        await stage.ticks()


async def test_the_queue_is_down_at_a_takeover(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path) as stage:
        await created(stage, "books")
        await created(stage, "more")
        await stage.ticks()
        await stage.broker.kill()
        await stage.kill()
        assert await collections(stage) == ["books", "more"]
        await stage.do("DropCollection", collection_name="books")
        await stage.do("CreateAlias", collection_name="more", alias="m")
        assert await collections(stage) == ["more"]
        await stage.broker.start()
        await stage.settled()
        assert list((await stage.stored()).collections) == ["more"]
        await created(stage, "books")
        await stage.ticks()


async def test_the_queue_goes_down_in_the_middle_of_a_change(tmp_path: Path) -> None:
    """Once between two steps of a creation that fails, once before a drop has sent its message."""
    async with ddl_stage(tmp_path, replicas=1) as stage:
        await created(stage, "books")
        await stage.ticks()
        stage.hold(stage.data, "WatchChannels")
        async with asyncio.TaskGroup() as group:
            call = group.create_task(stage.create("half", within_s=SHORT_S), name="the call")
            await eventually(lambda: len(stage.data.requests("WatchChannels")) > 1, LIMIT_S)
            await stage.broker.kill()
        status = call.result()
        assert status.code != 0
        assert "datacoord" in status.reason
        assert (await stage.stored()).collections["half"] != 0, "undone when its readers can be told"
        stage.release_peers()
        await stage.do("DropCollection", collection_name="books")
        assert await collections(stage) == []
        await stage.broker.start()
        await stage.settled()
        assert (await stage.stored()).collections == {}
        await created(stage, "half")


async def test_a_creation_waits_for_datacoord_and_then_fails_cleanly(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path, replicas=1, without=["datacoord"]) as stage:
        status = await stage.create("books", within_s=SHORT_S)
        assert status.code == 65535
        assert status.reason.startswith("there is no active datacoord")
        await stage.settled()
        assert (await stage.stored()).collections == {}
        assert await stage.is_quiet(for_s=1.0), "a channel that nobody uses has ticks"
        async with asyncio.TaskGroup() as group:
            call = group.create_task(stage.create("books"), name="the call")
            await until("it is being made", lambda: being_made(stage, "books"), LIMIT_S)
            await register(stage, stage.data)
        assert call.result().code == 0, call.result()
        assert await collections(stage) == ["books"]


async def being_made(stage: DdlStage, name: str) -> bool:
    return name in (await stage.stored()).collections


async def test_a_partition_waits_for_querycoord_and_then_fails_cleanly(tmp_path: Path) -> None:
    """Without a QueryCoord there is none that could have loaded it; so nothing is to be released."""
    async with ddl_stage(tmp_path, replicas=1, without=["querycoord"]) as stage:
        await created(stage, "books")
        request = asked("CreatePartition", collection_name="books", partition_name="p")
        status = await stage.call("CreatePartition", request, Status, SHORT_S)
        assert status.code == 65535
        assert status.reason.startswith("there is no active querycoord")
        await stage.settled()
        assert list((await stage.stored()).partitions) == [("books", "_default")]
        async with asyncio.TaskGroup() as group:
            call = group.create_task(stage.call("CreatePartition", request), name="the call")
            await until("it is being made", lambda: partition_being_made(stage, "p"), LIMIT_S)
            await register(stage, stage.query)
        assert call.result().code == 0, call.result()
        await stage.settled()
        assert ("books", "p") in (await stage.stored()).partitions


async def partition_being_made(stage: DdlStage, name: str) -> bool:
    return ("books", name) in (await stage.stored()).partitions


async def test_a_partition_that_may_be_loaded_is_released_when_querycoord_is_back(tmp_path: Path) -> None:
    async with ddl_stage(tmp_path, replicas=1) as stage:
        await created(stage, "books")
        stage.hold(stage.query, "SyncNewCreatedPartition")
        request = asked("CreatePartition", collection_name="books", partition_name="p")
        async with asyncio.TaskGroup() as group:
            call = group.create_task(stage.call("CreatePartition", request, Status, SHORT_S), name="the call")
            await eventually(lambda: stage.query.requests("SyncNewCreatedPartition"), LIMIT_S)
            await unregister(stage, stage.query)
        assert call.result().code != 0
        assert (await stage.stored()).unfinished == ["partition p"]
        stage.release_peers()
        await register(stage, stage.query)
        await stage.settled()
        [released] = stage.query.requests("ReleasePartitions")
        assert len(released.partitionIDs) == 1


async def test_a_hanging_proxy_learns_of_a_deleted_user_from_the_successor(tmp_path: Path) -> None:
    """The active one ends before the proxy has taken the news in; the user is in no list any more."""
    async with ddl_stage(tmp_path) as stage:
        alice = CredentialInfo(username="alice", encrypted_password="$2a$", sha256_password="00")
        assert (await stage.call("CreateCredential", alice)).code == 0
        stage.proxy.hang()
        await stage.do("DeleteCredential", username="alice")
        asked_for = AllocTimestampRequest(base=MsgBase(sourceID=PROXY_ID), count=1)
        refused = await stage.call("AllocTimestamp", asked_for, AllocTimestampResponse)
        assert "no timestamps for it" in refused.status.reason, "he could go on there"
        told = len(stage.proxy.requests("InvalidateCredentialCache"))
        await stage.kill()
        stage.proxy.resume()

        def told_again() -> bool:
            news = stage.proxy.requests("InvalidateCredentialCache")[told:]
            return "alice" in [one.username for one in news]

        await eventually(told_again, LIMIT_S)


async def test_pitfall_7_a_datacoord_that_hangs_holds_up_nothing_else(tmp_path: Path) -> None:
    """In Milvus one queue holds all changes and all reads; the first that waits for a peer stops it."""
    async with ddl_stage(tmp_path, replicas=1) as stage:
        await created(stage, "books")
        stage.hold(stage.data, "WatchChannels")
        async with asyncio.TaskGroup() as group:
            call = group.create_task(stage.create("slow"), name="the call")
            await eventually(lambda: len(stage.data.requests("WatchChannels")) > 1, LIMIT_S)
            await stage.do("CreatePartition", collection_name="books", partition_name="p")
            await stage.do("CreateAlias", collection_name="books", alias="b")
            await stage.do("RenameCollection", oldName="books", newName="novels")
            assert await collections(stage) == ["novels"]
            assert not call.done()
            stage.release_peers()
        assert call.result().code == 0, call.result()
        assert await collections(stage) == ["novels", "slow"]
