"""What DataCoord is told of altered collections: as they are by then, and of earlier terms' changes too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from coordd.clock import boottime
from coordd.ha.tasks import TaskScope
from coordd.rootcoord.alteration_news import AlterationNews, altered
from coordd.rootcoord.operations import Operations
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.meta.samples import DROPPING, LAYOUT, collection, database, loaded


class DataCoord:
    """Refuses as often as it is told to, then notes what it hears."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.heard: list[int] = []

    async def broadcast_altered_collection(self, request: Any, *, deadline: float) -> None:
        assert deadline > boottime()
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise MilvusError("not now")
        self.heard.append(request.collectionID)


@asynccontextmanager
async def announcing(data_coord: Any) -> AsyncIterator[AlterationNews]:
    tables, _ = loaded(
        database(1, "default"), collection(50, "there"), collection(60, "gone", state=DROPPING)
    )
    async with TaskScope() as scope:
        operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        yield AlterationNews(tables, operations, data_coord)
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
    async with announcing(data) as alteration_news:
        alteration_news.tell_in_background([60, 50, 70])
        await eventually(lambda: data.heard)
        assert data.heard == [50]


async def test_without_data_nodes_nobody_is_asked() -> None:
    async with announcing(None) as alteration_news:
        alteration_news.tell_in_background([50])
        await alteration_news.tell(50, boottime() - 1)
