"""MilvusLab: etcd, Kafka and any number of real Milvus or coordd processes in one work folder.

Every process has its own folder (milvus.yaml, glog.conf, log) and its own ports on 127.0.0.1. Leaving the
``with`` block ends all of them by pid; should the test process die first, the kernel ends them.

Known to Milvus and not configurable: pid locks under /run/milvus and /tmp/milvus/server_id_<pid>. Neither
stops a second instance.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.lab.config import COORDINATORS, ClusterConfig, ProcessPorts, coordd_yaml, milvus_yaml
from tests.lab.etcd import LabEtcd
from tests.lab.install import LabFiles, install
from tests.lab.process import LabProcess, Ports
from tests.lab.wire import component_state

# Cold start of one process on a loaded machine of two cores; measured: 1-3 s for a whole cluster.
START_TIMEOUT_S = 60.0
NODES = ("proxy", "datanode", "querynode", "indexnode")
PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Component:
    """A process of the cluster. ``kind`` is "milvus" or "coordd"."""

    role: str
    kind: str
    process: LabProcess
    ports: ProcessPorts

    @property
    def address(self) -> str:
        """Public gRPC address."""
        return f"127.0.0.1:{self.ports.rpc}"

    @property
    def health_address(self) -> str:
        """Where GetComponentStates is answered: a proxy does that on its internal port only."""
        return f"127.0.0.1:{self.ports.internal}" if self.role == "proxy" else self.address

    def state(self) -> str | None:
        """State code name by GetComponentStates, None without an answer."""
        return component_state(self.role, self.health_address)

    def http(self, path: str) -> tuple[int, str]:
        """GET from the management port: (status, body); status 0 when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.metrics}{path}", timeout=2) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def wait_http(self, path: str, *, timeout_s: float = START_TIMEOUT_S) -> str:
        """Wait until a GET from the management port answers 200; returns the body. Raises: LabError."""

        def probe() -> tuple[str] | None:
            status, body = self.http(path)
            return (body,) if status == 200 else None

        return self.process.wait_until(probe, timeout_s=timeout_s, what=f"200 from {path}")[0]

    def wait_standby(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it stands by. coordd serves no gRPC then, its management port tells."""
        if self.kind == "coordd":
            self.wait_http("/standby", timeout_s=timeout_s)
        else:
            self.wait_state("StandBy", timeout_s=timeout_s)

    def wait_state(self, *wanted: str, timeout_s: float = START_TIMEOUT_S) -> str:
        """Wait for one of the states. Raises: LabError with the log's tail."""

        def probe() -> str | None:
            state = self.state()
            return state if state in wanted else None

        return self.process.wait_until(probe, timeout_s=timeout_s, what=f"state {' or '.join(wanted)}")


class MilvusLab:
    """A cluster.

    ``extra`` is merged into every milvus.yaml; the session TTL is in seconds (etcd's minimum is 2). With
    ``milvus=False`` there is etcd only, for coordd processes alone, and nothing needs to be installed; with
    ``kafka`` a broker all the same.
    ``etcd_arguments`` are added to etcd's command line. With ``watchdog`` coordd's process is the parent of
    the replica; without, the process that is measured, killed and paused is the replica itself, as it is with
    Milvus.
    """

    def __init__(
        self,
        work: Path,
        *,
        session_ttl_s: int = 3,
        extra: dict[str, Any] | None = None,
        milvus: bool = True,
        kafka: bool = False,
        etcd_arguments: Sequence[str] = (),
        watchdog: bool = False,
    ) -> None:
        self.work = work
        self._etcd_arguments = etcd_arguments
        self._watchdog = watchdog
        self._ports = Ports()
        self._ttl_s = session_ttl_s
        self._extra = extra or {}
        self._files: LabFiles | None = install() if milvus else None
        self._kafka = milvus or kafka
        self._others: list[LabProcess] = []
        self.components: list[Component] = []
        self._etcd: LabEtcd | None = None
        self._config: ClusterConfig | None = None

    def __enter__(self) -> MilvusLab:
        self.work.mkdir(parents=True, exist_ok=True)
        try:
            self._start_base()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.logs())
        self.stop()

    def _start_base(self) -> None:
        self._etcd = LabEtcd(self._etcd_arguments)
        self._config = ClusterConfig(
            etcd_endpoint=self._etcd.endpoint,
            kafka_brokers=self._start_kafka() if self._kafka else "127.0.0.1:9",
            storage=self.work / "storage",
            session_ttl_s=self._ttl_s,
            extra=self._extra,
        )

    def _start_kafka(self) -> str:
        published = self.work / "kafka" / "address"
        kafka = LabProcess(
            "kafka",
            [sys.executable, "-m", "tests.lab.kafka_mock", str(published)],
            cwd=self.work / "kafka",
            env={"PATH": os.defpath, "PYTHONPATH": str(PROJECT)},
        )
        self._others.append(kafka)
        return kafka.wait_until(
            lambda: published.read_text() if published.exists() else None,
            timeout_s=30,
            what="the broker's address",
        )

    @property
    def etcd(self) -> LabEtcd:
        """The etcd of the cluster."""
        assert self._etcd is not None, "outside the with block"
        return self._etcd

    @property
    def files(self) -> LabFiles:
        """What is installed."""
        assert self._files is not None, "made with milvus=False"
        return self._files

    @property
    def config(self) -> ClusterConfig:
        """What all processes share."""
        assert self._config is not None, "outside the with block"
        return self._config

    def start(self, role: str, *, name: str | None = None, extra: dict[str, Any] | None = None) -> Component:
        """Start a Milvus process of the role; does not wait. ``extra`` goes into its milvus.yaml only."""
        return self._launch("milvus", role, name or f"milvus-{role}", extra)

    def start_coordd(
        self, role: str, *, name: str | None = None, extra: dict[str, Any] | None = None
    ) -> Component:
        """Start ``coordd run ROLE``; does not wait."""
        return self._launch("coordd", role, name or f"coordd-{role}", extra)

    def start_cluster(self, *, rootcoord: Component | None = None, nodes: Iterable[str] = NODES) -> None:
        """Start all that is missing around a rootcoord (Milvus' own when none is given) and wait for it."""
        started = [rootcoord or self.start("rootcoord"), self.start("datacoord"), self.start("querycoord")]
        started += [self.start(node) for node in nodes]
        for component in started:
            component.wait_state("Healthy")

    def component(self, role: str) -> Component:
        """Return the first started component of the role."""
        return next(c for c in self.components if c.role == role)

    def _launch(self, kind: str, role: str, name: str, extra: dict[str, Any] | None) -> Component:
        folder = self.work / name
        (folder / "logs").mkdir(parents=True)
        ports = ProcessPorts(self._ports.take(), self._ports.take(), self._ports.take())
        shared = replace(self.config, extra={**self.config.extra, **(extra or {})})
        document = (milvus_yaml if kind == "milvus" else coordd_yaml)(shared, role, ports)
        (folder / "milvus.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        command, env = self._command(kind, role, folder)
        env["METRICS_PORT"] = str(ports.metrics)
        component = Component(role, kind, LabProcess(name, command, cwd=folder, env=env), ports)
        self.components.append(component)
        return component

    def _command(self, kind: str, role: str, folder: Path) -> tuple[list[str], dict[str, str]]:
        env = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.work)}
        env["DEPLOY_MODE"] = "DISTRIBUTED"
        if kind == "coordd":
            env["PYTHONPATH"] = str(PROJECT)
            options = ["--config", str(folder), *([] if self._watchdog else ["--no-watchdog"])]
            return [sys.executable, "-m", "coordd", "run", role, *options], env
        env["LD_LIBRARY_PATH"] = str(self.files.bin_dir)
        env["MILVUSCONF"] = str(folder)
        shutil.copy(self.files.glog_conf, folder / "glog.conf")
        return [str(self.files.milvus), "run", role], env

    def end_session(self, role: str) -> None:
        """Revoke the lease of the role's active process, so that nobody has to wait for a dead one's end."""
        key = f"{self.config.root_path}/meta/session/{role}"
        self.etcd.revoke_lease(json.loads(self.etcd.dump(key)[key])["LeaseID"])

    def logs(self) -> str:
        """Tails of all logs, longer ones of the coordinators."""
        return "\n".join(c.process.tail(25 if c.role in COORDINATORS else 5) for c in self.components)

    def stop(self) -> None:
        """End every process: all get SIGKILL first, then each is waited for. Idempotent."""
        every = [c.process for c in self.components] + self._others
        for process in every:
            process.signal(signal.SIGKILL)
        for process in every:
            process.kill()
        if self._etcd is not None:
            self._etcd.stop()
