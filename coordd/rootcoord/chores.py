"""What nobody waits for: any number of chores, each a list of steps, and few steps under way at a time.

A drop leaves an end behind that takes six steps, and a takeover may find thousands of them. So:

* a step takes its turn in the lane of whoever it needs (`Lane`), in order of arrival, and `AT_ONCE` steps of
  a lane are under way at a time. One who does not answer holds up only those who need it, too;
* a step that has only to wait (for a tick, for segments to be gone) says so with `NotYet`, and one that fails
  is tried again after a pause that grows. Neither keeps its turn meanwhile; it gets another one;
* callers go first: a step begins when no caller has waited for `QUIET_S`, and `GIVE_WAY_S` after its turn has
  come at the latest. So however busy the callers are, each lane gets `AT_ONCE / GIVE_WAY_S` steps a second
  done. (Milvus' executor takes four drops at a time, each of which waits for a tick: as many.)

A chore that waits for its turn or its time costs no task. One that is *urgent*, because somebody believes
what is not true any more until it is done, stands in front of the others in each lane.

Source of the idea: Milvus 2.3.5 internal/rootcoord/step_executor.go.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.commit import FenceLost
from coordd.rootcoord.steps import Lane, NotYet, Step

log = get_logger("coordd.rootcoord.operations")

AT_ONCE: Final = 4
QUIET_S: Final = 0.02
GIVE_WAY_S: Final = 0.2
BUSY_PAUSE_S: Final = 0.05
"""Between two looks whether a caller still waits."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0


class _Chore:
    """Steps on their way. `at`: the next one."""

    __slots__ = ("at", "name", "retry_s", "steps", "trouble", "urgent")

    def __init__(self, name: str, steps: Sequence[Step], *, urgent: bool) -> None:
        self.name = name
        self.urgent = urgent
        self.steps = steps
        self.at = 0
        self.retry_s = RETRY_FIRST_S
        self.trouble = Trouble()

    @property
    def step(self) -> Step:
        return self.steps[self.at]

    @property
    def done(self) -> bool:
        return self.at == len(self.steps)

    def advance(self) -> None:
        self.at += 1
        self.retry_s = RETRY_FIRST_S
        self.trouble.over()

    def failed(self, error: Exception) -> NotYet:
        """How long to wait before the next attempt."""
        if self.trouble.is_news(error):
            log.warning(
                "a step failed, trying again",
                operation=self.name,
                step=self.step.name,
                reason=str(error) or type(error).__name__,
            )
        pause = NotYet(self.retry_s)
        self.retry_s = min(2 * self.retry_s, RETRY_MAX_S)
        return pause


class _Line:
    """The chores whose turn in one lane is to come, and how many workers look after them."""

    __slots__ = ("due", "workers")

    def __init__(self) -> None:
        self.due: deque[_Chore] = deque()
        self.workers = 0


class Chores:
    """The chores of one term. `start(coroutine, name)` runs a task that ends with the term; `quiet_s` says
    for how many seconds no caller has waited, 0 while one does."""

    def __init__(
        self, start: Callable[[Coroutine[Any, Any, None], str], object], quiet_s: Callable[[], float]
    ) -> None:
        self._start = start
        self._quiet_s = quiet_s
        self._lines = {lane: _Line() for lane in Lane}
        self._later: dict[_Chore, asyncio.TimerHandle] = {}
        self._closed = False

    def add(self, name: str, steps: Sequence[Step], *, urgent: bool = False) -> None:
        """Do `steps` in order, each until it succeeds or the term ends."""
        if steps:
            self._due(_Chore(name, steps, urgent=urgent))

    async def end_with_term(self) -> None:
        """A task of the term: at its end, nothing more is begun. What is begun by a timer after the term's
        tasks were cancelled would be cancelled by nobody, and the term's end would wait for it."""
        try:
            await asyncio.Event().wait()
        finally:
            self.close()

    def close(self) -> None:
        """The term is over: nothing more is begun."""
        self._closed = True
        for line in self._lines.values():
            line.due.clear()
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()

    def _due(self, chore: _Chore) -> None:
        """The next step of a chore waits for its turn from now on."""
        self._later.pop(chore, None)
        if self._closed:
            return
        lane = chore.step.lane
        line = self._lines[lane]
        if chore.urgent:
            line.due.appendleft(chore)
        else:
            line.due.append(chore)
        if line.workers < AT_ONCE:
            line.workers += 1
            self._start(self._work(lane, line), f"{lane.name.lower()} in the background")

    async def _work(self, lane: Lane, line: _Line) -> None:
        """Take turns until there are none left. Nothing waits between the last look and the end of this."""
        try:
            while line.due:
                if lane is not Lane.LOOK:
                    await self._give_way()
                if line.due:
                    await self._turn(lane, line.due.popleft())
        finally:
            line.workers -= 1

    async def _turn(self, lane: Lane, chore: _Chore) -> None:
        """Do the next step, and those after it that are of this lane.

        Raises:
            FenceLost: the term is over.
        """
        while not chore.done and chore.step.lane is lane:
            try:
                outcome = await chore.step.do()
            except FenceLost:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, giving up would leave it half done
                outcome = chore.failed(error)
            if isinstance(outcome, NotYet):
                self._put_off(chore, outcome.seconds)
                return
            chore.advance()
        if not chore.done:
            self._due(chore)

    def _put_off(self, chore: _Chore, seconds: float) -> None:
        if not self._closed:
            self._later[chore] = asyncio.get_running_loop().call_later(seconds, self._due, chore)

    async def _give_way(self) -> None:
        """Wait until no caller has waited for a while, but not for ever."""
        left_s = GIVE_WAY_S
        while left_s > 0 and (quiet_s := self._quiet_s()) < QUIET_S:
            pause_s = min(QUIET_S - quiet_s if quiet_s else BUSY_PAUSE_S, left_s)
            await asyncio.sleep(pause_s)
            left_s -= pause_s
