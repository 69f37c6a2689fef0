"""TaskScope: nothing started in it outlives it."""

import asyncio

import pytest

from coordd.ha.tasks import TaskScope, raise_if_cancelled


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def test_leaving_the_body_cancels_and_awaits_what_still_runs() -> None:
    ended: list[str] = []
    async with TaskScope() as scope:
        scope.create_task(forever(ended, "a"), name="a")
        scope.create_task(forever(ended, "b"), name="b")
        await asyncio.sleep(0)
    assert sorted(ended) == ["a", "b"]


async def test_a_task_that_raises_ends_the_others_and_the_body() -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise ValueError("boom")

    async def owner() -> None:
        async with TaskScope() as scope:
            scope.create_task(forever(ended, "a"), name="a")
            scope.create_task(fail(), name="fail")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await owner()
    assert raised.group_contains(ValueError, match="boom")
    assert ended == ["a"]


async def test_cancelling_the_owner_ends_the_tasks() -> None:
    ended: list[str] = []
    started = asyncio.Event()

    async def owner() -> None:
        async with TaskScope() as scope:
            scope.create_task(forever(ended, "a"), name="a")
            await asyncio.sleep(0)
            started.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(owner())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["a"]


async def test_an_exception_of_the_body_is_what_leaves_the_scope() -> None:
    ended: list[str] = []

    async def owner() -> None:
        async with TaskScope() as scope:
            scope.create_task(forever(ended, "a"), name="a")
            await asyncio.sleep(0)
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        await owner()
    assert ended == ["a"]


async def test_clean_up_after_a_failed_task_is_not_cancelled_in_its_turn() -> None:
    cleaned: list[str] = []

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("tidy")

    async def fail() -> None:
        raise ValueError("boom")

    async def owner() -> None:
        async with TaskScope() as scope:
            scope.create_task(tidy(), name="tidy")
            await asyncio.sleep(0)
            scope.create_task(fail(), name="fail")
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await owner()
    assert raised.group_contains(ValueError, match="boom")
    assert cleaned == ["tidy"]


async def test_a_cancellation_that_a_failed_group_forgets_can_be_taken_up_again() -> None:
    failing, clear = asyncio.Event(), asyncio.Event()
    went_on = False

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            failing.set()
            await clear.wait()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("a bug")

    async def owner() -> None:
        nonlocal went_on
        try:
            async with TaskScope() as scope:
                scope.create_task(slow())
                scope.create_task(fail())
                await asyncio.Event().wait()
        except ExceptionGroup:
            raise_if_cancelled()
        went_on = True

    async with asyncio.TaskGroup() as group:
        task = group.create_task(owner())
        await failing.wait()
        task.cancel()
        await asyncio.sleep(0)
        clear.set()
    assert task.cancelled()
    assert not went_on


async def test_a_task_in_the_moment_of_a_time_out_of_its_own_is_cancelled_all_the_same() -> None:
    async def restless() -> None:
        while True:
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                continue

    async with asyncio.timeout(5):
        for _ in range(20):
            async with TaskScope() as scope:
                task = scope.create_task(restless(), name="restless")
                while not task.cancelling():  # noqa: ASYNC110 - for one turn of the loop only
                    await asyncio.sleep(0)
            assert task.cancelled()
