"""The image without an engine: its files laid out in a folder, its commands run as the compose file says."""

import contextlib
import http.client
import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.files import (
    BIN,
    HEALTHCHECK,
    MILVUS_COMMAND,
    ROOT,
    clean_env,
    coordinators,
    poll,
    run,
    running,
)
from tests.support.etcd import EtcdCluster, free_ports, unique_root

pytestmark = pytest.mark.timeout(90)

PORT_VARIABLES = {
    "rootcoord": "ROOT_COORD_PORT",
    "datacoord": "DATA_COORD_PORT",
    "querycoord": "QUERY_COORD_PORT",
}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(the image's working directory, its PATH)."""
    home, programs = tmp_path / "milvus", tmp_path / "usr-local-bin"
    (home / "configs").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(ROOT / "config" / "milvus.yaml", home / "configs")
    shutil.copy(MILVUS_COMMAND, programs)
    shutil.copy(HEALTHCHECK, programs)
    home.chmod(0o555)  # the compose file mounts the image read-only
    yield home, f"{BIN}:{programs}:/usr/bin:/bin"
    home.chmod(0o755)


@pytest.mark.parametrize("role", ["rootcoord", "datacoord", "querycoord"])
def test_a_pair_of_the_compose_file_comes_up_and_takes_over(
    role: str, image: tuple[Path, str], etcd_server: EtcdCluster, tmp_path: Path
) -> None:
    home, path = image
    root = unique_root()
    services = {name: service for name, service in coordinators().items() if name.partition("-")[0] == role}
    environments = {
        name: clean_env(
            **service["environment"]
            | {
                "PATH": path,
                "ETCD_ENDPOINTS": etcd_server.endpoints[0],
                "ETCD_ROOT_PATH": root,
                "COORDD_RPC_LISTEN_HOST": "127.0.0.1",
                "COORDD_MANAGEMENT_LISTEN_HOST": "127.0.0.1",
                PORT_VARIABLES[role]: str(rpc),
                "METRICS_PORT": str(metrics),
            }
        )
        for (name, service), rpc, metrics in zip(services.items(), free_ports(2), free_ports(2), strict=True)
    }

    def healthy(name: str) -> bool:
        return (
            run(services[name]["healthcheck"]["test"][1:], cwd=home, env=environments[name]).returncode == 0
        )

    with ExitStack() as stack:
        processes = {}
        for name, service in services.items():
            assert not healthy(name)
            log = tmp_path / f"{name}.log"
            processes[name] = stack.enter_context(
                running(service["command"], cwd=home, env=environments[name], log=log)
            )
            poll(lambda name=name: healthy(name), f"{name} is healthy", process=processes[name], log=log)
        poll(lambda: _leads(environments[role]), f"{role} leads")
        done = run(["coordd", "status", "--json"], cwd=home, env=environments[role])
        assert done.returncode == 0, done.stderr
        status = next(one for one in json.loads(done.stdout)["roles"] if one["role"] == role)
        assert _hosts_by_state(status) == {"ACTIVE": role, "STANDBY": f"{role}-1"}

        processes[role].send_signal(signal.SIGTERM)
        poll(lambda: _leads(environments[f"{role}-1"]), "the other took over")
        assert processes[role].wait(15) == 0
        assert healthy(f"{role}-1")
        assert not healthy(role)


def _leads(environment: dict[str, str]) -> bool:
    """Whether the replica is ACTIVE and may answer, by its management port."""
    connection = http.client.HTTPConnection("127.0.0.1", int(environment["METRICS_PORT"]), timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/leader")
        return connection.getresponse().status == http.client.OK


def _hosts_by_state(status: dict[str, Any]) -> dict[str, str]:
    replicas = [status["active"], *status["standbys"]]
    return {replica["state"]: replica["address"].partition(":")[0] for replica in replicas}


def test_the_health_check_says_why(image: tuple[Path, str]) -> None:
    home, path = image
    (port,) = free_ports(1)
    done = run(["healthcheck"], cwd=home, env=clean_env(PATH=path, METRICS_PORT=str(port)))
    assert done.returncode == 1
    assert str(port) in done.stdout
    assert "refused" in done.stdout
    assert done.stderr == ""


def test_the_health_check_survives_a_bad_port(image: tuple[Path, str]) -> None:
    home, path = image
    done = run(["healthcheck"], cwd=home, env=clean_env(PATH=path, METRICS_PORT="metrics"))
    assert done.returncode == 1
    assert "metrics" in done.stdout
    assert done.stderr == ""
