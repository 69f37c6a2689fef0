"""A process: its clock, its pauses, its end, and the follower that receives etcd's history in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .etcd_model import Leadership

if TYPE_CHECKING:
    from .coordd_model import Session
    from .network import Request
    from .world import World


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a replica runs, restart after restart. Clock: `offset_s + rate * true time`; wall time likewise.

    `guard_s` is the serve guard of the coordd replica there; None: Milvus' own coordinator.
    """

    name: str
    guard_s: float | None
    rate: float
    offset_s: float
    wall_offset_ms: int


class Process:
    """What every process does, coordd's or Milvus'. Subclasses act on what they observe."""

    def __init__(self, world: World, machine: Machine) -> None:
        self.world = world
        self.machine = machine
        self.name = machine.name
        self.rate = machine.rate
        self.session: Session | None = None
        """The present session of a coordd process."""
        self.dead = False
        self.paused = False
        self.partitioned = False
        self.overtaking = False
        """Some requests are stuck on their way for seconds while later ones pass them."""
        self.blind = False
        """The watch is silent, though requests are answered."""
        self.stopping = False
        self.condemned = False
        """SIGTERM was sent; `stopping` says that it was received."""
        self.inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.held_back: list[Request] = []
        self._position = -1
        """Index of the last view delivered in etcd's history; -1 before the first range read."""
        self._delivery_due = False

    def clock(self) -> float:
        """CLOCK_BOOTTIME of the machine, seconds."""
        return self.machine.offset_s + self.rate * self.world.queue.now

    def wall_ms(self) -> int:
        """Unix time of the machine, milliseconds."""
        return self.machine.wall_offset_ms + int(1000 * self.rate * self.world.queue.now)

    def after(self, seconds: float, function: Callable[..., None], *arguments: Any) -> None:
        """Call `function` when `seconds` have passed on this machine's clock."""
        self.world.queue.at(self.world.queue.now + seconds / self.rate, self, function, *arguments)

    def exit(self) -> None:
        """End. Messages that are under way are not called back."""
        self.dead = True

    def pause(self) -> None:
        """SIGSTOP: nothing runs."""
        self.paused = True

    def resume(self) -> None:
        """After a pause: all that came meanwhile is dealt with now, in any order."""
        if not self.paused:
            return
        self.paused = False
        inbox, self.inbox = self.inbox, []
        self.world.rng.shuffle(inbox)
        for function, arguments in inbox:
            self.world.queue.at(self.world.queue.now, self, function, *arguments)

    # --- the follower ---

    def follow(self) -> None:
        """A range read: the newest state, and a watch from there."""
        self._position = len(self.world.etcd.history) - 1

    @property
    def view(self) -> Leadership | None:
        """The leadership keys as this process knows them."""
        return self.world.etcd.history[self._position] if self._position >= 0 else None

    def etcd_changed(self) -> None:
        """etcd has events for our watch; they arrive some time later, in order."""
        if not (self._delivery_due or self.partitioned or self.blind or self.dead or self._position < 0):
            self._delivery_due = True
            world = self.world
            world.queue.at(world.queue.now + world.network.delay(), self, self._deliver)

    def _deliver(self) -> None:
        self._delivery_due = False
        world = self.world
        if self.partitioned or self.blind or not world.etcd.up:
            return  # healing tells us again
        newest = len(world.etcd.history) - 1
        if self._position >= newest:
            return
        # Whole revisions, one or more of them; a watch that starts anew after a compaction skips as well.
        self._position = newest if world.random() < world.scenario.batching else self._position + 1
        if self._position < newest:
            self.etcd_changed()
        self.observe(world.etcd.history[self._position])

    # --- for subclasses ---

    def start(self) -> None:
        """Begin."""
        raise NotImplementedError

    def observe(self, view: Leadership) -> None:
        """The follower has moved on."""
        raise NotImplementedError

    def terminate(self) -> None:
        """SIGTERM."""
        raise NotImplementedError

    def client_request(self) -> None:
        """A client's request has arrived."""
        raise NotImplementedError

    def watch_noticed(self) -> None:
        """The follower has found out whether its watch delivers."""

    def switchover(self, to: int) -> None:
        """An operator's request to pass leadership on, to the server `to` (0: any), has been seen."""
