"""What DataCoord is told of altered collections: as they are by then, and of earlier terms' changes too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.ha.tasks import TaskScope
from coordd.meta.fold import Fold
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.alteration_news import AlterationNews, altered
from coordd.rootcoord.operations import Operations
from coordd.rpc.peer import PeerUnavailable
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.meta.samples import DROPPING, LAYOUT, collection, collection_value, database, loaded, put


class DataCoord:
    """Refuses as often as it is told to, then notes what it hears: the collection, and its TTL."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.heard: list[tuple[int, str]] = []

    async def broadcast_altered_collection(self, request: Any, *, deadline: float) -> None:
        assert deadline > boottime()
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise MilvusError("not now")
        self.heard.append((request.collectionID, "".join(pair.value for pair in request.properties)))


class Away(DataCoord):
    """Not there until it is `back`. A call repeats its message until then; who came first makes the longest
    pauses, so the others reach it earlier.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trying = 0
        self.back = asyncio.Event()

    async def broadcast_altered_collection(self, request: Any, *, deadline: float) -> None:
        self.trying += 1
        first = self.trying == 1
        try:
            await self.back.wait()
            for _ in range(50 if first else 0):
                await asyncio.sleep(0)
            await super().broadcast_altered_collection(request, deadline=deadline)
        finally:
            self.trying -= 1


@dataclass
class Scene:
    """What is told, of collections that a test alters: 50 and 70 are there, 60 is being dropped."""

    news: AlterationNews
    fold: Fold

    def alter(self, ttl: str, revision: int) -> None:
        """Collection 50 has this TTL from now on."""
        info = CollectionInfo.FromString(collection_value(50, "there"))
        info.properties.add(key="collection.ttl.seconds", value=ttl)
        event = put(LAYOUT.collection(1, 50), info.SerializeToString(), revision)
        self.fold.apply_commit(revision, [event])


@asynccontextmanager
async def announcing(data_coord: Any) -> AsyncIterator[Scene]:
    tables, fold = loaded(
        database(1, "default"),
        collection(50, "there"),
        collection(60, "gone", state=DROPPING),
        collection(70, "too"),
    )
    async with TaskScope() as scope:
        operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        yield Scene(AlterationNews(tables, operations, data_coord), fold)
        operations.close()


def test_each_collection_once_whose_properties_or_fields_may_be_others() -> None:
    keys = [
        LAYOUT.collection(1, 50),
        LAYOUT.field(50, 100),
        LAYOUT.partition(60, 61),
        LAYOUT.field(70, 100),
        LAYOUT.alias(1, "a"),
        LAYOUT.collection(0, 80),
        "else",
    ]
    assert altered(LAYOUT, keys) == [50, 70, 80]


async def test_only_what_is_there_again_and_again_until_it_is_heard() -> None:
    data = DataCoord(refusals=2)
    async with announcing(data) as at:
        at.news.tell_in_background([60, 50, 80])
        await eventually(lambda: data.heard)
        assert data.heard == [(50, "")]


@pytest.mark.parametrize("in_background", [True, False])
async def test_the_last_that_it_hears_of_a_collection_is_what_holds(*, in_background: bool) -> None:
    """Whoever began to tell it while it was away, of an earlier alteration or at the begin of the term."""
    data = Away()
    async with announcing(data) as at, asyncio.TaskGroup() as group:
        at.alter("60", 2)
        if in_background:
            at.news.tell_in_background([50])
        else:
            group.create_task(at.news.tell(50, boottime() + 20))
        await eventually(lambda: data.trying)
        at.alter("90", 3)
        telling = group.create_task(at.news.tell(50, boottime() + 20))
        for _ in range(10):
            await asyncio.sleep(0)
        data.back.set()
        await telling
        await eventually(lambda: not data.trying)
        assert data.heard[-1] == (50, "90")


async def test_other_collections_do_not_wait_and_who_does_learns_why_it_was_in_vain() -> None:
    data = Away()
    async with announcing(data) as at, asyncio.TaskGroup() as group:
        for one in (50, 70):
            group.create_task(at.news.tell(one, boottime() + 20))
        await eventually(lambda: data.trying == 2)
        with pytest.raises(PeerUnavailable, match="datacoord has not answered yet"):
            await at.news.tell(50, boottime() + 0.01)
        data.back.set()
    assert sorted(data.heard) == [(50, ""), (70, "")]


async def test_without_data_nodes_nobody_is_asked() -> None:
    async with announcing(None) as at:
        at.news.tell_in_background([50])
        await at.news.tell(50, boottime() - 1)
