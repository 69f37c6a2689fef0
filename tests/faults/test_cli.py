"""The commands a new user types, as real processes."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordd.etcd.child import bound_to_parent
from tests.support.coordd import coordd_processes, etcd_client, milvus_yaml, wait_active
from tests.support.etcd import etcd_cluster

pytestmark = pytest.mark.timeout(90)


async def coordd(*arguments: str) -> tuple[int, str, str]:
    """Run one command to its end: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent([sys.executable, "-m", "coordd", *arguments]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_status_shows_who_leads_and_who_stands_by(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        active = await wait_active(client, "rootcoord")
        second = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await second.wait_log("serverName: rootcoord enter STANDBY mode")
        config = str(first.log_path.parent)
        code, out, err = await coordd("status", "--json", "--config", config)
        assert code == 0, err
        report = json.loads(out)
        rootcoord = report["roles"][0]
        assert rootcoord["role"] == "rootcoord"
        assert rootcoord["active"]["epoch"] == active.mod_revision
        assert rootcoord["active"]["server_id"] == active.record.server_id
        assert rootcoord["active"]["pid"] == first.pid
        assert abs(rootcoord["active"]["since_ms"] - time.time() * 1000) < 60_000
        assert 0 < rootcoord["active"]["lease_left_s"] <= 30
        (standby,) = rootcoord["standbys"]
        assert standby["state"] == "STANDBY"
        assert standby["pid"] == second.pid
        assert any("3.5.1" in warning or "data" in warning for warning in report["warnings"]), report[
            "warnings"
        ]
        code, out, err = await coordd("status", "--config", config)
        assert code == 0, err
        assert "ACTIVE" in out
        assert "STANDBY" in out
        assert active.record.address in out


async def test_status_without_etcd_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "milvus.yaml").write_text("etcd:\n  endpoints: 127.0.0.1:1\n  requestTimeout: 500\n")
    code, out, err = await coordd("status", "--config", str(tmp_path))
    assert code == 1
    assert out == ""
    assert "127.0.0.1:1" in err
    assert "Traceback" not in err


async def test_version_and_help() -> None:
    code, out, _ = await coordd("version")
    assert code == 0
    assert re.match(r"coordd \d+\.\d+\.\d+ ", out)
    code, out, _ = await coordd("--help")
    assert code == 0
    for command in ("run", "dev", "status", "config", "version"):
        assert command in out


@asynccontextmanager
async def dev(tmp_path: Path, **env: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Path]]:
    out_path = tmp_path / "dev.out"
    with out_path.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent([sys.executable, "-m", "coordd", "dev", "--data", str(tmp_path / "data")]),
            stdout=out,
            stderr=out,
            env={**os.environ, **env},
        )
    try:
        yield process, out_path
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def wait_for(path: Path, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
    """The last match of `pattern` in what the command has printed, once there is one."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = list(re.finditer(pattern, path.read_text(), re.MULTILINE))
        if found:
            return found[-1]
        assert time.monotonic() < deadline, path.read_text()
        await asyncio.sleep(0.05)


def descendants_of(pid: int) -> set[int]:
    """Its children and theirs: a replica is the child of its watchdog."""
    children = children_of(pid)
    return children.union(*map(descendants_of, children))


def children_of(pid: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.add(int(stat.parent.name))
    return found


async def test_dev_shows_a_takeover_after_kill_9_and_leaves_nothing_running(tmp_path: Path) -> None:
    # Were it taken over, the replicas would join a cluster that is none of theirs.
    async with dev(tmp_path, ETCD_ENDPOINTS="127.0.0.1:1", ROOT_COORD_PORT="1") as (process, out):
        await wait_for(out, r"STANDBY")
        active = await wait_for(out, r"^\s*rootcoord\s+coordd (\d+)\s+ACTIVE\s+(\d+)\s.*?(\d+)\s*$")
        server_id, epoch, pid = (int(group) for group in active.groups())
        assert f"kill -9 {pid}" in out.read_text()
        children = descendants_of(process.pid)
        assert pid in children
        assert len(children_of(process.pid)) == 3, "etcd and two replicas"
        printed = len(out.read_text())
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            await asyncio.sleep(0.05)
            heirs = re.findall(r"coordd (\d+)\s+ACTIVE\s+(\d+)", out.read_text()[printed:])
            if heirs and int(heirs[-1][0]) != server_id:
                break
            assert time.monotonic() < deadline, out.read_text()
        assert int(heirs[-1][1]) > epoch
        children |= descendants_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        assert "Traceback" not in out.read_text()
        assert "fork" not in out.read_text(), "gRPC has nothing to say about our child processes"


async def test_dev_ends_with_its_etcd(tmp_path: Path) -> None:
    async with dev(tmp_path) as (process, out):
        await wait_for(out, r"STANDBY")
        children = descendants_of(process.pid)
        (etcd,) = (child for child in children if "--data-dir" in Path(f"/proc/{child}/cmdline").read_text())
        os.kill(etcd, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), 20) == 1
        assert "coordd: the embedded etcd was killed" in out.read_text()
        assert "Traceback" not in out.read_text()
        assert not any(_runs(child) for child in children)


async def test_dev_without_replicas_is_a_wrong_command_line() -> None:
    code, _out, err = await coordd("dev", "--replicas", "0")
    assert code == 2
    assert "replicas" in err
    assert "Traceback" not in err


async def test_killing_dev_itself_leaves_nothing_running(tmp_path: Path) -> None:
    async with dev(tmp_path) as (process, out):
        await wait_for(out, r"STANDBY")
        children = descendants_of(process.pid)
        process.kill()
        await process.wait()
        deadline = time.monotonic() + 10
        while any(_runs(child) for child in children):
            assert time.monotonic() < deadline, [child for child in children if _runs(child)]
            await asyncio.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
