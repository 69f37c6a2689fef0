"""One run: builds the cluster that the seed draws, lets it live, and judges it."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coordd.ha.election import Election, ElectionSettings, IllegalEvent
from coordd.ha.election_events import Event, Instruction
from coordd.ha.guard import ServeGuard

from .coordd_model import CoorddProcess, Session
from .etcd_model import ACTIVE, EtcdModel
from .event_queue import EventQueue
from .faults import Faults
from .gate_model import Gate, Request
from .invariants import Invariants, Violation
from .milvus_model import MilvusProcess
from .network import Network
from .process_model import Machine, Process
from .scenario import draw, quieted
from .timestamps_model import Timestamps

CHECK_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Parts:
    """What the simulated processes are made of; tests plant bugs by replacing one."""

    election: Callable[[ElectionSettings], Election] = Election
    guard: Callable[[float], ServeGuard] = ServeGuard
    session: Callable[[CoorddProcess, int, int, float], Session] = Session
    gate: Callable[[Session], Gate] = Gate
    timestamps: Callable[[Session], Timestamps] = Timestamps
    process: Callable[["World", Machine, float], CoorddProcess] = CoorddProcess


class World:
    """A cluster in virtual time. `run` it once. `bias` replaces parts of the scenario that the seed draws."""

    def __init__(
        self,
        seed: int,
        parts: Parts | None = None,
        *,
        tracing: bool = False,
        bias: Mapping[str, Any] | None = None,
    ) -> None:
        self.seed = seed
        self.parts = parts or Parts()
        self.tracing = tracing
        self.transcript: list[str] = []
        self.rng = random.Random(seed)
        self.random = self.rng.random
        self.scenario = quieted(replace(draw(self.rng), **(bias or {})))
        self.invariants = Invariants(self)
        self.queue = EventQueue(self.invariants.after_event)
        self.machines: list[Machine] = []
        self.processes: list[Process] = []
        self.etcd = EtcdModel(self.queue, self._clock_rate(), self._etcd_changed)
        self.network = Network(self.queue, self.etcd, self.rng)
        self.faults = Faults(self)
        self.gone: dict[int, str] = {}
        """Server IDs that answer nothing any more, and the machine that each was on."""
        self._owners: dict[int, CoorddProcess] = {}
        self._unseen: set[tuple[str, str]] = set()
        self._server_ids = 0
        self._over = False
        self._build()

    def _build(self) -> None:
        scenario = self.scenario
        self.network.delay_s = scenario.delay_s
        self.network.slow_delay_s = scenario.slow_delay_s
        self.network.slow_share = scenario.slow_share
        self.network.loss = scenario.loss
        guards: list[float | None] = [*scenario.guards_s, *[None] * scenario.milvus_replicas]
        for name, guard_s in zip("abcdefgh", guards, strict=False):
            wall_offset_ms = 10**12 + int(20_000 * self.random())
            machine = Machine(name, guard_s, self._clock_rate(), 1e6 * self.random(), wall_offset_ms)
            self.machines.append(machine)
            process = self._new_process(machine)
            self.processes.append(process)
            self.queue.at(0.5 * self.random(), process, process.start)
        names = [machine.name for machine in self.machines]
        pairs = [(one, other) for one in names for other in names]
        self._unseen = {pair for pair in pairs if self.random() >= scenario.sees_gone}

    def _new_process(self, machine: Machine) -> Process:
        if machine.guard_s is None:
            return MilvusProcess(self, machine)
        return self.parts.process(self, machine, machine.guard_s)

    def _clock_rate(self) -> float:
        """A clock's rate: within the bound to every other clock, often at its very end."""
        error = self.scenario.clock_rate_error
        drawn = self.random()
        return 1 - error * (0.0 if drawn < 0.3 else 1.0 if drawn > 0.7 else self.random())

    # --- the run ---

    def run(self) -> None:
        """Live through the faults and the time after.

        Raises:
            Violation: a promise was broken.
        """
        scenario, queue = self.scenario, self.queue
        self.faults.plan()
        queue.at(self.random() * scenario.client_interval_s, None, self._clients)
        queue.at(scenario.faults_end_s, None, self._calm)
        while not self._over:
            queue.step()

    def _calm(self) -> None:
        self.faults.calm()
        self.queue.at(self.queue.now + CHECK_INTERVAL_S, None, self._check_recovery)

    def _check_recovery(self) -> None:
        if self.invariants.recovered():
            self._over = True
            self.invariants.at_end()
        elif self.queue.now > self.scenario.faults_end_s + self.scenario.recovery_bound_s:
            stopping = [process.name for process in self.processes if process.condemned and not process.dead]
            raise Violation(f"lively: still not serving, or still not stopped: {stopping}")
        else:
            self.queue.at(self.queue.now + CHECK_INTERVAL_S, None, self._check_recovery)

    def _clients(self) -> None:
        queue = self.queue
        for process in self.processes:
            if process.paused:
                if len(process.inbox) < 50:
                    process.inbox.append((process.client_request, ()))
            elif not process.dead:
                process.client_request()
        queue.at(queue.now + 2 * self.random() * self.scenario.client_interval_s, None, self._clients)

    def _etcd_changed(self) -> None:
        for process in self.processes:
            process.etcd_changed()

    def restart(self, machine: Machine) -> None:
        """Start another process on a machine."""
        process = self._new_process(machine)
        self.processes = [other for other in self.processes if not other.dead] + [process]
        self.note(process, "starts")
        process.start()

    def next_server_id(self) -> int:
        """Unique in the run, as etcd's counter makes it."""
        self._server_ids += 1
        return self._server_ids

    def owns(self, server_id: int, process: CoorddProcess) -> None:
        """A session with this server ID begins in that process."""
        self._owners[server_id] = process

    def server_gone(self, server_id: int, machine: Machine) -> None:
        """Nothing listens any more where this server did; whoever can see that looks."""
        self.gone[server_id] = machine.name
        for process in self.processes:
            if process.session is not None and not process.dead and process.view is not None:
                process.session.standing_by.look(process.view)

    def is_seen_gone(self, server_id: int | None, by: Machine) -> bool:
        """Whether the server is gone, and that can be noticed on the machine `by`."""
        machine = self.gone.get(server_id or 0)
        return machine is not None and (by.name, machine) not in self._unseen

    def forward(self, request: Request, heir: int) -> None:
        """Carry a request from a former active to its heir."""
        process = self._owners[heir]
        if process.dead:
            self.invariants.failed(request, "its heir is dead")
        else:
            when = self.queue.now + self.network.delay()
            self.queue.at(when, process, process.forwarded, request, heir)

    def server_id_of(self, process: Process) -> int:
        """Server ID of the process' session; 0 without one."""
        if isinstance(process, MilvusProcess):
            return process.server_id
        return process.session.server_id if process.session else 0

    def somebody_serves(self) -> bool:
        """Whether a coordd replica may answer, or a Milvus one holds the ACTIVE key."""
        holder = self.etcd.keys.get(ACTIVE)
        for process in self.processes:
            if process.dead or holder is None or self.server_id_of(process) != holder.value.server_id:
                continue
            if process.session is None or process.session.gate.may_start():
                return True
        return False

    # --- the transcript ---

    def note(self, process: Process | None, text: str) -> None:
        """Write a line of the transcript."""
        if self.tracing:
            who = "etcd" if process is None else f"{process.name}/{self.server_id_of(process)}"
            self.transcript.append(f"{self.queue.now:9.4f}  {who:6} {text}")

    def trace_event(self, session: Session, event: Event, instructions: Sequence[Instruction]) -> None:
        """Write down what an election was told and what it ordered."""
        orders = f" -> {', '.join(map(str, instructions))}" if instructions else ""
        self.note(session.process, f"[{session.election.state.value}] {event}{orders}")


def run_seed(seed: int, parts: Parts | None = None, bias: Mapping[str, Any] | None = None) -> str | None:
    """Run a seed; None if all promises held, else the transcript, which ends with what was broken."""
    try:
        World(seed, parts, bias=bias).run()
    except (AssertionError, IllegalEvent):
        return transcript_of(seed, parts, bias)
    return None


def transcript_of(seed: int, parts: Parts | None = None, bias: Mapping[str, Any] | None = None) -> str:
    """Run a seed again and write down all that happens, up to what broke."""
    world = World(seed, parts, tracing=True, bias=bias)
    try:
        world.run()
    except (AssertionError, IllegalEvent) as broken:
        world.note(None, f"*** {broken}")
    return "\n".join([f"seed {seed}: {world.scenario}", *world.transcript])
