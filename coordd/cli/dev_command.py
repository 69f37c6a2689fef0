"""`coordd dev`: an embedded etcd and a group of rootcoord replicas, to watch and to kill.

Each replica is a real `coordd run rootcoord` in a process of its own, watchdog and all. A replica that dies
is started again after a moment, so that there is always another to kill. Ctrl-C ends everything; if this
process is killed itself, the kernel ends the children.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from coordd import log
from coordd.cli.report import ClusterReport, read_report, replica_table, report_console
from coordd.etcd import EtcdClient
from coordd.etcd.child import bound_to_parent
from coordd.etcd.embedded import EmbeddedEtcd
from coordd.etcd.errors import EtcdError
from coordd.etcd.settings import PlainSettings
from coordd.ha.tasks import TaskScope
from coordd.meta.layout import MetaLayout

REFRESH_S = 0.25
RESTART_AFTER_S = 3.0
STOP_TIMEOUT_S = 5.0
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
KEPT_PREFIXES = ("LC_", "PYTHON")


@dataclass(slots=True, eq=False)
class DevReplica:
    """One child process and the folder it lives in."""

    number: int
    folder: Path
    process: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> None:
        """Run the replica, and run it again after it died, until cancelled; then stop it."""
        try:
            while True:
                with (self.folder / "coordd.log").open("ab") as log_file:
                    self.process = await asyncio.create_subprocess_exec(
                        *bound_to_parent(
                            [sys.executable, "-m", "coordd", "run", "rootcoord", "-c", str(self.folder)]
                        ),
                        stdout=log_file,
                        stderr=log_file,
                        stdin=asyncio.subprocess.DEVNULL,
                        env=_environment(),
                        start_new_session=True,
                    )
                await self.process.wait()
                await asyncio.sleep(RESTART_AFTER_S)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        process = self.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def dev(replicas: int, data: Path | None) -> None:
    """Run the group until interrupted.

    Raises:
        EtcdError: the embedded etcd did not start.
        ExceptionGroup: it ended by itself (an EtcdError).
    """
    with tempfile.TemporaryDirectory(prefix="coordd-dev-") as temporary:
        folder = data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        log.configure(level="info", stdout=False, file=folder / "dev.log")
        stop = _stop_on_signals()
        async with EmbeddedEtcd(folder / "etcd") as etcd:
            group = [_replica(folder, number, etcd.endpoints) for number in range(1, replicas + 1)]
            async with TaskScope() as scope:
                for replica in group:
                    scope.create_task(replica.keep_running(), name=f"replica {replica.number}")
                scope.create_task(_show(folder, etcd.endpoints), name="table")
                scope.create_task(etcd.wait_ended(), name="embedded etcd")
                await stop.wait()


def _environment() -> dict[str, str]:
    """Ours without settings: they would outrank the replica's file, and with an ETCD_ENDPOINTS among them the
    replicas would take part in somebody's real cluster.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT_VARIABLES or name.startswith(KEPT_PREFIXES)
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


def _replica(folder: Path, number: int, endpoints: Sequence[str]) -> DevReplica:
    home = folder / f"rootcoord-{number}"
    home.mkdir(exist_ok=True)
    settings = {
        "etcd": {"endpoints": list(endpoints)},
        "mq": {"type": "none"},
        "rootCoord": {"ip": "127.0.0.1", "port": 0, "enableActiveStandby": True},
        "coordd": {
            "rpc": {"listenHost": "127.0.0.1"},
            "management": {"listenHost": "127.0.0.1", "port": 0},
        },
    }
    (home / "milvus.yaml").write_text(yaml.safe_dump(settings))
    return DevReplica(number, home)


async def _show(folder: Path, endpoints: Sequence[str]) -> None:
    layout = MetaLayout("by-dev", "meta", "kv")
    console = report_console()
    async with EtcdClient(PlainSettings(endpoints=tuple(endpoints))) as client:
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4, transient=False) as live:
                async for report in _reports(client, layout):
                    live.update(_view(report, folder, endpoints, console.width), refresh=True)
        else:
            await _print_changes(console, client, layout, folder, endpoints)


async def _print_changes(
    console: Console, client: EtcdClient, layout: MetaLayout, folder: Path, endpoints: Sequence[str]
) -> None:
    """Without a terminal: print the table when who leads or stands by has changed."""
    shown: object = None
    async for report in _reports(client, layout):
        now = [
            (replica.state, replica.server_id, replica.epoch)
            for role in report.roles
            for replica in role.replicas
        ]
        if now != shown:
            shown = now
            console.print(_view(report, folder, endpoints, console.width))


async def _reports(client: EtcdClient, layout: MetaLayout) -> AsyncIterator[ClusterReport]:
    while True:
        with suppress(EtcdError):  # the embedded etcd may be under load; the next round shows it again
            yield await read_report(client, layout, ("rootcoord",))
        await asyncio.sleep(REFRESH_S)


def _view(report: ClusterReport, folder: Path, endpoints: Sequence[str], width: int) -> Group:
    active = report.roles[0].active
    kill = f"kill -9 {active.pid}" if active and active.pid else "(nobody is active yet)"
    return Group(
        replica_table(report.roles, width=width),
        Text(f"To kill the active one, in another terminal:  {kill}"),
        Text(f"etcd at {','.join(endpoints)}, logs in {folder}/*/coordd.log; Ctrl-C ends all of it"),
    )
