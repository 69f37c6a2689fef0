"""Changes that take several steps, with other processes asked in between: done in order, or undone.

An operation holds the keys that it names (`<database>/<collection>`, say) from its decision to its last step;
operations without a common key run side by side, and reads wait for none. It belongs to the term and not to
its caller: one who goes away, or whose time is up, leaves it running, and a repeated call waits for its turn
and then finds what the first one has made.

If a step fails, its caller is told at once, and what the earlier steps did is undone in reverse, under the
same keys, each undo again and again until it succeeds. So a repeated call finds all of it or nothing. A
refusal by the first step is no failure: nothing is to be undone, or to be warned of (`Step.may_refuse`). What
comes *afterwards* (telling other components, cleaning up) is nobody's to wait for: it goes on when the keys
are free again, each step until it succeeds, and lets callers go first (`coordd.rootcoord.chores`). A term
that ends in the middle leaves the states in the metadata behind, from which the next one goes on.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from coordd.clock import boottime, turns
from coordd.errors import CoorddError
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.commit import FenceLost
from coordd.meta.key_locks import KeyLocks
from coordd.rootcoord.chores import RETRY_FIRST_S, RETRY_MAX_S, Chores
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.steps import Step
from coordd.rpc.stats import QueueStats
from coordd.rpc.status import MilvusError

__all__ = ["Decide", "Operation", "OperationUnfinished", "Operations", "Step", "collection_key"]

log = get_logger("coordd.rootcoord.operations")

QUEUE_MAX = 10_240
"""Operations under way or waiting; Milvus' queue is as long."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The `steps` that a caller waits for. `afterwards`, if all are done, begins what nobody waits for."""

    steps: Sequence[Step]
    afterwards: Callable[[], None] | None = None


Decide: TypeAlias = Callable[[], Operation | None]
"""From the state as it is now to what is to be done; None if it is done already. Raises refusals."""


def collection_key(db_name: str, name: str) -> str:
    """What the changes of one collection, or of an alias, have as a common key."""
    return f"{db_name}/{name}"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `carry_out` was asked for; `waits`: where the wait for its turn is counted."""

    name: str
    keys: frozenset[str]
    decide: Decide
    deadline: float
    waits: QueueStats | None


class OperationUnfinished(CoorddError):
    """The caller's time is up; the operation goes on."""

    retriable = True


