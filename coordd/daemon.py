"""One coordd process: settings in, replicas of one or three roles out, until it is told to stop.

Assembly only: it makes the parts, connects them and ends them in order. What a replica does is in
`coordd.ha`, what a role answers in its own package.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from coordd import log as logging
from coordd.config import ConfigWatcher, EtcdReader, LoadedConfig, Settings, log_findings, with_etcd
from coordd.datacoord import DataCoord
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, prefix_end
from coordd.etcd.embedded import EmbeddedEtcd
from coordd.etcd.errors import EtcdError
from coordd.etcd.settings import ClientSettings, PlainSettings
from coordd.etcd.version import version_warnings
from coordd.ha.coordinator import Coordinator
from coordd.ha.detector import wait_gone
from coordd.ha.evidence import Evidence
from coordd.ha.failures import is_permanent
from coordd.ha.huge_pages import keep_in_huge_pages
from coordd.ha.life_lock import take_life_lock
from coordd.ha.long_lived import settle_once_loaded
from coordd.ha.replica import Replica
from coordd.ha.session import LocalIdentity, SessionRecord, advertised_address
from coordd.ha.settings import ReplicaSettings
from coordd.ha.tasks import TaskScope, raise_if_cancelled
from coordd.management.metrics import Metrics, RootCoordFigures
from coordd.management.server import ManagementServer
from coordd.management.systemd import ServiceManager, SystemdNotifier
from coordd.management.view import HaReplicaView
from coordd.meta.layout import MetaLayout
from coordd.querycoord import QueryCoord
from coordd.rootcoord import RootCoord
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.forward import GrpcForwarder
from coordd.rpc.port import PortReservation
from coordd.rpc.server import GrpcServer, ServerOptions
from coordd.supervisor import ParentLink
from coordd.version import MILVUS_VERSION, coordd_version

log = logging.get_logger("coordd.daemon")

MAX_DRAIN_S = 1.0
"""Leadership is given up first, not last: however long `grpc.gracefulStopTimeout` is, a stopping active
replica keeps its standbys waiting no longer than this for calls in flight."""
STATUS_INTERVAL_S = 0.5
ETCD_RETRY_S = 1.0
HELPER_RESTART_S = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

SECTION_NAMES = {"rootcoord": "rootCoord", "datacoord": "dataCoord", "querycoord": "queryCoord"}


class LogFileError(CoorddError):
    """The log file cannot be written."""


class RoleCoordinator(Coordinator, Protocol):
    """A coordinator that also says which RPCs it answers."""

    def add_services(self, table: DispatchTable, replica: Replica) -> None:
        """Serve the role's methods through `table`, for as long as the process lives."""

    def figures(self, replica: Replica) -> RootCoordFigures | None:
        """What the role can tell of itself under Milvus' metric names; None for the other roles."""


ROLES: Mapping[str, Callable[[Callable[[], LoadedConfig], MetaLayout, EtcdClient], RoleCoordinator]] = {
    "rootcoord": RootCoord,
    "datacoord": DataCoord,
    "querycoord": QueryCoord,
}


@dataclass(slots=True)
class TermServer:
    """The gRPC server of one term, on the port that the process has reserved."""

    server: GrpcServer
    host: str
    port: int
    setting: str

    async def listen(self) -> None:
        """Bind and listen, accept nothing yet."""
        self.server.listen(self.host, self.port, setting=self.setting)

    async def start(self) -> None:
        """Accept connections, unless it was stopped already."""
        await self.server.start()

    async def stop(self, grace_s: float) -> None:
        """Stop; calls in flight get `grace_s`. May be cancelled: then they get no more."""
        await self.server.stop(grace_s)


