"""deploy/systemd/coordd@.service: systemd accepts it, it is well confined, and what it starts says READY."""

import json
import shutil
import signal
import socket
from pathlib import Path

import pytest

from coordd.config import Settings
from tests.packaging.files import COORDD, ROOT, clean_env, poll, run, running
from tests.packaging.unit_file import INSTALLED, command_line, directives, environment, instance
from tests.support.etcd import EtcdCluster, free_ports, unique_root

pytestmark = pytest.mark.timeout(60)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)"
)
MAX_EXPOSURE = 2.0
"""systemd's own measure, 0 to 10; "OK" begins below 5, a typical unconfined service has 9.6."""


@needs_systemd
@pytest.mark.parametrize("name", ["rootcoord", "rootcoord-1", "mixcoord"])
def test_systemd_accepts_it(name: str, tmp_path: Path) -> None:
    unit = instance(tmp_path, name)
    done = run(["systemd-analyze", "verify", "--man=no", unit], cwd=tmp_path)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, [])


@needs_systemd
def test_systemd_finds_mistakes(tmp_path: Path) -> None:
    unit = instance(tmp_path, "rootcoord")
    unit.write_text(unit.read_text("utf-8").replace("RestartSec=2s", "RestartSecs=2s"))
    done = run(["systemd-analyze", "verify", "--man=no", unit], cwd=tmp_path)
    assert "RestartSecs" in done.stdout + done.stderr


@needs_systemd
def test_it_is_well_confined(tmp_path: Path) -> None:
    unit = instance(tmp_path, "rootcoord")
    done = run(["systemd-analyze", "security", "--offline=yes", "--json=short", unit], cwd=tmp_path)
    findings = {item["name"]: item for item in json.loads(done.stdout)}
    open_doors = {item["json_field"] for item in findings.values() if item["set"] is False}
    # What a network server needs, and what is in use here or planned: /proc of the whole machine for
    # GetMetrics, and other processes of the same user to see a replica on the same host die.
    assert open_doors <= {
        "DeviceAllow", "IPAddressDeny", "PrivateMounts", "PrivateNetwork", "PrivateUsers", "ProcSubset",
        "RestrictAddressFamilies_AF_INET_INET6", "RestrictAddressFamilies_AF_NETLINK",
        "RestrictAddressFamilies_AF_UNIX", "RootDirectoryOrRootImage",
    }  # fmt: skip
    text = run(["systemd-analyze", "security", "--offline=yes", "--no-pager", unit], cwd=tmp_path).stdout
    exposure = float(text.rpartition("coordd@rootcoord.service: ")[2].split()[0])
    assert exposure <= MAX_EXPOSURE


def test_an_instance_is_a_role_unless_its_file_says_otherwise() -> None:
    assert command_line(environment("datacoord")) == [INSTALLED, "run", "datacoord"]
    second = environment("rootcoord-1", "ROLE=rootcoord\nROOT_COORD_PORT=53101\nMETRICS_PORT=9092\n")
    assert command_line(second) == [INSTALLED, "run", "rootcoord"]


def test_the_example_of_a_second_replica_is_the_documented_one() -> None:
    comment = (ROOT / "deploy" / "systemd" / "coordd@.service").read_text("utf-8").partition("[Unit]")[0]
    for line in ("ROLE=rootcoord", "ROOT_COORD_PORT=53101", "METRICS_PORT=9092"):
        assert line in comment
        assert line in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_systemds_own_watchdog_leaves_ours_time_to_act() -> None:
    service = directives("Service")
    (limit,) = service["WatchdogSec"]
    assert limit.endswith("s")
    assert 1000 * int(limit.removesuffix("s")) >= 10 * Settings().coordd.watchdog.timeout_ms
    assert service["WatchdogSignal"] == ["SIGKILL"], "SIGABRT would leave a core of the parent"
    assert service["Restart"] == ["on-failure"]
    assert service["KillMode"] == ["mixed"], "the parent hands the signal on; twice is once too often"


def test_what_it_starts_says_ready_and_stops_on_its_signal(tmp_path: Path, etcd_server: EtcdCluster) -> None:
    service = directives("Service")
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    (limit,) = service["WatchdogSec"]
    configs = tmp_path / "etc"
    configs.mkdir()
    (configs / "milvus.yaml").write_bytes((ROOT / "config" / "milvus.yaml").read_bytes())
    rpc, metrics = free_ports(2)
    settings = (
        f"ROLE=rootcoord\nMILVUSCONF={configs}\nETCD_ENDPOINTS={etcd_server.endpoints[0]}\n"
        f"ETCD_ROOTPATH={unique_root()}\nROOT_COORD_ENABLE_ACTIVE_STANDBY=true\n"
        f"ROOT_COORD_PORT={rpc}\nROOT_COORD_IP=127.0.0.1\nMETRICS_PORT={metrics}\n"
    )
    env = environment("rootcoord-1", settings)
    argv = [COORDD, *command_line(env)[1:]]
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)

        def hears(text: str) -> bool:
            try:
                while True:
                    said.extend(manager.recv(4096).decode().splitlines())
            except BlockingIOError:
                return any(text in line for line in said)

        limit_us = str(int(limit.removesuffix("s")) * 1_000_000)
        env = clean_env(**env, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC=limit_us)
        with running(argv, cwd=Path("/"), env=env, log=tmp_path / "log") as process:
            poll(lambda: hears("ACTIVE"), "STATUS= says ACTIVE", process=process, log=tmp_path / "log")
            assert said.count("READY=1") == 1
            assert any(line.startswith("STATUS=rootcoord ") for line in said)
            assert "WATCHDOG=1" in said
            process.send_signal(getattr(signal, service["KillSignal"][0]))
            assert process.wait(15) == 0
            assert hears("STOPPING=1")
