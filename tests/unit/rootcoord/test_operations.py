"""Operations of several steps: all or nothing, one at a time per key, owned by the term."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coordd.clock import boottime
from coordd.ha.tasks import TaskScope
from coordd.meta.commit import FenceLost
from coordd.meta.key_locks import CommitsOverloaded
from coordd.rootcoord.operations import Operation, Operations, OperationUnfinished, Step
from coordd.rootcoord.oracle import TermOverError
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually


class Broken(Exception):
    """What a step says that fails."""


@dataclass
class World:
    """A log of what was done; steps named in `failures` fail so many times."""

    done: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    error: Exception = field(default_factory=Broken)

    def action(self, name: str) -> Callable[[], Awaitable[None]]:
        async def act() -> None:
            if name in self.gates:
                await self.gates[name].wait()
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                self.done.append(f"{name} failed")
                raise self.error
            self.done.append(name)

        return act

    def step(self, name: str, *, undo: bool = True) -> Step:
        return Step(name, self.action(name), self.action(f"undo {name}") if undo else None)


@asynccontextmanager
async def term() -> AsyncIterator[Operations]:
    async with TaskScope() as scope:
        operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
        try:
            yield operations
        finally:
            operations.close()


def soon(seconds: float = 10.0) -> float:
    return boottime() + seconds


async def test_steps_in_order_and_the_rest_afterwards() -> None:
    world = World(gates={"c": asyncio.Event()})
    async with term() as operations:
        rest = [world.step("c"), world.step("d")]
        operation = Operation(
            [world.step("a"), world.step("b")], lambda: operations.in_background("the rest", rest)
        )
        await operations.carry_out("make", ["k"], lambda: operation, deadline=soon())
        assert world.done == ["a", "b"]
        world.gates["c"].set()
        await eventually(lambda: len(world.done) == 4)
    assert world.done == ["a", "b", "c", "d"]


async def test_nothing_to_do() -> None:
    async with term() as operations:
        await operations.carry_out("make", ["k"], lambda: None, deadline=soon())


async def test_a_refusal_reaches_the_caller_and_does_nothing() -> None:
    def refuse() -> None:
        raise Broken

    async with term() as operations:
        with pytest.raises(Broken):
            await operations.carry_out("make", ["k"], refuse, deadline=soon())
        assert len(operations) == 0


async def test_a_failed_step_is_told_and_all_is_undone_in_reverse() -> None:
    world = World(failures={"c": 1, "undo a": 2})
    steps = [world.step("a"), world.step("b", undo=False), world.step("c"), world.step("d")]
    async with term() as operations:
        with pytest.raises(Broken):
            await operations.carry_out("make", ["k"], lambda: Operation(steps), deadline=soon())
        await eventually(lambda: world.done[-1] == "undo a")
    assert world.done == ["a", "b", "c failed", "undo c", "undo a failed", "undo a failed", "undo a"]


@pytest.mark.parametrize(
    ("failing", "error", "undone"),
    [
        ("a", MilvusError("no"), []),
        ("a", Broken(), ["undo a"]),
        ("b", MilvusError("no"), ["undo b", "undo a"]),
    ],
)
async def test_only_what_is_refused_before_it_is_begun_is_not_undone(
    failing: str, error: Exception, undone: list[str]
) -> None:
    world = World(failures={failing: 1}, error=error)
    steps = [world.step(name)._replace(may_refuse=True) for name in ("a", "b")]
    async with term() as operations:
        with pytest.raises(type(error)):
            await operations.carry_out("make", ["k"], lambda: Operation(steps), deadline=soon())
        await eventually(lambda: len(operations) == 0)
    assert [name for name in world.done if name.startswith("undo")] == undone


async def test_what_comes_afterwards_does_not_come_after_a_failure() -> None:
    world = World(failures={"a": 1})
    async with term() as operations:
        operation = Operation([world.step("a")], lambda: world.done.append("later"))
        with pytest.raises(Broken):
            await operations.carry_out("make", ["k"], lambda: operation, deadline=soon())
        await eventually(lambda: len(operations) == 0)
        await asyncio.sleep(0.05)
    assert world.done == ["a failed", "undo a"]


async def test_the_key_is_held_until_all_is_undone() -> None:
    world = World(failures={"b": 1}, gates={"undo a": asyncio.Event()})
    async with term() as operations:
        first = Operation([world.step("a"), world.step("b", undo=False)])
        with pytest.raises(Broken):
            await operations.carry_out("make", ["k"], lambda: first, deadline=soon())
        again = asyncio.create_task(
            operations.carry_out("again", ["k"], lambda: Operation([world.step("c")]), deadline=soon())
        )
        await operations.carry_out("other", ["l"], lambda: Operation([world.step("x")]), deadline=soon())
        assert not again.done()
        world.gates["undo a"].set()
        await again
    assert world.done == ["a", "b failed", "x", "undo a", "c"]


async def test_a_decision_is_made_when_the_turn_has_come() -> None:
    made: list[str] = []
    gate = asyncio.Event()

    async def make() -> None:
        await gate.wait()
        made.append("x")

    def decide() -> Operation | None:
        return None if made else Operation([Step("make", make)])

    async with term() as operations, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(operations.carry_out("make", ["k"], decide, deadline=soon()))
        await asyncio.sleep(0.02)
        gate.set()
    assert made == ["x"]


async def test_a_caller_that_leaves_changes_nothing() -> None:
    world = World(gates={"b": asyncio.Event()})
    async with term() as operations:
        operation = Operation([world.step("a"), world.step("b")])
        with pytest.raises(OperationUnfinished):
            await operations.carry_out("make", ["k"], lambda: operation, deadline=soon(0.05))
        caller = asyncio.create_task(
            operations.carry_out("more", ["l"], lambda: Operation([world.step("c")]), deadline=soon())
        )
        await asyncio.sleep(0)
        caller.cancel()
        world.gates["b"].set()
        await eventually(lambda: set(world.done) == {"a", "b", "c"})
    assert caller.cancelled()


async def test_no_turn_in_time() -> None:
    world = World(gates={"a": asyncio.Event()})
    async with term() as operations:
        first = asyncio.create_task(
            operations.carry_out("make", ["k"], lambda: Operation([world.step("a")]), deadline=soon())
        )
        await asyncio.sleep(0.01)
        with pytest.raises((CommitsOverloaded, OperationUnfinished)):
            await operations.carry_out(
                "late", ["k"], lambda: Operation([world.step("z")]), deadline=soon(0.05)
            )
        world.gates["a"].set()
        await first
        await eventually(lambda: len(operations) == 0)
    assert "z" not in world.done


async def test_the_end_of_the_term_is_told_and_undoes_nothing() -> None:
    world = World(gates={"b": asyncio.Event()})
    async with term() as operations:
        waiting = asyncio.create_task(
            operations.carry_out(
                "make", ["k"], lambda: Operation([world.step("a"), world.step("b")]), deadline=soon()
            )
        )
        await eventually(lambda: world.done == ["a"])
    with pytest.raises(TermOverError):
        await waiting
    with pytest.raises(TermOverError):
        await operations.carry_out("late", ["k"], lambda: None, deadline=soon())
    assert world.done == ["a"]


async def test_a_lost_fence_ends_the_operation_without_undoing() -> None:
    world = World(failures={"b": 1}, error=FenceLost(committed=False))
    async with TaskScope() as scope:

        def start(coroutine, name):
            async def guarded() -> None:
                try:
                    await coroutine
                except FenceLost:
                    world.done.append("lost")

            scope.create_task(guarded(), name=name)

        operations = Operations(start)
        with pytest.raises(TermOverError):
            await operations.carry_out(
                "make", ["k"], lambda: Operation([world.step("a"), world.step("b")]), deadline=soon()
            )
        await eventually(lambda: "lost" in world.done)
    assert world.done == ["a", "b failed", "lost"]


async def test_steps_in_the_background_are_tried_until_they_succeed() -> None:
    world = World(failures={"a": 3})
    async with term() as operations:
        operations.in_background("redo", [world.step("a"), world.step("b")])
        await eventually(lambda: world.done[-1:] == ["b"])
    assert world.done == ["a failed"] * 3 + ["a", "b"]


async def test_the_wait_for_a_turn_is_counted_by_method() -> None:
    world = World(gates={"a": asyncio.Event()})
    async with term() as operations:
        first, second = (
            asyncio.ensure_future(
                operations.carry_out(
                    name, ["k"], lambda: Operation([world.step("a")]), deadline=soon(), function=function
                )
            )
            for name, function in (("one", "DropAlias"), ("two", "CreateAlias"))
        )
        await eventually(lambda: len(operations) == 2)
        assert sum(operations.waits["DropAlias"].buckets) == 1
        assert sum(operations.waits["CreateAlias"].buckets) == 0, "it still waits"
        world.gates["a"].set()
        await asyncio.gather(first, second)
        assert sum(operations.waits["CreateAlias"].buckets) == 1
        await operations.carry_out("three", ["k"], lambda: None, deadline=soon())
        assert set(operations.waits) == {"DropAlias", "CreateAlias"}