@dataclass(eq=False)
class Daemon:
    """A process that runs `roles`. `mixed`: they were asked for as mixcoord.

    `parent`: the supervising process, which then also speaks to systemd; `watchdog`: whether it may judge us.
    """

    loaded: LoadedConfig
    roles: tuple[str, ...]
    mixed: bool = False
    parent: ParentLink | None = None
    watchdog: bool = True
    replicas: list[Replica] = field(default_factory=list)
    _watcher: ConfigWatcher | None = None
    _embedded: EmbeddedEtcd | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _notifier: ServiceManager = field(init=False)
    _failures: list[Exception] = field(default_factory=list)
    _metrics: Metrics = field(
        default_factory=lambda: Metrics(version=coordd_version(), milvus_version=MILVUS_VERSION)
    )

    def __post_init__(self) -> None:
        self._notifier = SystemdNotifier() if self.parent is None else self.parent

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT, SIGHUP or SIGQUIT; leadership is given up before it returns.

        Raises:
            CoorddError: it cannot start (port in use, wrong credentials, log file not writable, ...).
            ExceptionGroup: a role failed (it is held exclusively, no server ID can be allocated, ...); the
                others have given leadership up.
        """
        settings = self.loaded.settings
        _configure_logging(settings, self.roles)
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._stop, signal.Signals(number).name)
        log.info(
            "coordd starts",
            roles=self.roles,
            version=coordd_version(),
            files=[str(p) for p in self.loaded.paths],
            **({"after_hangs": self.parent.hangs} if self.parent and self.parent.hangs else {}),
        )
        async with AsyncExitStack() as stack:
            if self.parent is not None:
                stack.callback(self.parent.close)
            self._beat()
            take_life_lock()
            # Before etcd is asked for anything: a port that is taken is an error at once.
            ports = {role: stack.enter_context(_reserve_port(settings, role)) for role in self.roles}
            if settings.etcd.use_embed:
                self._embedded = await stack.enter_async_context(EmbeddedEtcd(settings.etcd.data_dir))
            client = await stack.enter_async_context(EtcdClient(self._etcd_settings()))
            if not await self._overlay_etcd(client):
                return
            _configure_logging(self.loaded.settings, self.roles)
            self._beat()
            for role in self.roles:
                if _port_settings(self.loaded.settings, role) != _port_settings(settings, role):
                    ports[role].release()
                    ports[role] = stack.enter_context(_reserve_port(self.loaded.settings, role))
            self._metrics.set_etcd(client)
            for role in self.roles:
                self.replicas.append(self._replica(role, ports[role], client))
            await stack.enter_async_context(self._management())
            await self._run_replicas(client)

    async def _run_replicas(self, client: EtcdClient) -> None:
        async with TaskScope() as scope:
            for name, helper in (
                ("status", self._report),
                ("settings", lambda: self._refresh_settings(client)),
                ("etcd versions", lambda: _warn_of_etcd_bugs(client)),
                ("huge pages", keep_in_huge_pages),
            ):
                scope.create_task(_keep_up(name, helper), name=name)
            if self._embedded is not None:
                scope.create_task(self._embedded.wait_ended(), name="embedded etcd")
            async with asyncio.TaskGroup() as running:
                for replica in self.replicas:
                    running.create_task(self._run_replica(replica), name=replica.settings.role)
                if self._stopping.is_set():
                    self._stop_replicas()
        self._notifier.stopping()
        log.info("coordd ends", roles=self.roles)
        if self._failures:
            raise ExceptionGroup("a role failed", self._failures)

    async def _run_replica(self, replica: Replica) -> None:
        """Run it to its end; if it fails, the other roles of the process end too, in good order."""
        try:
            await replica.run()
        except Exception as failure:  # noqa: BLE001 - raised when the others have ended
            self._failures.append(failure)
            if len(self.replicas) > 1:
                log.error("a role failed, the process ends", role=replica.settings.role, reason=str(failure))
            self._stop_replicas()

    def _stop(self, why: str) -> None:
        log.info("asked to stop", signal=why, roles=self.roles)
        self._notifier.stopping()
        self._stopping.set()
        self._stop_replicas()

    def _stop_replicas(self) -> None:
        for replica in self.replicas:
            replica.request_stop()

    # --- assembly ---

    def _etcd_settings(self) -> ClientSettings:
        """Where etcd is: the configured endpoints, or the embedded server that runs while we do."""
        etcd = self.loaded.settings.etcd
        if self._embedded is None:
            return etcd
        return PlainSettings(endpoints=self._embedded.endpoints, request_timeout_ms=etcd.request_timeout_ms)

    def _replica(self, role: str, port: PortReservation, client: EtcdClient) -> Replica:
        settings = self.loaded.settings
        section = settings.coordinator(role)
        etcd = settings.etcd
        layout = MetaLayout(etcd.root_path, etcd.meta_sub_path, etcd.kv_sub_path)
        coordinator = ROLES[role](self._newest, layout, client)
        options = ServerOptions(
            max_receive_bytes=section.server_max_recv_size,
            max_send_bytes=section.server_max_send_size,
            max_concurrent_rpcs=settings.coordd.rpc.max_concurrent_rpcs,
        )
        host, setting = settings.coordd.rpc.listen_host, f"{SECTION_NAMES[role]}.port"
        failover = settings.coordd.failover
        replica = Replica(
            settings=ReplicaSettings(
                role=role,
                address=advertised_address(section.ip, port.port),
                active_standby=settings.active_standby(role, mixed=self.mixed),
                ttl_s=settings.common.session_ttl_s,
                registration_attempts=settings.common.session_retry_times,
                heartbeat_interval_ms=failover.heartbeat_interval_ms,
                serve_guard_ms=failover.serve_guard_ms,
                margin_ms=failover.margin_ms,
                forward_grace_ms=failover.forward_grace_ms,
                drain_s=self._drain_s,
                milvus_version=MILVUS_VERSION,
                switch_key=f"{SECTION_NAMES[role]}.enableActiveStandby",
            ),
            client=client,
            layout=layout,
            coordinator=coordinator,
            server_factory=lambda: TermServer(GrpcServer(dispatcher, options), host, port.port, setting),
            make_forwarder=GrpcForwarder,
            detect=_watch_process if failover.crash_detection else None,
        )
        settle_once_loaded(replica.follower)
        table = DispatchTable()
        coordinator.add_services(table, replica)
        dispatcher = Dispatcher(table, replica.gate, cluster=settings.common.cluster)
        self._metrics.add_replica(HaReplicaView(replica), dispatcher, coordinator.figures(replica))
        return replica

    def _management(self) -> ManagementServer:
        management = self.loaded.settings.coordd.management
        return ManagementServer(
            [HaReplicaView(replica) for replica in self.replicas],
            self._metrics,
            host=management.listen_host,
            port=management.port,
            allow_remote_changes=management.allow_remote_changes,
        )

    # --- settings ---

    async def _overlay_etcd(self, client: EtcdClient) -> bool:
        """Put the settings in etcd above the others; waits for etcd. False if asked to stop meanwhile.

        Raises:
            EtcdError: waiting cannot mend it (credentials, certificates, addresses).
            ConfigError: a value in etcd is wrong.
        """
        warned = False
        while not self._stopping.is_set():
            try:
                self.loaded = await with_etcd(self.loaded, self._reader(client))
            except (EtcdError, TimeoutError) as error:
                if isinstance(error, EtcdError) and is_permanent(error):
                    raise
                if not warned:
                    silence = f"no answer from {', '.join(client.endpoints)}"
                    log.warning("etcd cannot be reached, waiting for it", reason=str(error) or silence)
                    warned = True
                await self._pause(ETCD_RETRY_S)
            else:
                log_findings(self.loaded, log)
                return True
        return False

    def _reader(self, client: EtcdClient) -> EtcdReader:
        prefix = f"{self.loaded.settings.etcd.config_prefix}/"

        async def read() -> dict[str, str]:
            found = await client.range(prefix, prefix_end(prefix))
            return {kv.key.removeprefix(prefix): kv.value.decode("utf-8", "replace") for kv in found.kvs}

        return read

    async def _refresh_settings(self, client: EtcdClient) -> None:
        def changed(settings: Settings, _changes: object) -> None:
            logging.set_level(settings.log.level)

        self._watcher = ConfigWatcher(self._newest(), changed, reader=self._reader(client))
        await self._watcher.run()

    def _drain_s(self) -> float:
        settings = self.loaded.settings if self._watcher is None else self._watcher.settings
        return min(settings.grpc.graceful_stop_timeout_s, MAX_DRAIN_S)

    def _newest(self) -> LoadedConfig:
        """The configuration as of the latest refresh; `loaded` is that of the start."""
        return self.loaded if self._watcher is None else self._watcher.loaded

    # --- small tasks ---

    def _beat(self) -> None:
        """Beat for the supervising process, as the settings say now."""
        if self.parent is not None:
            settings = self.loaded.settings
            self.parent.watch(
                asyncio.get_running_loop(),
                enabled=self.watchdog and settings.coordd.watchdog.enabled,
                timeout_ms=settings.coordd.watchdog.timeout_ms,
                json_lines=settings.log.format == "json",
            )

    async def _report(self) -> None:
        """Keep the service manager's status line true; READY is said once every role has a session."""
        while True:
            self._notifier.status(
                ", ".join(
                    f"{r.settings.role} {r.state.upper()} (server {r.gate.server_id})" for r in self.replicas
                ),
                ready=all(replica.state != "registering" for replica in self.replicas),
            )
            await asyncio.sleep(STATUS_INTERVAL_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _configure_logging(settings: Settings, roles: tuple[str, ...]) -> None:
    file = settings.log.file
    path = None if file.root_path is None else file.root_path / f"{'-'.join(roles)}.log"
    try:
        logging.configure(
            level=settings.log.level,
            json_lines=settings.log.format == "json",
            stdout=settings.log.stdout,
            file=path,
            file_max_bytes=file.max_size_mb << 20,
            file_backups=file.max_backups,
            file_max_age_days=file.max_age_days,
        )
    except OSError as error:
        raise LogFileError(
            f"cannot write the log file {path}: {error.strerror}",
            hint="its folder is set by log.file.rootPath",
        ) from error


async def _watch_process(record: SessionRecord) -> Evidence:
    """Wait for evidence that the process which wrote this record is gone."""
    return await wait_gone(record, LocalIdentity.of_this_process())


def _reserve_port(settings: Settings, role: str) -> PortReservation:
    host, port = _port_settings(settings, role)
    return PortReservation(host, port, setting=f"{SECTION_NAMES[role]}.port")


def _port_settings(settings: Settings, role: str) -> tuple[str, int]:
    return settings.coordd.rpc.listen_host, settings.coordinator(role).port


async def _keep_up(name: str, helper: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run what the coordinators can do without; a failure of it is logged, and it is started again."""
    while True:
        try:
            await helper()
        except Exception:
            log.exception("a helper task failed, starting it again", task=name)
            raise_if_cancelled()
            await asyncio.sleep(HELPER_RESTART_S)
        else:
            return


async def _warn_of_etcd_bugs(client: EtcdClient) -> None:
    """One line per member; `coordd status --json` lists every bug."""
    for member in await client.status():
        bugs = version_warnings(member.version) if member.version else []
        if bugs:
            log.warning(
                "etcd server version has known data-loss bugs, `coordd status --json` lists them",
                endpoint=member.endpoint,
                version=member.version,
                bugs=len(bugs),
                first=bugs[0],
            )
