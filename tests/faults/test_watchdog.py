"""`coordd run` under its watchdog: hangs, signals and ends of real processes."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from coordd.etcd.child import bound_to_parent
from tests.support.coordd import (
    CoorddProcess,
    Launcher,
    active_of,
    coordd_processes,
    etcd_client,
    milvus_yaml,
    wait_active,
)
from tests.support.etcd import etcd_cluster

pytestmark = pytest.mark.timeout(240)

LIMIT_S = 60.0
"""For what takes a second or two; other tests may keep the processors busy."""
HUNG = "the replica hangs, killing it"
NOWHERE = ("127.0.0.1:1",)


async def until(check: Callable[[], Any], what: str, process: CoorddProcess | None = None) -> Any:
    """What `check` returns once it is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what}\n{process.log()[-4000:] if process else ''}"
        await asyncio.sleep(0.02)
    return found


def child_of(pid: int) -> int | None:
    """The one child of a process."""
    try:
        children = [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return None
    assert len(children) <= 1, "the replica has no children of its own here"
    return children[0] if children else None


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def replica_of(process: CoorddProcess, *, other_than: int = 0) -> int:
    """Pid of the replica under the watchdog `process`."""
    return await until(
        lambda: (pid := child_of(process.pid)) and pid != other_than and pid, "a replica", process
    )


# --- a hang ---


async def test_a_stopped_replica_is_killed_and_another_registers(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints, ttl_s=5), watchdog=True)
        first = await wait_active(client, "rootcoord", timeout_s=LIMIT_S)
        assert first.record is not None
        replica = await replica_of(process)
        assert first.record.safety is not None
        assert first.record.safety.pid == replica, "what `coordd status` shows"
        await process.wait_log("RootCoord startup success", timeout_s=LIMIT_S)
        os.kill(replica, signal.SIGSTOP)
        log = await process.wait_log(HUNG, timeout_s=LIMIT_S)
        (line,) = [line for line in log.splitlines() if HUNG in line]
        assert re.search(rf"\[WARN\] .*\[pid={replica}\] \[silent_s=[\d.]+\] \[restart=true\]", line)
        second = await replica_of(process, other_than=replica)
        assert not is_there(replica)
        heir = await wait_active(client, "rootcoord", other_than=first.record.server_id, timeout_s=LIMIT_S)
        assert heir.record is not None
        assert "[after_hangs=1]" in process.log()
        assert await replica_of(process) == second
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 0
        assert await active_of(client, "rootcoord") is None, "leadership was given up"


async def test_a_standby_takes_over_from_a_hung_active_and_the_restarted_one_stands_by(
    tmp_path: Path,
) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        settings = milvus_yaml(etcd.endpoints, ttl_s=2 * int(LIMIT_S))  # no lease ends here
        first = await launcher.run("rootcoord", settings, watchdog=True)
        active = await wait_active(client, "rootcoord", timeout_s=LIMIT_S)
        assert active.record is not None
        await first.wait_log("RootCoord startup success", timeout_s=LIMIT_S)
        second = await launcher.run("rootcoord", settings, watchdog=True)
        await second.wait_log("enter STANDBY mode", timeout_s=LIMIT_S)
        os.kill(await replica_of(first), signal.SIGSTOP)
        await second.wait_log("RootCoord startup success", timeout_s=LIMIT_S)
        await first.wait_log("enter STANDBY mode", timeout_s=LIMIT_S)
        assert HUNG not in second.log()


async def test_the_watchdog_can_be_switched_off_by_a_setting(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        settings = milvus_yaml(etcd.endpoints)
        settings["coordd"]["watchdog"] = {"enabled": False, "timeout": 200}
        process = await launcher.run("rootcoord", settings, watchdog=True)
        await process.wait_log("RootCoord startup success", timeout_s=LIMIT_S)
        replica = await replica_of(process)
        os.kill(replica, signal.SIGSTOP)
        await asyncio.sleep(2)
        assert is_there(replica)
        os.kill(replica, signal.SIGCONT)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 0
        assert HUNG not in process.log()


@pytest.mark.parametrize(
    ("watchdog", "env"), [(False, {}), (True, {"COORDD_WATCHDOG_ENABLED": "false"})], ids=["flag", "variable"]
)
async def test_without_it_there_is_one_process(tmp_path: Path, watchdog: bool, env: dict[str, str]) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(NOWHERE), watchdog=watchdog, env=env)
        await process.wait_log("etcd cannot be reached", timeout_s=LIMIT_S)
        assert child_of(process.pid) is None
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 0


# --- signals and ends ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
async def test_a_stop_signal_to_the_parent_stops_the_replica_in_good_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints), watchdog=True)
        await process.wait_log("RootCoord startup success", timeout_s=LIMIT_S)
        replica = await replica_of(process)
        process.send(number)
        assert await process.wait(LIMIT_S) == 0
        assert not is_there(replica)
        log = process.log()
        assert f"[signal={number.name}]" in log
        assert log.count("asked to stop") == 1
        assert "coordd ends" in log
        assert "Traceback" not in log
        assert await active_of(client, "rootcoord") is None


