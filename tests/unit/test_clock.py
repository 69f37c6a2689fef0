"""Turns of the event loop."""

import asyncio

import pytest

from coordd.clock import turns


@pytest.mark.parametrize("count", [2, 3, 7])
async def test_others_go_on_for_so_many_turns(count: int) -> None:
    taken = 0

    async def other() -> None:
        nonlocal taken
        while True:
            taken += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await turns(count)
    task.cancel()
    assert taken == count


async def test_who_is_cancelled_meanwhile_is_left_alone() -> None:
    task = asyncio.create_task(turns(5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns(10)
