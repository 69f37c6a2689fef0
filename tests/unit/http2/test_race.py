"""Attempts side by side: who wins, who begins when, and that nothing is left of the others."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from coordd.http2.race import NoneWonError, Race
from tests.support.etcd import eventually

Attempt = Callable[[], Coroutine[Any, Any, str]]


class Track:
    """Attempts that end when they are told to, and what becomes of them."""

    def __init__(self, head_start_s: float = 60.0) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.discarded: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}
        self.race: Race[str] = Race(head_start_s, self.discarded.append, (OSError,))

    def start(self, *names: str) -> asyncio.Task[str]:
        return asyncio.get_running_loop().create_task(
            self.race.run([partial(self._attempt, name) for name in names])
        )

    async def _attempt(self, name: str) -> str:
        self.begun.append(name)
        end = self.ends[name] = asyncio.get_running_loop().create_future()
        try:
            return await end
        except asyncio.CancelledError:
            self.cancelled.append(name)
            if name == "stubborn":
                return name
            raise

    async def until_begun(self, count: int) -> None:
        await eventually(lambda: len(self.begun) >= count)


async def test_the_next_begins_when_the_one_before_has_failed_and_the_first_that_succeeds_wins() -> None:
    track = Track()
    race = track.start("a", "b", "c")
    await track.until_begun(1)
    track.ends["a"].set_exception(OSError("no a"))
    await track.until_begun(2)
    track.ends["b"].set_result("won")
    assert await race == "won"
    assert (track.begun, track.cancelled, track.discarded) == (["a", "b"], [], [])


async def test_one_that_does_not_answer_has_a_head_start_only() -> None:
    track = Track(head_start_s=0.0)
    race = track.start("a", "b", "c")
    await track.until_begun(3)
    track.ends["b"].set_result("won")
    assert await race == "won"
    assert sorted(track.cancelled) == ["a", "c"]


async def test_when_two_succeed_at_once_one_is_discarded() -> None:
    track = Track(head_start_s=0.0)
    race = track.start("a", "b")
    await track.until_begun(2)
    track.ends["a"].set_result("first")
    track.ends["b"].set_result("second")
    won = await race
    assert sorted([won, *track.discarded]) == ["first", "second"]


async def test_all_errors_are_told_if_none_succeeds() -> None:
    track = Track(head_start_s=0.0)
    race = track.start("a", "b")
    await track.until_begun(2)
    track.ends["b"].set_exception(ConnectionRefusedError("no b"))
    await asyncio.sleep(0.01)
    track.ends["a"].set_exception(OSError("no a"))
    with pytest.raises(NoneWonError) as caught:
        await race
    assert [str(error) for error in caught.value.errors] == ["no b", "no a"]


async def test_another_error_ends_the_race() -> None:
    track = Track(head_start_s=0.0)
    race = track.start("a", "b")
    await track.until_begun(2)
    track.ends["a"].set_exception(LookupError("a bug"))
    with pytest.raises(LookupError):
        await race
    assert track.cancelled == ["b"]


async def test_a_race_that_is_called_off_leaves_nothing() -> None:
    track = Track(head_start_s=0.0)
    race = track.start("a", "stubborn")
    await track.until_begun(2)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert sorted(track.cancelled) == ["a", "stubborn"]
    assert track.discarded == ["stubborn"]
