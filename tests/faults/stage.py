"""A group of real rootcoords on real etcd under a workload that is judged while it runs.

Each replica reaches each etcd member through a proxy of its own, so that it can be cut off alone. Clients and
judges reach etcd directly. Everything that is judged raises `Violation`, at once, out of the `stage` scope.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil

from coordd.clock import boottime
from coordd.etcd import EtcdClient, prefix_end
from coordd.pb.etcd_meta_pb2 import DatabaseInfo
from tests.support.checker import HistoryChecker, check_same
from tests.support.coordd import LAYOUT, CoorddProcess, Launcher, coordd_processes, etcd_client, milvus_yaml
from tests.support.etcd import EtcdCluster, etcd_cluster, eventually
from tests.support.etcd_audit import EtcdAudit
from tests.support.history import History
from tests.support.linearizability import Violation
from tests.support.tcp_proxy import TcpProxy
from tests.support.workload import ActiveKey, Workload, running

ROLE: Final = "rootcoord"
JUDGE_EVERY_S: Final = 0.5
NEW_NAMES_EVERY_S: Final = 5.0
RECOVERY_LIMIT_S: Final = 120.0
"""Until somebody serves when all troubles are over: generous, for slow machines."""
EXIT_LIMIT_S: Final = 60.0
LOGS_KEPT: Final = 12
WATCHED: Final = 0.4
"""Part of the replicas that run under a supervisor."""


@dataclass(eq=False)
class StageReplica:
    """One place in the group: a process comes, goes, and comes again. `busy`: some trouble has it.

    With `watchdog` the process is a supervisor and the replica its child, which it kills when it hangs.
    """

    number: int
    proxies: list[TcpProxy]
    watchdog: bool
    process: CoorddProcess | None = None
    busy: bool = False
    told_to_end: bool = False

    @property
    def running(self) -> CoorddProcess:
        """Its process."""
        assert self.process is not None, f"replica {self.number} is not running"
        return self.process

    def inner(self) -> int:
        """The pid of the replica itself; 0 while a supervisor has none."""
        if self.process is None:
            return 0
        return next(iter(_children(self.process.pid)), 0) if self.watchdog else self.process.pid

    def signal_inner(self, number: signal.Signals) -> None:
        """A signal to the replica itself, if there is one."""
        pid = self.inner()
        if pid and self.running.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """The replica itself is stopped meanwhile. A supervisor may end it for that."""
        pid, registered = self.inner(), self._registrations()
        self.signal_inner(signal.SIGSTOP)
        try:
            yield
        finally:
            if self.inner() == pid:
                self.signal_inner(signal.SIGCONT)
        if self.watchdog:
            await asyncio.sleep(0.2)  # a SIGKILL on its way has arrived by then
            await eventually(
                lambda: self.inner() == pid or self._registrations() > registered, RECOVERY_LIMIT_S
            )

    def _registrations(self) -> int:
        return self.running.log().count("Service registered successfully")

    def heal(self) -> None:
        """Its way to etcd is free again, but for refused connections."""
        for proxy in self.proxies:
            proxy.heal()


@dataclass(eq=False)
class Stage:
    """See `stage`."""

    etcd: EtcdCluster
    client: EtcdClient
    replicas: list[StageReplica]
    launcher: Launcher
    settings: dict[str, Any]
    history: History
    active: ActiveKey
    workload: Workload
    audit: EtcdAudit = field(default_factory=lambda: EtcdAudit(LAYOUT, ROLE))
    checker: HistoryChecker = field(default_factory=HistoryChecker)
    background: asyncio.TaskGroup | None = None
    etcd_busy: bool = False
    story: deque[str] = field(default_factory=lambda: deque(maxlen=200))
    _old_logs: deque[Path] = field(default_factory=deque)

    def note(self, what: str) -> None:
        """A line of the story that is told when something is wrong."""
        self.story.append(f"{datetime.now(UTC):%H:%M:%S.%f} {what}")

    def spawn(self, doing: Coroutine[Any, Any, None], name: str) -> None:
        """Let it go on beside all else; what it raises ends the scope."""
        assert self.background is not None
        self.background.create_task(doing, name=name)

    # --- replicas ---

    async def start(self, replica: StageReplica) -> None:
        """A new process in its place."""
        endpoints = [proxy.endpoint for proxy in replica.proxies]
        settings = {**self.settings, "etcd": {**self.settings["etcd"], "endpoints": endpoints}}
        replica.told_to_end = False
        replica.process = await self.launcher.run(ROLE, settings, watchdog=replica.watchdog)
        self.note(f"replica {replica.number} starts as pid {replica.process.pid}")

    async def wait_registered(self, replica: StageReplica) -> None:
        """Until it leads or stands by."""
        deadline = boottime() + RECOVERY_LIMIT_S
        while True:
            log = replica.running.log()
            if "enter STANDBY mode" in log or "RootCoord startup success" in log:
                return
            if boottime() > deadline:
                raise Violation(f"replica {replica.number} does not come up:\n{log[-3000:]}")
            await asyncio.sleep(0.1)

    async def end(self, replica: StageReplica, number: signal.Signals, *, inner: bool = False) -> None:
        """End its process by that signal and wait for it. `inner`: a supervisor is to end with its child.

        Raises:
            Violation: it does not end, or not cleanly on SIGTERM.
        """
        process = replica.running
        replica.told_to_end = True
        if inner:
            replica.signal_inner(number)
        else:
            process.send(number)
        try:
            code = await process.wait(EXIT_LIMIT_S)
        except TimeoutError:
            raise Violation(
                f"pid {process.pid} does not end on {number.name}:\n{process.log()[-3000:]}"
            ) from None
        if number is signal.SIGTERM and code != 0:
            raise Violation(f"pid {process.pid} ended with {code} on SIGTERM:\n{process.log()[-3000:]}")
        self._bury(replica)

    def leader(self) -> StageReplica | None:
        """The replica that holds the ACTIVE key, as clients see it."""
        holder = self.active.holder
        if holder is None or holder.safety is None:
            return None
        for replica in self.replicas:
            if holder.safety.pid and holder.safety.pid == replica.inner():
                return replica
        return None

    def _bury(self, replica: StageReplica) -> None:
        """Keep the logs of the last processes only: a soak has thousands."""
        process, replica.process = replica.running, None
        self._check_log(process)
        self.launcher.processes.remove(process)
        self._old_logs.append(process.log_path.parent)
        while len(self._old_logs) > LOGS_KEPT:
            shutil.rmtree(self._old_logs.popleft())

    def _check_log(self, process: CoorddProcess) -> None:
        log = process.log()
        at = log.find("Traceback")
        if at >= 0:
            raise Violation(
                f"a traceback in the log of pid {process.pid}:\n{log[max(at - 1500, 0) : at + 3000]}"
            )

    # --- waiting ---

    async def wait_served(self, since_ns: int, limit_s: float = RECOVERY_LIMIT_S) -> None:
        """Until a client was answered a call that ended after `since_ns`.

        Raises:
            Violation: nobody was.
        """
        deadline = boottime() + limit_s
        while self.workload.last_success_ns <= since_ns:
            if boottime() > deadline:
                raise Violation(f"nobody serves {limit_s} s after the troubles; holder {self.active.holder}")
            await asyncio.sleep(0.01)

    async def calm(self) -> None:
        """All replicas run and are registered, nothing is in their way, and one serves.

        Raises:
            Violation: that does not come about.
        """
        await eventually(lambda: not any(one.busy for one in self.replicas), RECOVERY_LIMIT_S)
        for replica in self.replicas:
            replica.heal()
            for proxy in replica.proxies:
                await proxy.accept()
            if replica.process is None:
                await self.start(replica)
            replica.signal_inner(signal.SIGCONT)
        for member in self.etcd.members:
            if member.process is None:
                member.start()
        for replica in self.replicas:
            await self.wait_registered(replica)
        await self.wait_served(time.monotonic_ns())

    # --- judging ---

    async def follow_etcd(self) -> NoReturn:
        """Task: every event of the cluster, from the first on, is judged."""
        watch = self.client.watch(LAYOUT.root + "/", prefix_end(LAYOUT.root + "/"), from_revision=1)
        async with aclosing(watch) as batches:
            async for batch in batches:
                self.audit.feed(batch.events)
        raise AssertionError("the watch ended")

    async def judge(self) -> NoReturn:
        """Task: what clients were told is judged, slice by slice."""
        renewed_at = boottime()
        while True:
            self.judge_now()
            if boottime() - renewed_at > NEW_NAMES_EVERY_S:
                self.workload.names.renew()
                renewed_at = boottime()
            await asyncio.sleep(JUDGE_EVERY_S)

    def judge_now(self) -> None:
        """Judge all that has ended so far.

        Raises:
            Violation: a promise was broken, a process ended by itself, an answer was none of the known ones.
        """
        self.checker.feed(self.history.take())
        for replica in self.replicas:
            process = replica.process
            if process is not None and process.returncode is not None and not replica.told_to_end:
                raise Violation(
                    f"replica {replica.number} (pid {process.pid}) ended by itself with"
                    f" {process.returncode}:\n{process.log()[-4000:]}"
                )
        if self.workload.oddities:
            raise Violation(f"answers that nobody expects: {dict(self.workload.oddities)}")

    async def judge_at_rest(self) -> None:
        """With the clients ended: the whole history, against etcd too.

        Raises:
            Violation: a promise was broken.
        """
        async with asyncio.timeout(RECOVERY_LIMIT_S):
            listed = await self.workload.list_databases()
        stored = await self._stored_databases()
        self.judge_now()
        check_same(listed.names, stored)
        await self._wait_audited()
        if self.checker.timestamps.highest >= self.audit.timestamp_end:
            raise Violation(f"timestamp {self.checker.timestamps.highest} lies in no saved window")
        if self.checker.ids.highest >= self.audit.id_end:
            raise Violation(f"ID {self.checker.ids.highest} lies in no saved window")

    async def _wait_audited(self) -> None:
        revision = await self.client.revision()
        await eventually(lambda: self.audit.revision >= revision, RECOVERY_LIMIT_S)

    async def _stored_databases(self) -> list[str]:
        prefix = LAYOUT.database_prefix
        kvs = (await self.client.range(prefix, prefix_end(prefix))).kvs
        return [DatabaseInfo.FromString(kv.value).name for kv in kvs if kv.value != b"\xe2\x9b\xbc"]

    def explanation(self) -> str:
        """What was done, and what the processes said, for the report of a failure."""
        told = "\n  ".join(self.story)
        now = f"{datetime.now(UTC):%H:%M:%S.%f} is {time.monotonic():.6f} in the times of calls"
        logs = "\n".join(
            f"--- replica {replica.number}, pid {replica.process.pid}\n{replica.process.log()[-5000:]}"
            for replica in self.replicas
            if replica.process is not None
        )
        return f"{now}\nstory:\n  {told}\n{logs}"


@asynccontextmanager
async def stage(
    folder: Path,
    *,
    members: int,
    replicas: int,
    seed: int,
    ttl_s: int = 3,
    crash_detection: bool = True,
) -> AsyncIterator[Stage]:
    """Replicas that have started, one of them serving, clients at work, judges watching.

    In the end all is brought to rest and judged as a whole.
    """
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(etcd_cluster(members=members))
        client = await stack.enter_async_context(etcd_client(etcd.endpoints))
        launcher = await stack.enter_async_context(coordd_processes(folder))
        places, draw = [], random.Random(f"stage {seed}")
        for number in range(replicas):
            proxies = [await stack.enter_async_context(TcpProxy(one)) for one in etcd.endpoints]
            places.append(StageReplica(number, proxies, watchdog=draw.random() < WATCHED))
        history, active = History(), ActiveKey(client, LAYOUT.session(ROLE))
        scene = Stage(
            etcd, client, places, launcher, _settings(etcd.endpoints, ttl_s, crash_detection), history,
            active, Workload(active, history, seed),
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                scene.background = group
                tasks = [
                    group.create_task(scene.follow_etcd(), name="follow etcd"),
                    group.create_task(scene.judge(), name="judge"),
                ]
                async with running(scene.workload, active):
                    await scene.calm()
                    yield scene
                    await scene.calm()
                await _at_rest(scene)
                for task in tasks:
                    task.cancel()
        except BaseException as error:
            error.add_note(f"seed {seed}\n{scene.explanation()}")
            raise


async def _at_rest(scene: Stage) -> None:
    """Judge the end twice: as the last active shows it, and as a process shows it that read all anew."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(scene.active.follow(), name="active key")
        await scene.judge_at_rest()
        for replica in scene.replicas:
            await scene.end(replica, signal.SIGTERM)
        await scene.start(scene.replicas[0])
        await scene.judge_at_rest()
        following.cancel()


def _settings(endpoints: Sequence[str], ttl_s: int, crash_detection: bool) -> dict[str, Any]:
    settings = milvus_yaml(endpoints, ttl_s=ttl_s)
    settings["rootCoord"] = {**settings["rootCoord"], "maxDatabaseNum": 1_000_000}
    settings["coordd"] = {**settings["coordd"], "failover": {"crashDetection": crash_detection}}
    return settings


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []
