"""A proxy that could not be told of a change gets no timestamps; everybody else does."""

import asyncio

import pytest

from coordd.clock import boottime
from coordd.ha.tasks import TaskScope
from coordd.pb import root_coord_pb2
from coordd.pb.common_pb2 import MsgBase
from coordd.rootcoord.proxies import TimestampBar
from coordd.rootcoord.proxies.bar import BarredError
from tests.unit.rootcoord.recorded import world
from tests.unit.rootcoord.term import start_oracle
from tests.unit.rootcoord.test_handlers import ask


def soon() -> float:
    return boottime() + 0.02


def later() -> float:
    return boottime() + 10


async def test_whoever_owes_nothing_does_not_wait() -> None:
    bar = TimestampBar()
    bar.owes(7)
    await bar.wait(8, soon())


async def test_a_proxy_that_owes_waits_until_it_has_answered() -> None:
    bar = TimestampBar()
    bar.owes(7)
    async with TaskScope() as scope:
        waiting = scope.create_task(bar.wait(7, later()))
        await asyncio.sleep(0)
        bar.owes(8)
        bar.told(8)
        await asyncio.sleep(0)
        assert not waiting.done()
        bar.told(7)
        await waiting
    assert bar.ids == set()


async def test_it_waits_no_longer_than_its_caller() -> None:
    bar = TimestampBar()
    bar.owes(7)
    with pytest.raises(BarredError, match="proxy 7 has not confirmed"):
        await bar.wait(7, soon())


async def test_a_proxy_without_a_session_is_refused_for_good() -> None:
    bar = TimestampBar()
    bar.owes(7)
    waiting = asyncio.get_running_loop().create_task(bar.wait(7, later()))
    await asyncio.sleep(0)
    bar.gone(7)
    with pytest.raises(BarredError, match="proxy 7 has no session any more"):
        await waiting
    bar.told(7)
    with pytest.raises(BarredError, match="no session"):
        await bar.wait(7, later())


async def test_the_next_term_begins_with_nobody_barred() -> None:
    bar = TimestampBar()
    bar.owes(7)
    bar.gone(8)
    async with TaskScope() as scope:
        waiting = scope.create_task(bar.wait(7, later()))
        await asyncio.sleep(0)
        bar.clear()
        await waiting
    await bar.wait(8, soon())


async def test_alloc_timestamp_of_a_barred_proxy_waits_and_of_another_does_not() -> None:
    place = await world()
    place.bar.owes(7)

    def request(source: int) -> root_coord_pb2.AllocTimestampRequest:
        return root_coord_pb2.AllocTimestampRequest(base=MsgBase(sourceID=source), count=1)

    async with start_oracle(place), TaskScope() as scope:
        before = await ask(place, "AllocTimestamp", request(8))
        barred = scope.create_task(ask(place, "AllocTimestamp", request(7), deadline=later()))
        nameless = await ask(place, "AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1))
        assert not barred.done()
        place.bar.told(7)
        after = await barred
        assert 0 < before.timestamp < nameless.timestamp < after.timestamp
        assert after.status.code == 0
        place.bar.owes(7)
        refused = await ask(place, "AllocTimestamp", request(7), deadline=soon())
    assert (refused.status.code, refused.timestamp) == (65535, 0)
    assert "proxy 7 has not confirmed that it forgets collections" in refused.status.reason