class Operations:
    """The operations of one term. `start(coroutine, name)` runs a task that ends with the term.

    Attributes:
        waits: by method, how long operations waited for their keys.
    """

    def __init__(self, start: Callable[[Coroutine[Any, Any, None], str], object]) -> None:
        self._start = start
        self._locks = KeyLocks(QUEUE_MAX)
        self.waits: dict[str, QueueStats] = {}
        self._under_way: set[asyncio.Future[None]] = set()
        self._quiet_since = -math.inf
        self._chores = Chores(start, self._quiet_s)
        start(self._chores.end_with_term(), "chores")
        self._over = False

    def __len__(self) -> int:
        """How many are under way or wait, those in the background left out."""
        return len(self._locks)

    async def carry_out(
        self, name: str, keys: Iterable[str], decide: Decide, *, deadline: float, function: str = ""
    ) -> None:
        """Decide under `keys` and do it; returns when all steps are done.

        `function`: the method under which the wait for its turn is counted, "" for none. `deadline`: seconds
        on CLOCK_BOOTTIME, for the turn and for the caller's patience.

        Raises:
            CommitsOverloaded: no turn until then.
            OperationUnfinished: not all steps were done until then.
            TermOverError: the term is over; the next one finishes or undoes what was begun.
            Exception: what `decide` or a step raised; nothing remains, once the undoing has ended.
        """
        if self._over:
            raise TermOverError("the term of this rootcoord is over")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[None] = loop.create_future()
        self._under_way.add(outcome)
        outcome.add_done_callback(self._ended)
        waits = self.waits.get(function)
        if waits is None and function:
            waits = self.waits[function] = QueueStats()
        self._start(self._run(_Asked(name, frozenset(keys), decide, deadline, waits), outcome), name)
        patience = loop.call_later(max(0.0, deadline - boottime()), _time_is_up, outcome, name)
        try:
            await outcome
        finally:
            patience.cancel()

    def in_background(self, name: str, steps: Sequence[Step], *, urgent: bool = False) -> None:
        """Do `steps` in order, each until it succeeds or the term ends. `urgent`: before others."""
        if not self._over:
            self._chores.add(name, steps, urgent=urgent)

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run a task beside the operation that asks for it; it ends with the term at the latest.

        Raises:
            TermOverError: the term is over.
        """
        if self._over:
            coroutine.close()
            raise TermOverError("the term of this rootcoord is over")
        self._start(coroutine, name)

    def close(self) -> None:
        """The term is over: whoever waits is told."""
        self._over = True
        self._chores.close()
        for outcome in list(self._under_way):
            _settle(outcome, TermOverError("the term of this rootcoord is over"))

    def _ended(self, outcome: asyncio.Future[None]) -> None:
        self._under_way.discard(outcome)
        self._quiet_since = boottime()
        if not outcome.cancelled():
            outcome.exception()  # the caller may have left: nobody need look

    def _quiet_s(self) -> float:
        """For how long no caller has waited."""
        return 0.0 if self._under_way else boottime() - self._quiet_since

    async def _run(self, asked: "_Asked", outcome: asyncio.Future[None]) -> None:
        try:
            afterwards = await self._steps(asked, outcome)
        except FenceLost:
            _settle(outcome, TermOverError("the term of this rootcoord is over"))
            raise
        except Exception as error:  # noqa: BLE001 - told to the caller, whatever it is
            _settle(outcome, error)
            return
        _settle(outcome, None)
        if afterwards is not None:
            await turns(2)  # first the caller makes its answer, and then that is written
            afterwards()

    async def _steps(self, asked: "_Asked", outcome: asyncio.Future[None]) -> Callable[[], None] | None:
        """Do the steps under the keys; returns what comes afterwards."""
        name, arrived = asked.name, boottime()
        async with self._locks.hold(asked.keys, deadline=asked.deadline):
            if asked.waits is not None:
                asked.waits.turn(boottime() - arrived)
            operation = asked.decide()
            if operation is None:
                return None
            begun: list[Step] = []
            try:
                for step in operation.steps:
                    begun.append(step)
                    await step.do()
            except FenceLost:
                raise
            except Exception as error:
                if _is_refusal(error, begun):
                    raise
                log.warning(
                    "a step failed, undoing", operation=name, step=begun[-1].name, reason=_reason(error)
                )
                _settle(outcome, error)
                undo = [Step(one.name, one.undo) for one in reversed(begun) if one.undo is not None]
                for step in undo:
                    await _until_done(f"undo {name}", step)
                raise
            return operation.afterwards


def _is_refusal(error: Exception, begun: Sequence[Step]) -> bool:
    """Whether the last one of the steps `begun` has refused, before anything was done."""
    return len(begun) == 1 and begun[0].may_refuse and isinstance(error, MilvusError)


def _time_is_up(outcome: asyncio.Future[None], name: str) -> None:
    _settle(outcome, OperationUnfinished(f"{name} takes longer than the caller waits; it goes on"))


def _settle(outcome: asyncio.Future[None], error: Exception | None) -> None:
    if outcome.done():
        return
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


async def _until_done(name: str, step: Step) -> None:
    """Do a step again and again until it succeeds.

    Raises:
        FenceLost: the term is over.
    """
    trouble, pause_s = Trouble(), RETRY_FIRST_S
    while True:
        try:
            await step.do()
        except FenceLost:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, giving up would leave it half done
            if trouble.is_news(error):
                log.warning(
                    "a step failed, trying again", operation=name, step=step.name, reason=_reason(error)
                )
        else:
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, RETRY_MAX_S)
