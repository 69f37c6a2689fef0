"""Who waits for whom."""

import asyncio

import pytest

from coordd.clock import boottime
from coordd.meta.key_locks import CommitsOverloaded, KeyLocks
from tests.support.etcd import eventually


async def hold(locks: KeyLocks, keys: str, log: list[str], release: asyncio.Event) -> None:
    async with locks.hold(keys, deadline=boottime() + 5):
        log.append(keys)
        await release.wait()


async def test_common_keys_queue_in_order_and_others_pass() -> None:
    locks, log = KeyLocks(9), []
    events = {keys: asyncio.Event() for keys in ("ab", "bc", "cd", "x")}
    async with asyncio.TaskGroup() as group:
        for keys, event in events.items():
            group.create_task(hold(locks, keys, log, event), name=keys)
        await eventually(lambda: len(locks) == 4)
        await eventually(lambda: log == ["ab", "x"])
        events["cd"].set()
        events["ab"].set()
        await eventually(lambda: log == ["ab", "x", "bc"])  # cd came later than bc, so it waits for it
        events["bc"].set()
        await eventually(lambda: log == ["ab", "x", "bc", "cd"])
        events["x"].set()
    assert len(locks) == 0


async def test_a_cancelled_waiter_makes_room() -> None:
    locks, log = KeyLocks(9), []
    first, last = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(locks, "a", log, first), name="first")
        waiter = group.create_task(hold(locks, "ab", log, last), name="waiter")
        group.create_task(hold(locks, "b", log, last), name="last")
        await eventually(lambda: len(locks) == 3)
        assert log == ["a"]
        waiter.cancel()
        await eventually(lambda: log == ["a", "b"])
        first.set()
        last.set()
    assert len(locks) == 0


async def test_a_cancelled_holder_makes_room() -> None:
    locks, log = KeyLocks(9), []
    never, done = asyncio.Event(), asyncio.Event()
    done.set()
    async with asyncio.TaskGroup() as group:
        holder = group.create_task(hold(locks, "a", log, never), name="holder")
        await eventually(lambda: log == ["a"])
        group.create_task(hold(locks, "a", log, done), name="next")
        await eventually(lambda: len(locks) == 2)
        holder.cancel()
    assert log == ["a", "a"]
    assert len(locks) == 0


async def test_waiting_has_an_end() -> None:
    locks = KeyLocks(9)
    async with locks.hold("a", deadline=boottime() + 5):
        with pytest.raises(CommitsOverloaded, match="not ended in time"):
            async with locks.hold("a", deadline=boottime() + 0.01):
                raise AssertionError
        async with locks.hold("b", deadline=boottime() - 1):
            pass  # free keys need no time
    assert len(locks) == 0


async def test_the_queue_has_an_end() -> None:
    locks = KeyLocks(1)
    async with locks.hold("a", deadline=boottime() + 5):
        with pytest.raises(CommitsOverloaded, match="1 metadata commits"):
            async with locks.hold("b", deadline=boottime() + 5):
                raise AssertionError
    async with locks.hold("b", deadline=boottime() + 5):
        assert len(locks) == 1
