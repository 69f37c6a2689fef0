"""Real `coordd run` processes for tests: started on free loopback ports, their logs kept, ended by pid."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from coordd.etcd import EtcdClient
from coordd.etcd.child import bound_to_parent
from coordd.etcd.settings import PlainSettings
from coordd.ha.leadership import SessionEntry
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout

LAYOUT = MetaLayout("by-dev", "meta", "kv")
ROOT = Path(__file__).resolve().parents[2]
BUSY_S = 40.0
"""For a start, an end or a takeover on a machine that has much else to do; a second or two elsewhere."""
SECTIONS = {"rootcoord": "rootCoord", "datacoord": "dataCoord", "querycoord": "queryCoord"}


def milvus_yaml(
    endpoints: Sequence[str], *, ttl_s: int = 30, active_standby: bool = True, **more: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings for replicas on loopback and free ports; `more` adds or replaces whole sections."""
    roles = {
        section: {"ip": "127.0.0.1", "port": 0, "enableActiveStandby": active_standby}
        for section in SECTIONS.values()
    }
    return {
        "etcd": {"endpoints": list(endpoints)},
        "common": {"session": {"ttl": ttl_s}},
        "mq": {"type": "none"},
        "coordd": {
            "rpc": {"listenHost": "127.0.0.1"},
            "management": {"listenHost": "127.0.0.1", "port": 0},
        },
        **roles,
        **more,
    }


class CoorddProcess:
    """One `coordd run ROLE`."""

    def __init__(self, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self._process = process
        self.log_path = log_path

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self, timeout_s: float = BUSY_S) -> int:
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def wait_log(self, text: str, *, count: int = 1, timeout_s: float = BUSY_S) -> str:
        """Wait until the log has `text` at least `count` times; returns the whole log."""
        deadline = time.monotonic() + timeout_s
        while True:
            log = self.log()
            if log.count(text) >= count:
                return log
            if time.monotonic() > deadline or (self._process.returncode is not None and text not in log):
                raise AssertionError(
                    f"{text!r} not {count} times in the log of {self.pid} "
                    f"(exit code {self._process.returncode}):\n{log[-6000:]}"
                )
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """Kill it, paused or not."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def coordd_processes(folder: Path) -> AsyncIterator["Launcher"]:
    """A launcher whose processes are all ended at the end."""
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        for process in launcher.processes:
            await process.end()


class Launcher:
    """Starts `coordd run` processes below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self.processes: list[CoorddProcess] = []

    async def run(
        self,
        role: str,
        settings: Mapping[str, Any] | str,
        *,
        env: Mapping[str, str] | None = None,
        watchdog: bool = False,
        module: str = "coordd",
    ) -> CoorddProcess:
        """Start one; `settings` is the content of its milvus.yaml, `module` what is run.

        With the watchdog the process is the replica's parent; a signal to it is not one to the replica.
        """
        self._started += 1
        home = self._folder / f"{role}-{self._started}"
        home.mkdir(parents=True)
        text = settings if isinstance(settings, str) else yaml.safe_dump(dict(settings))
        (home / "milvus.yaml").write_text(text)
        log_path = home / "coordd.log"
        with log_path.open("wb") as log_file:
            process = await asyncio.create_subprocess_exec(
                *bound_to_parent(
                    [sys.executable, "-m", module, "run", role, "--config", str(home)]
                    + ([] if watchdog else ["--no-watchdog"])
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                cwd=None if module == "coordd" else ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )
        running = CoorddProcess(process, log_path)
        self.processes.append(running)
        return running


async def active_of(client: EtcdClient, role: str) -> SessionEntry | None:
    """The ACTIVE key of a role, as etcd has it."""
    kv = (await client.get(LAYOUT.session(role))).kv
    return (
        None
        if kv is None
        else SessionEntry(kv.key, kv.mod_revision, kv.lease, SessionRecord.from_json(kv.value))
    )


async def wait_active(
    client: EtcdClient, role: str, *, other_than: int = 0, timeout_s: float = BUSY_S
) -> SessionEntry:
    """Wait until a server other than `other_than` holds the ACTIVE key of `role`."""
    deadline = time.monotonic() + timeout_s
    while True:
        entry = await active_of(client, role)
        if entry is not None and entry.record is not None and entry.record.server_id != other_than:
            return entry
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody but {other_than or 'nobody'} became ACTIVE {role} in {timeout_s} s")
        await asyncio.sleep(0.01)


def etcd_client(endpoints: Sequence[str]) -> EtcdClient:
    """A client for the test's own look at etcd."""
    return EtcdClient(PlainSettings(endpoints=tuple(endpoints)))
