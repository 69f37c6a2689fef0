"""What goes wrong on a stage: one method per kind of trouble, chosen at random by a seed.

Each trouble lasts for a moment and leaves everything as it found it: connections carry, etcd is complete, and
a process that ended is started again while the next trouble comes. A trouble that concerns one replica keeps
it busy until then, so that two at once concern two replicas.
"""

import asyncio
import random
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

from coordd.cli.switchover_command import Asking, SwitchoverError
from coordd.errors import CoorddError
from coordd.etcd.errors import EtcdError
from tests.faults.stage import Stage, StageReplica
from tests.support.coordd import LAYOUT, active_of
from tests.support.tcp_proxy import Direction, TcpProxy

TWO_AT_ONCE: Final = 0.2
THE_ACTIVE_ONE: Final = 0.65
NOBODY_FREE_S: Final = 0.2
ROBBED_LIMIT_S: Final = 8.0


class Troubles:
    """Troubles of one stage, drawn from one seed. `done` counts them by name. `only`: names of methods."""

    def __init__(self, stage: Stage, seed: int, only: Collection[str] = ()) -> None:
        self.done: Counter[str] = Counter()
        self._stage = stage
        self._random = random.Random(f"troubles {seed}")
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.kill: 5,
            self.terminate: 4,
            self.kill_two: 1,
            self.pause: 3,
            self.pause_until_robbed: 2,
            self.revoke_lease: 2,
            self.delete_active_key: 1,
            self.switchover: 4,
            self.two_switchovers: 1,
            self.partition: 2,
            self.half_open: 3,
            self.delay: 2,
            self.reset: 2,
            self.refuse: 2,
            self.compact: 1,
            self.restart_etcd: 1,
            self.pause_etcd: 1,
        }
        if only:
            self._kinds = {kind: 1 for kind in self._kinds if kind.__name__ in only}

    async def one(self) -> None:
        """One trouble, now and then two at once; returns when they are over."""
        count = 2 if self._random.random() < TWO_AT_ONCE else 1
        chosen = self._random.choices(list(self._kinds), list(self._kinds.values()), k=count)
        async with asyncio.TaskGroup() as group:
            for kind in chosen:
                group.create_task(kind(), name=kind.__name__)

    # --- processes ---

    async def kill(self) -> None:
        """SIGKILL, to a supervisor or to its child; a new process comes a little later."""
        inner = self._random.random() < 0.5
        await self._end_and_restart("kill", signal.SIGKILL, 1, inner=inner)

    async def terminate(self) -> None:
        """SIGTERM; a new process comes a little later."""
        await self._end_and_restart("terminate", signal.SIGTERM, 1)

    async def kill_two(self) -> None:
        """SIGKILL to two of them in one moment."""
        await self._end_and_restart("kill two", signal.SIGKILL, 2)

    async def _end_and_restart(
        self, what: str, number: signal.Signals, count: int, *, inner: bool = False
    ) -> None:
        victims = [one for _ in range(count) if (one := await self._take_victim(what)) is not None]
        async with asyncio.TaskGroup() as group:
            for replica in victims:
                group.create_task(self._stage.end(replica, number, inner=inner), name=what)
        for replica in victims:
            self._stage.spawn(self._restart(replica), f"restart {replica.number}")

    async def _restart(self, replica: StageReplica) -> None:
        await asyncio.sleep(self._random.choice((0.0, 0.0, 1.0)))
        await self._stage.start(replica)
        await self._stage.wait_registered(replica)
        replica.busy = False

    async def pause(self) -> None:
        """SIGSTOP for a moment, for longer than the guard, or for longer than a short session."""
        seconds = self._random.choice((0.2, 1.0, 3.0, 5.0))
        async with self._victim(f"pause for {seconds} s") as replica:
            if replica is not None:
                async with replica.paused():
                    await asyncio.sleep(seconds)

    async def pause_until_robbed(self) -> None:
        """SIGSTOP to the active one until its role has gone: it wakes before its successor has done much."""
        robbed = self._stage.active.holder
        async with self._victim("pause until robbed") as replica:
            if replica is None or replica is not self._stage.leader() or robbed is None:
                return
            async with replica.paused():
                until = time.monotonic() + ROBBED_LIMIT_S
                while self._holder_id() in (0, robbed.server_id) and time.monotonic() < until:
                    await self._stage.active.change(ROBBED_LIMIT_S)

    # --- leadership ---

    async def switchover(self) -> None:
        """An operator moves the leadership, to anybody or to somebody."""
        ready = self._ready_standbys()
        standbys = [one for one in self._stage.audit.servers if one != self._holder_id()]
        to = self._random.choice([0, *standbys])
        self._stage.note(f"switchover to {to or 'anybody'}")
        try:
            answer, _active, _took_s = await Asking(self._stage.client, LAYOUT, "rootcoord", to).ask()
        except (SwitchoverError, EtcdError) as error:
            self.done[f"switchover: {type(error).__name__}: {_reason(error)}"] += 1
            ready &= self._ready_standbys()
            self._stage.note(f"switchover: {error}; untroubled all the while: {ready}")
            if ready and not to and "no standby" in error.message:
                self.done["switchover refused though a standby was untroubled"] += 1
        else:
            self.done["switchover: done"] += 1
            self._stage.note(f"switchover: {answer.request.heir} inherits at {answer.revision}")

    async def two_switchovers(self) -> None:
        """Two operators at once: one wins, the other is told."""
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(self.switchover(), name=f"switchover {number}")

    def _ready_standbys(self) -> set[int]:
        """Numbers of the replicas that stand by and that nothing happens to."""
        leader = self._stage.leader()
        return {
            one.number
            for one in self._stage.replicas
            if one is not leader and not one.busy and one.inner() and leader is not None
        }

    def _holder_id(self) -> int:
        holder = self._stage.active.holder
        return 0 if holder is None else holder.server_id

    # --- keys ---

    async def revoke_lease(self) -> None:
        """What an operator does who wants somebody else to lead."""
        entry = await active_of(self._stage.client, "rootcoord")
        if entry is not None:
            self.done["revoke lease"] += 1
            self._stage.note(f"revoke lease {entry.lease:x} of the active one")
            await self._stage.client.revoke(entry.lease)

    async def delete_active_key(self) -> None:
        """The same, by other means."""
        self.done["delete ACTIVE key"] += 1
        self._stage.note("delete the ACTIVE key")
        await self._stage.client.delete(LAYOUT.session("rootcoord"))

    async def compact(self) -> None:
        """etcd forgets what lies behind; watches that are behind must start again."""
        revision = self._stage.audit.revision
        self.done["compact"] += 1
        self._stage.note(f"compact at {revision}")
        await asyncio.to_thread(self._stage.etcd.ctl, "compact", str(revision))

    # --- the way between one replica and etcd ---

    async def partition(self) -> None:
        """Silence both ways; what was sent arrives afterwards."""
        await self._spoil("partition", TcpProxy.partition)

    async def half_open(self) -> None:
        """One direction is dead: its bytes come late, or never."""
        up, swallow = self._random.random() < 0.5, self._random.random() < 0.5

        def spoil(proxy: TcpProxy) -> None:
            direction = proxy.up if up else proxy.down
            if swallow:
                direction.swallow = True
            else:
                direction.stall()

        await self._spoil(f"{'swallow' if swallow else 'stall'} {'up' if up else 'down'}", spoil)

    async def delay(self) -> None:
        """Latency, not the same both ways."""
        up_s, down_s = (self._random.choice((0.0, 0.02, 0.1, 0.4)) for _ in range(2))

        def spoil(proxy: TcpProxy) -> None:
            for direction, seconds in ((proxy.up, up_s), (proxy.down, down_s)):
                _delay(direction, seconds)

        await self._spoil(f"delay for {up_s} s up, {down_s} s down", spoil)

    async def reset(self) -> None:
        """RST to all connections; new ones work."""
        await self._spoil("reset", TcpProxy.cut, moment=True)

    async def refuse(self) -> None:
        """RST to all connections and to new ones."""
        async with self._victim("refuse") as replica:
            if replica is None:
                return
            proxies = self._some_ways(replica)
            for proxy in proxies:
                await proxy.refuse()
                proxy.cut()
            await asyncio.sleep(self._some_time_s())
            for proxy in proxies:
                await proxy.accept()

    async def _spoil(self, name: str, spoil: Callable[[TcpProxy], None], *, moment: bool = False) -> None:
        async with self._victim(name) as replica:
            if replica is None:
                return
            for proxy in self._some_ways(replica):
                spoil(proxy)
            await asyncio.sleep(0.0 if moment else self._some_time_s())
            replica.heal()

    def _some_ways(self, replica: StageReplica) -> list[TcpProxy]:
        """The way to one etcd member, or to all."""
        every = replica.proxies
        return every if self._random.random() < 0.7 else [self._random.choice(every)]

    # --- etcd ---

    async def restart_etcd(self) -> None:
        """SIGKILL to the member that leads, and a new start with the same data."""
        if self._stage.etcd_busy:
            return
        self._stage.etcd_busy = True
        member = await asyncio.to_thread(self._stage.etcd.leader)
        self.done["kill etcd"] += 1
        self._stage.note(f"kill etcd {member.name}")
        await asyncio.to_thread(member.kill)
        await asyncio.sleep(self._random.choice((0.0, 0.5, 2.0)))
        member.start()
        await asyncio.to_thread(member.wait_healthy, 30.0)
        self._stage.etcd_busy = False

    async def pause_etcd(self) -> None:
        """SIGSTOP to the member that leads."""
        if self._stage.etcd_busy:
            return
        self._stage.etcd_busy = True
        member = await asyncio.to_thread(self._stage.etcd.leader)
        self.done["pause etcd"] += 1
        self._stage.note(f"pause etcd {member.name}")
        member.pause()
        await asyncio.sleep(self._some_time_s())
        member.resume()
        await asyncio.to_thread(member.wait_healthy, 30.0)
        self._stage.etcd_busy = False

    # --- choosing ---

    def _some_time_s(self) -> float:
        return self._random.choice((0.1, 0.5, 1.5, 3.5))

    @asynccontextmanager
    async def _victim(self, what: str) -> AsyncIterator[StageReplica | None]:
        replica = await self._take_victim(what)
        if replica is None:
            yield None
            return
        try:
            yield replica
        finally:
            replica.busy = False
            self._stage.note(f"over: {what}: replica {replica.number}")

    async def _take_victim(self, what: str) -> StageReplica | None:
        """A replica that nothing else happens to, and which is busy now; None, after a moment, if none is."""
        leader = self._stage.leader()
        free = [replica for replica in self._stage.replicas if not replica.busy]
        if leader is not None and not leader.busy and self._random.random() < THE_ACTIVE_ONE:
            free = [leader]
        if not free:
            await asyncio.sleep(NOBODY_FREE_S)
            return None
        replica = self._random.choice(free)
        replica.busy = True
        self.done[what.partition(" for ")[0]] += 1
        self._stage.note(f"{what}: replica {replica.number}{', the active one' if replica is leader else ''}")
        return replica


def _reason(error: CoorddError) -> str:
    """Without the numbers in it."""
    return re.sub(r"[0-9][0-9.:]*", "#", error.message.partition(" over: ")[2] or error.message)


def _delay(direction: Direction, seconds: float) -> None:
    direction.delay_s = seconds


async def trouble_for(stage: Stage, troubles: Troubles, seconds: float) -> None:
    """One trouble after another; after each, somebody must serve again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await troubles.one()
        await stage.wait_served(time.monotonic_ns())
