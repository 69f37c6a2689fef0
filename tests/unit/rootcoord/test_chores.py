"""Chores: few steps at a time, whoever does not answer holds up only those who need it, callers go first."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coordd.ha.tasks import TaskScope
from coordd.rootcoord import chores as module
from coordd.rootcoord.chores import AT_ONCE, Chores
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.steps import Lane, NotYet, Step
from tests.support.etcd import eventually


class Broken(Exception):
    """What a step says that fails."""


@dataclass
class World:
    """What was done; steps wait at their `gates`, and `quiet_s` is since the last caller was answered."""

    done: list[str] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    pauses: dict[str, list[NotYet | Exception]] = field(default_factory=dict)
    at_work: int = 0
    most_at_work: int = 0
    quiet_s: float = 1000.0

    def step(self, name: str, lane: Lane = Lane.METADATA) -> Step:
        async def act() -> NotYet | None:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            try:
                if name in self.gates:
                    await self.gates[name].wait()
                await asyncio.sleep(0)
            finally:
                self.at_work -= 1
            pauses = self.pauses.get(name)
            if pauses:
                pause = pauses.pop(0)
                if isinstance(pause, Exception):
                    raise pause
                return pause
            self.done.append(name)
            return None

        return Step(name, act, lane=lane)

    @asynccontextmanager
    async def chores(self) -> AsyncIterator[Chores]:
        async with TaskScope() as scope:
            chores = Chores(
                lambda coroutine, name: scope.create_task(coroutine, name=name), lambda: self.quiet_s
            )
            yield chores
            chores.close()


async def test_steps_are_done_in_order_whatever_their_lanes() -> None:
    world = World()
    async with world.chores() as chores:
        chores.add("one", [world.step(f"{number}", lane) for number, lane in enumerate([*Lane, *Lane])])
        await eventually(lambda: len(world.done) == 2 * len(Lane))
    assert world.done == [f"{number}" for number in range(2 * len(Lane))]


async def test_many_chores_few_at_a_time_in_order_of_arrival() -> None:
    world = World()
    async with world.chores() as chores:
        for number in range(1000):
            chores.add(f"chore {number}", [world.step(f"{number}")])
        await eventually(lambda: len(world.done) == 1000)
    assert world.most_at_work == AT_ONCE
    assert world.done == [f"{number}" for number in range(1000)]


async def test_who_does_not_answer_holds_up_only_those_who_need_it() -> None:
    gate = asyncio.Event()
    world = World(gates={"ask": gate})
    async with world.chores() as chores:
        for _ in range(3 * AT_ONCE):
            chores.add("hanging", [world.step("ask", Lane.QUERY_COORD), world.step("then", Lane.DATA_COORD)])
        chores.add("other", [world.step("write"), world.step("send", Lane.QUEUE)])
        await eventually(lambda: world.done == ["write", "send"])
        assert world.at_work == AT_ONCE
        gate.set()
        await eventually(lambda: world.done.count("then") == 3 * AT_ONCE)


async def test_who_waits_for_its_time_lets_others_by() -> None:
    waits: list[NotYet | Exception] = [NotYet(0.05)]
    world = World(pauses={f"wait {number}": [*waits] for number in range(2 * AT_ONCE)})
    async with world.chores() as chores:
        for number in range(2 * AT_ONCE):
            chores.add(f"waiting {number}", [world.step(f"wait {number}"), world.step(f"end {number}")])
        chores.add("other", [world.step("other")])
        await eventually(lambda: len(world.done) == 4 * AT_ONCE + 1)
    assert world.done[0] == "other"


async def test_a_step_that_fails_is_tried_again_and_lets_others_by() -> None:
    world = World(pauses={"a": [Broken("no"), Broken("no"), NotYet(0.0)]})
    async with world.chores() as chores:
        chores.add("failing", [world.step("a"), world.step("b")])
        chores.add("other", [world.step("c")])
        await eventually(lambda: len(world.done) == 3)
    assert world.done == ["c", "a", "b"]


@pytest.mark.parametrize("lane", [lane for lane in Lane if lane is not Lane.LOOK])
async def test_callers_go_first(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_WAY_S", 1000.0)
    world = World(quiet_s=0.0)
    async with world.chores() as chores:
        chores.add("chore", [world.step("a", lane)])
        await asyncio.sleep(0.1)
        assert world.done == []
        world.quiet_s = 1.0
        await eventually(lambda: world.done == ["a"])


async def test_but_not_for_ever() -> None:
    world = World(quiet_s=0.0)
    async with world.chores() as chores:
        for number in range(2 * AT_ONCE):
            chores.add(f"chore {number}", [world.step(f"{number}")])
        await eventually(lambda: len(world.done) == 2 * AT_ONCE)


async def test_after_the_end_nothing_is_begun() -> None:
    never: Callable[[], asyncio.Event] = asyncio.Event
    world = World(gates={"hangs": never()}, pauses={"later": [NotYet(0.05)]})
    async with world.chores() as chores:
        chores.add("waits", [world.step("later")])
        await eventually(lambda: not world.pauses["later"])
        for _ in range(2 * AT_ONCE):
            chores.add("hangs", [world.step("hangs", Lane.QUEUE)])
        await eventually(lambda: world.at_work == AT_ONCE)
        chores.close()
        chores.add("late", [world.step("late")])
        await asyncio.sleep(0.1)
    assert world.done == []


async def test_what_is_urgent_comes_before_the_rest() -> None:
    gate = asyncio.Event()
    world = World(gates={"hangs": gate})
    async with world.chores() as chores:
        for _ in range(AT_ONCE):
            chores.add("hangs", [world.step("hangs")])
        await eventually(lambda: world.at_work == AT_ONCE)
        for number in range(AT_ONCE):
            chores.add(f"chore {number}", [world.step(f"{number}")])
        chores.add("urgent", [world.step("first"), world.step("second")], urgent=True)
        gate.set()
        await eventually(lambda: len(world.done) == 2 * AT_ONCE + 2)
    assert world.done.index("first") < world.done.index("0")


async def test_with_the_term_its_chores_end_whatever_its_other_tasks_take() -> None:
    """A timer would begin a step that nobody cancels any more, and whose end the term would wait for."""
    world = World(pauses={"again": [NotYet(0.05)] * 10_000})
    left: list[int] = []

    async def takes_its_time() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append(len(world.pauses["again"]))
            await asyncio.sleep(0.2)
            left.append(len(world.pauses["again"]))

    async with TaskScope() as scope:
        operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        operations.in_background("waits", [world.step("again")])
        scope.create_task(takes_its_time(), name="takes its time")
        await eventually(lambda: len(world.pauses["again"]) < 9_998)
        await asyncio.sleep(0.01)  # its time has not come again yet
    assert left[0] == left[1]
