"""What goes wrong, and when: at random moments, and right after a replica's state changed.

Most faults hit the replica that holds the ACTIVE key. When `calm` is called, all of it ends: pauses and
partitions are over, etcd is up, messages are quick and none is lost, and at least one coordd replica runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .etcd_model import ACTIVE
from .process_model import Process

if TYPE_CHECKING:
    from .world import World


class Faults:
    """The faults of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.active = True
        self._at_state_change = world.scenario.fault_at_state_change
        themes: dict[str, tuple[Callable[[Process], None], ...]] = {
            "anything": (
                self._pause, self._kill, self._terminate, self._partition, self._etcd_outage, self._revoke,
                self._delete_active, self._blind, self._overtake, self._churn,
            ),
            "network": (
                self._partition, self._partition, self._etcd_outage, self._overtake, self._overtake,
                self._kill, self._blind,
            ),
            "operators": (
                self._isolate, self._churn, self._churn, self._revoke, self._delete_active, self._blind,
            ),
            "stragglers": (self._overtake, self._overtake, self._revoke),
            "takeovers": (self._isolate,),
            "outages": (self._etcd_outage,),
            "rolling": (self._terminate, self._terminate, self._kill, self._churn, self._partition),
        }  # fmt: skip
        self._kinds = themes[world.scenario.theme]

    def plan(self) -> None:
        """Schedule this run's faults."""
        scenario = self._world.scenario
        for _ in range(scenario.faults):
            self._world.queue.at(self._random() * scenario.faults_end_s, None, self._strike, None)

    def state_changed(self, process: Process) -> None:
        """A replica's election moved; that is when trouble is most telling."""
        if self.active and self._random() < self._at_state_change:
            self._world.queue.at(
                self._world.queue.now + 0.3 * self._random() ** 2, None, self._strike, process
            )

    def activation_fails(self) -> bool:
        """Whether the role cannot be made ready this time."""
        return self.active and self._random() < self._world.scenario.activation_failures

    def calm(self) -> None:
        """End all faults."""
        world = self._world
        self.active = False
        world.note(None, "no more faults")
        world.network.loss = world.network.slow_share = 0.0
        world.etcd.start()
        for process in world.processes:
            process.resume()
            self._heal(process)
            self._see(process)
            process.overtaking = False
        staying = [process for process in world.processes if not process.dead and not process.condemned]
        if not any(process.machine.guard_s is not None for process in staying):
            world.restart(world.machines[0])

    def _strike(self, process: Process | None) -> None:
        if not self.active:
            return
        if process is None:
            process = self._victim()
        kind = self._kinds[int(self._random() * len(self._kinds))]
        if not process.dead:
            kind(process)

    def _victim(self) -> Process:
        world = self._world
        holder = world.etcd.keys.get(ACTIVE)
        if holder is not None and self._random() < 0.7:
            for process in world.processes:
                if world.server_id_of(process) == holder.value:
                    return process
        return world.processes[int(self._random() * len(world.processes))]

    def _later(self, longest_s: float, function: Callable[..., None], *arguments: object) -> float:
        return self._after(longest_s * self._random(), function, *arguments)

    def _after(self, seconds: float, function: Callable[..., None], *arguments: object) -> float:
        self._world.queue.at(self._world.queue.now + seconds, None, function, *arguments)
        return seconds

    def _pause(self, process: Process) -> None:
        if not process.paused:
            process.pause()
            seconds = self._later(8.0 if self._random() < 0.5 else 1.0, self._resume, process)
            self._world.note(process, f"SIGSTOP for {seconds:.3f} s")

    def _resume(self, process: Process) -> None:
        if process.paused:
            self._world.note(process, "SIGCONT")
            process.resume()

    def _kill(self, process: Process) -> None:
        self._world.note(process, "kill -9")
        process.exit()
        self._restart_later(process)

    def _terminate(self, process: Process) -> None:
        self._world.note(process, "SIGTERM")
        process.condemned = True
        self._world.queue.at(self._world.queue.now, process, process.terminate)
        self._restart_later(process)

    def _restart_later(self, process: Process) -> None:
        if self._random() < 0.8:
            self._later(3.0, self._restart, process)

    def _restart(self, process: Process) -> None:
        if self.active and all(
            other.dead for other in self._world.processes if other.machine is process.machine
        ):
            self._world.restart(process.machine)

    def _partition(self, process: Process, seconds: float = 0.0) -> None:
        if not process.partitioned:
            process.partitioned = True
            seconds = seconds or (8.0 if self._random() < 0.5 else 2.0) * self._random()
            self._after(seconds, self._heal, process)
            self._world.note(process, f"cut off from etcd for {seconds:.3f} s")

    def _heal(self, process: Process) -> None:
        if process.partitioned:
            self._world.note(process, "reaches etcd again")
            self._world.network.heal(process)
            process.etcd_changed()

    def _overtake(self, process: Process) -> None:
        process.overtaking = True
        seconds = self._later(8.0, self._in_order, process)
        self._world.note(process, f"requests overtake each other for {seconds:.3f} s")

    def _in_order(self, process: Process) -> None:
        process.overtaking = False

    def _churn(self, process: Process) -> None:
        """Cut the active replica off, take the role from it, and from whoever gets it then."""
        self._isolate(process)
        for delay_s in (0.5, 1.0, 1.5, 2.0):
            self._later(delay_s, self._depose)

    def _depose(self) -> None:
        holder = self._victim()
        kind = (self._revoke, self._delete_active, self._terminate, self._kill)[int(4 * self._random())]
        if self.active and not holder.dead:
            kind(holder)

    def _blind(self, process: Process) -> None:
        if not process.blind:
            process.blind = True
            seconds = self._later(6.0, self._see, process)
            self._world.note(process, f"watch is silent for {seconds:.3f} s")

    def _see(self, process: Process) -> None:
        if process.blind:
            self._world.note(process, "watch goes on")
            process.blind = False
            process.etcd_changed()

    def _etcd_outage(self, _process: Process) -> None:
        world = self._world
        if world.etcd.up:
            world.etcd.stop()
            seconds = self._later(6.0 if self._random() < 0.3 else 1.0, self._etcd_back)
            world.note(None, f"etcd is down for {seconds:.3f} s")

    def _etcd_back(self) -> None:
        self._world.note(None, "etcd is up")
        self._world.etcd.start()

    def _revoke(self, _process: Process) -> None:
        stored = self._world.etcd.keys.get(ACTIVE)
        if stored is not None and self._world.etcd.up:
            self._world.note(None, f"an operator revokes the lease of server {stored.value}")
            self._world.etcd.revoke(stored.lease)

    def _isolate(self, process: Process) -> None:
        """Cut a replica off and take the role from it: it does not know, and its guard still runs."""
        self._partition(process, 3.0 + 5.0 * self._random())
        self._later(0.5, self._revoke, process)

    def _delete_active(self, _process: Process) -> None:
        if self._world.etcd.up:
            self._world.note(None, "an operator deletes the ACTIVE key")
            self._world.etcd.txn((), deletes=(ACTIVE,))
