"""What goes wrong, and when: at random moments, and right after a replica's state changed.

Most faults hit the replica that holds the ACTIVE key. When `calm` is called, all of it ends: pauses and
partitions are over, etcd is up, messages are quick and none is lost, and at least one coordd replica runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordd.ha.election_events import State

from .etcd_model import ACTIVE
from .process_model import Process
from .scenario import LONG

if TYPE_CHECKING:
    from .world import World


class Faults:
    """The faults of one run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.active = True
        self._strikes = 0
        self._at_state_change = world.scenario.fault_at_state_change
        themes: dict[str, tuple[Callable[[Process], None], ...]] = {
            "anything": (
                self._pause, self._kill, self._terminate, self._partition, self._etcd_outage, self._revoke,
                self._delete_active, self._blind, self._overtake, self._churn, self._switchover,
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
            "passing on": (
                self._switchover, self._switchover, self._switchover, self._terminate, self._kill,
                self._partition, self._blind, self._blind, self._revoke_standby,
            ),
            "asked": (self._switchover,),
            "fooled": (self._fool, self._fool, self._pause, self._partition, self._switchover),
            "switchovers": (self._switchover, self._replace),
            "crashes": (self._crash,),
            "cutoffs": (self._cut_off,),
            LONG: (self._stay_away,),
        }  # fmt: skip
        self._kinds = themes[world.scenario.theme]

    def plan(self) -> None:
        """Schedule this run's faults."""
        scenario = self._world.scenario
        if scenario.theme == LONG:
            self._world.queue.at(3.0 + self._random(), None, self._strike, None)
            self._world.queue.at(602.0 + 2.0 * self._random(), None, self._crash, None)
            return
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
            process.watch_noticed()
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
                if world.server_id_of(process) == holder.value.server_id:
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

    def _blind(self, process: Process, seconds: float = 0.0) -> None:
        if not process.blind:
            process.blind = True
            seconds = seconds or 6.0 * self._random()
            self._after(seconds, self._see, process)
            self._world.queue.at(self._world.queue.now + self._random(), process, process.watch_noticed)
            self._world.note(process, f"watch is silent for {seconds:.3f} s")

    def _see(self, process: Process) -> None:
        if process.blind:
            self._world.note(process, "watch goes on")
            process.blind = False
            process.etcd_changed()
            self._world.queue.at(self._world.queue.now + self._random(), process, process.watch_noticed)

    def _etcd_outage(self, _process: Process) -> None:
        world = self._world
        if world.etcd.up:
            world.etcd.stop(refusing=self._random() < 0.5)
            seconds = self._later(6.0 if self._random() < 0.3 else 1.0, self._etcd_back)
            world.note(None, f"etcd is down for {seconds:.3f} s")

    def _etcd_back(self) -> None:
        self._world.note(None, "etcd is up")
        self._world.etcd.start()

    def _revoke(self, _process: Process) -> None:
        stored = self._world.etcd.keys.get(ACTIVE)
        if stored is not None and self._world.etcd.up:
            self._world.note(None, f"an operator revokes the lease of server {stored.value.server_id}")
            self._world.etcd.revoke(stored.lease)

    def _isolate(self, process: Process) -> None:
        """Cut a replica off and take the role from it: it does not know, and its guard still runs."""
        self._partition(process, 3.0 + 5.0 * self._random())
        self._later(0.5, self._revoke, process)

    def _delete_active(self, _process: Process) -> None:
        if self._world.etcd.up:
            self._world.note(None, "an operator deletes the ACTIVE key")
            self._world.etcd.txn((), deletes=(ACTIVE,))

    # --- passing on ---

    def _switchover(self, _process: Process) -> None:
        """An operator asks the active replica to pass leadership on, to anybody or to a certain one."""
        world = self._world
        active = self._active()
        if active is None:
            return
        others = [world.server_id_of(other) for other in world.processes if not other.dead]
        to = 0 if self._random() < 0.6 else [*others, 999][int(self._random() * (len(others) + 1))]
        self._strikes += 1
        world.note(None, f"an operator asks for a switchover to {to or 'anybody'}")
        world.queue.at(world.queue.now + world.network.delay(), active, active.switchover, to)

    def _revoke_standby(self, process: Process) -> None:
        """A standby's lease ends."""
        if process.session is not None and process is not self._active() and self._world.etcd.up:
            self._world.note(process, "an operator revokes its lease")
            self._world.etcd.revoke(process.session.lease_id)

    def _fool(self, process: Process) -> None:
        """Somebody takes a live process for dead."""
        if process.session is not None and process.view is not None and process.view.active_mod_revision:
            self._world.note(process, "is fooled: it takes the active for dead")
            epoch = process.view.active_mod_revision
            self._world.queue.at(self._world.queue.now, process, process.session.standing_by.notice, epoch)

    # --- quiet themes: one fault at a time, and the time in which it must be over ---

    def _active(self) -> Process | None:
        """The process that holds the ACTIVE key."""
        world = self._world
        holder = world.etcd.keys.get(ACTIVE)
        for process in world.processes:
            if holder is not None and world.server_id_of(process) == holder.value.server_id:
                return None if process.dead else process
        return None

    def _serving(self) -> Process | None:
        """The active replica, if it serves and knows of a standby that knows of it; nothing is going on.

        The session of one that has just ended is no such standby, though it may still be in etcd.
        """
        active, view = self._active(), self._world.etcd.history[-1]
        if active is None or active.session is None or active.session.election.state is not State.ACTIVE:
            return None
        ready = [
            other
            for other in self._world.processes
            if other is not active and not other.dead and not other.condemned and not other.partitioned
            and other.session is not None and other.session.election.state is State.STANDBY
            and other.view is not None and other.view.active_mod_revision == view.active_mod_revision
            and other.view.beat is not None and other.view.beat.settled and not other.blind
        ]  # fmt: skip
        known = () if active.view is None else active.view.standbys
        heirs = {self._world.server_id_of(other) for other in ready}
        heirs &= {standby.server_id for standby in known if standby.report_revision}
        return active if heirs and active.session.gate.may_start() else None

    def _replace(self, _process: Process) -> None:
        """SIGTERM for the active or a standby, as long as there is another to inherit; then a new process."""
        active = self._serving()
        going = [process for process in self._world.processes if process.condemned and not process.dead]
        if active is None or going:
            return
        others = [process for process in self._world.processes if process is not active]
        victim = active if self._random() < 0.7 or len(others) < 2 else others[0]
        if not victim.dead:
            self._terminate(victim)

    def _crash(self, _process: Process | None) -> None:
        """kill -9 of the active; somebody notices."""
        active = self._serving()
        if self.active and active is not None:
            self._kill(active)
            scenario = self._world.scenario
            stagger_s = 0.01 * len(self._world.machines)
            self._expect_service("a crash", scenario.evidence_s + stagger_s)

    def _cut_off(self, _process: Process) -> None:
        """The active cannot reach etcd any more, and nobody can see why."""
        active = self._serving()
        if active is not None and not any(process.partitioned for process in self._world.processes):
            scenario = self._world.scenario
            silence_s = max(scenario.guards_s) + scenario.margin_s
            self._partition(active, 2 * silence_s + 3.0)
            self._expect_service("the active was cut off", silence_s + 0.01 * len(self._world.machines))

    def _expect_service(self, what: str, detection_s: float) -> None:
        """Somebody must serve soon; a dozen messages pass until then, and a few timers."""
        world = self._world
        self._strikes += 1
        slowest = 1 - world.scenario.clock_rate_error
        within_s = (detection_s + 0.3) / slowest + 20 * world.scenario.delay_s
        self._after(within_s, self._check_service, what, within_s, self._strikes)

    def _check_service(self, what: str, within_s: float, strikes: int) -> None:
        if strikes == self._strikes and self.active:
            self._world.invariants.served_again(what, within_s)

    def _stay_away(self, process: Process) -> None:
        """A standby's follower is offline for ten minutes."""
        self._blind(process, 600.0)