async def test_a_signal_at_any_moment_of_the_start_ends_both(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        for number in range(10):
            process = await launcher.run("rootcoord", milvus_yaml(NOWHERE), watchdog=True)
            await until(lambda process=process: child_of(process.pid), "a replica", process)
            replica = await replica_of(process)
            await asyncio.sleep(number * 0.15)
            process.send(signal.SIGTERM)
            assert await process.wait(LIMIT_S) in (0, -signal.SIGTERM)
            assert not is_there(replica)
            assert "Traceback" not in process.log()


async def test_an_error_is_told_once_and_its_exit_code_is_the_parents(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        wrong = await launcher.run("rootcoord", "etcd:\n  requestTimeout: soon\n", watchdog=True)
        assert await wrong.wait(LIMIT_S) == 1
        assert wrong.log().count("etcd.requestTimeout") == 1
        unknown = await launcher.run("proxycoord", "", watchdog=True)
        assert await unknown.wait(LIMIT_S) == 2


async def test_the_end_of_the_parent_is_that_of_the_replica(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(NOWHERE), watchdog=True)
        await process.wait_log("etcd cannot be reached", timeout_s=LIMIT_S)
        replica = await replica_of(process)
        process.send(signal.SIGKILL)
        await process.wait(LIMIT_S)
        await until(lambda: not is_there(replica), "the replica is gone")


async def test_kill_9_of_the_replica_ends_the_parent_the_same_way(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(NOWHERE), watchdog=True)
        await process.wait_log("etcd cannot be reached", timeout_s=LIMIT_S)
        os.kill(await replica_of(process), signal.SIGKILL)
        assert await process.wait(LIMIT_S) == -signal.SIGKILL
        assert HUNG not in process.log()


async def test_the_parent_stays_small(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(NOWHERE), watchdog=True)
        await process.wait_log("coordd starts", timeout_s=LIMIT_S)
        replica = await replica_of(process)

        def libraries(pid: int) -> set[str]:
            maps = Path(f"/proc/{pid}/maps").read_text()
            return {name for name in ("grpc", "pydantic", "uvloop", "_asyncio", "_ssl") if name in maps}

        assert libraries(replica) >= {"pydantic", "uvloop"}
        assert libraries(process.pid) == set()
        assert Path(f"/proc/{process.pid}/comm").read_text().strip() == "coordd-watchdog"
        assert Path(f"/proc/{replica}/comm").read_text().strip() != "coordd-watchdog"


# --- the supervisor alone, around a small program ---


@contextlib.asynccontextmanager
async def watched(folder: Path, *arguments: str, **options: Any) -> AsyncIterator[CoorddProcess]:
    """tests.support.watched under its watchdog."""
    log_path = folder / "watched.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent([sys.executable, "-m", "tests.support.watched", *arguments]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            **options,
        )
    launcher = Launcher(folder)
    launcher.processes.append(CoorddProcess(process, log_path))
    try:
        yield launcher.processes[0]
    finally:
        await launcher.processes[0].end()


async def test_a_stuck_loop_is_killed_and_started_again(tmp_path: Path) -> None:
    async with watched(tmp_path, "stuck-once", "exit", "7") as process:
        assert await process.wait(LIMIT_S) == 7
        assert process.log().count(HUNG) == 1
        pids = re.findall(r"^pid (\d+) hangs (\d+)$", process.log(), re.MULTILINE)
        assert [hangs for _, hangs in pids] == ["0", "1"]
        assert pids[0][0] != pids[1][0]


async def test_one_that_keeps_hanging_is_started_ever_later_and_can_be_stopped(tmp_path: Path) -> None:
    async with watched(tmp_path, "stuck") as process:
        await process.wait_log(HUNG, count=3, timeout_s=LIMIT_S)
        # The next one is due in a second: the signal finds none, or one that starts, or one that is stuck.
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) in (0, -signal.SIGTERM, 128 + signal.SIGKILL)
        hangs = re.findall(r"^pid \d+ hangs (\d+)$", process.log(), re.MULTILINE)
        assert hangs[:3] == ["0", "1", "2"]


async def test_one_that_hangs_when_it_is_told_to_stop_is_killed_and_not_started_again(tmp_path: Path) -> None:
    async with watched(tmp_path, "wait") as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        os.kill(await replica_of(process), signal.SIGSTOP)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 128 + signal.SIGKILL
        assert "[restart=false]" in process.log()
        assert process.log().count("hangs 0") == 1


async def test_one_that_does_not_end_after_its_loop_is_killed(tmp_path: Path) -> None:
    async with watched(tmp_path, "linger") as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 128 + signal.SIGKILL
        assert "the replica does not end, killing it" in process.log()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
