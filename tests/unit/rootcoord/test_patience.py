"""How long a change is tried whose caller names no deadline: as long as who has a part in it may be away."""

from typing import Any

import pytest

from coordd.clock import boottime
from coordd.ha.tasks import TaskScope
from coordd.meta.commit import TIMEOUT_S
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgBase, MsgType, Status
from coordd.rootcoord.operations import Operations
from tests.unit.rootcoord.recorded import world
from tests.unit.rootcoord.term import start_oracle
from tests.unit.rootcoord.test_handlers import ask

MILVUS_S = 50.0
"""After so long Milvus' RootCoord has given DataCoord up: it sleeps 43 s between ten attempts."""
OTHERS_S = 30.0 + 10.0
"""In which a DataCoord or a QueryCoord is back whose session had to end, at Milvus' defaults."""


class Listener:
    """Stands for what makes the change: notes how much time it has."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __getattr__(self, _name: str) -> Any:
        async def change(_what: object, deadline: float) -> None:
            self.seconds.append(deadline - boottime())

        return change


@pytest.mark.parametrize("method", ["CreateCollection", "CreatePartition"])
async def test_what_other_coordinators_take_part_in_outlasts_their_failover(method: str) -> None:
    place = await world()
    place.life = listener = Listener()
    assert await ask(place, method, getattr(milvus_pb2, f"{method}Request")()) == Status()
    [seconds] = listener.seconds
    assert max(MILVUS_S, OTHERS_S) <= seconds


@pytest.mark.parametrize("method", ["DropCollection", "DropPartition"])
async def test_what_is_only_written_is_given_up_as_early_as_by_milvus(method: str) -> None:
    place = await world()
    place.life = listener = Listener()
    assert await ask(place, method, getattr(milvus_pb2, f"{method}Request")()) == Status()
    [seconds] = listener.seconds
    assert seconds <= TIMEOUT_S


async def test_a_deadline_of_the_caller_counts() -> None:
    place = await world()
    place.life = listener = Listener()
    await ask(place, "CreateCollection", milvus_pb2.CreateCollectionRequest(), deadline=boottime() + 5)
    [seconds] = listener.seconds
    assert seconds <= 5


async def test_an_alteration_outlasts_the_failover_of_data_coord() -> None:
    place = await world()
    request = milvus_pb2.AlterCollectionRequest(
        base=MsgBase(msg_type=MsgType.AlterCollection),
        db_name="default",
        collection_name=next(row.name for row in place.tables.collections if row.home_db_id == 1),
        properties=[KeyValuePair(key="k", value="1")],
    )
    place.alteration_news = listener = Listener()
    place.peers = Proxies()
    async with start_oracle(place), TaskScope() as scope:
        place.operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        assert await ask(place, "AlterCollection", request) == Status()
        place.operations.close()
    [seconds] = listener.seconds
    assert max(MILVUS_S, OTHERS_S) <= seconds


class Proxies:
    """None that would have to forget anything."""

    @property
    def proxies(self) -> "Proxies":
        return self

    async def invalidate_collection_meta_cache(self, _request: object, **_: object) -> frozenset[object]:
        return frozenset()