async def test_signals_reach_it(tmp_path: Path, number: signal.Signals) -> None:
    async with watched(tmp_path, "wait") as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        process.send(number)
        assert await process.wait(LIMIT_S) == 40 + number


async def test_a_signal_that_kills_it_kills_the_parent(tmp_path: Path) -> None:
    async with watched(tmp_path, "wait") as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        process.send(signal.SIGUSR2)
        assert await process.wait(LIMIT_S) == -signal.SIGUSR2


async def test_ctrl_c_in_a_terminal_reaches_it_once(tmp_path: Path) -> None:
    # The terminal sends SIGINT to the whole foreground group, which the parent leads here.
    async with watched(tmp_path, "wait", start_new_session=True) as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        replica = await replica_of(process)
        assert os.getpgid(process.pid) == process.pid
        assert os.getpgid(replica) == replica
        os.killpg(process.pid, signal.SIGINT)
        assert await process.wait(LIMIT_S) == 40 + signal.SIGINT


async def test_a_parent_that_was_stopped_itself_gives_the_replica_time(tmp_path: Path) -> None:
    async with watched(tmp_path, "wait") as process:
        await process.wait_log("hangs 0", timeout_s=LIMIT_S)
        replica = await replica_of(process)
        for _ in range(3):
            os.kill(process.pid, signal.SIGSTOP)
            os.kill(replica, signal.SIGSTOP)
            await asyncio.sleep(1.0)
            os.kill(process.pid, signal.SIGCONT)
            await asyncio.sleep(0.05)
            os.kill(replica, signal.SIGCONT)
            await asyncio.sleep(0.5)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 40 + signal.SIGTERM
        assert HUNG not in process.log()


@contextlib.contextmanager
def crowd(size: int) -> Iterator[None]:
    """Processes that leave no processor idle."""
    spin = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    crowd = [subprocess.Popen(bound_to_parent([sys.executable, "-S", "-c", spin])) for _ in range(size)]
    try:
        yield
    finally:
        for one in crowd:
            one.kill()
            one.wait()


async def test_a_crowded_machine_is_no_hang(tmp_path: Path) -> None:
    """Pieces of work that leave time for beats, on processors that many others want at a higher priority."""
    starved = ["nice", "-n", "5", sys.executable]
    with crowd(3 * len(os.sched_getaffinity(0))):
        process = await asyncio.create_subprocess_exec(
            *starved, "-m", "tests.support.watched", "busy", "4", "exit", "7",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(120):
                assert process.stdout is not None
                output = (await process.stdout.read()).decode()
                assert await process.wait() == 7, output
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert HUNG not in output


# --- systemd ---


class Manager:
    """The service manager's end of $NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def hears(self, text: str, *, count: int = 1) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said += self._socket.recv(4096).decode().splitlines()
        return sum(text in line for line in self.said) >= count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


async def test_what_systemd_hears_from_the_parent(tmp_path: Path, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        process = await launcher.run(
            "rootcoord", milvus_yaml(etcd.endpoints, ttl_s=5), watchdog=True, env=env
        )
        await until(lambda: manager.hears("ACTIVE"), "ACTIVE", process)
        await until(lambda: manager.hears("WATCHDOG=1", count=4), "food", process)
        replica = await replica_of(process)
        os.kill(replica, signal.SIGSTOP)
        await until(lambda: manager.hears(f"STATUS=replica {replica} hung for"), "the hang", process)
        await until(lambda: manager.hears("hung and was restarted: 1 x"), "the new replica", process)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 0
        assert manager.hears("STOPPING=1")
    assert manager.said.count("READY=1") == 1
    assert manager.said.count("STOPPING=1") == 1
    order = [manager.said.index(word) for word in ("READY=1", "STOPPING=1")]
    assert order == sorted(order)


async def test_beats_feed_systemds_watchdog_and_a_new_replica_goes_on_with_it(
    tmp_path: Path, manager: Manager
) -> None:
    env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    async with watched(tmp_path, "wait", env=env) as process:
        await until(lambda: manager.hears("WATCHDOG=1", count=5), "food", process)
        os.kill(await replica_of(process), signal.SIGSTOP)
        await until(lambda: manager.hears("STATUS=up after 1"), "the next", process)
        fed = manager.said.count("WATCHDOG=1")
        await until(lambda: manager.hears("WATCHDOG=1", count=fed + 3), "food", process)


async def test_without_a_parent_the_replica_speaks_for_itself(tmp_path: Path, manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1800000"}
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints), env=env)
        await until(lambda: manager.hears("ACTIVE"), "ACTIVE", process)
        await until(lambda: manager.hears("WATCHDOG=1", count=3), "food", process)
        process.send(signal.SIGTERM)
        assert await process.wait(LIMIT_S) == 0
        assert manager.hears("STOPPING=1")
    assert manager.said.count("READY=1") == 1
