"""The management port: health, metrics and log level over HTTP.

| path | answers |
|---|---|
| `/healthz` | Milvus' health: 200 `OK` if ACTIVE or STANDBY, else 500; JSON if asked with that Content-Type |
| `/livez` | 200: the event loop runs |
| `/readyz` | 200 if every replica leads or could take over at once, else 503 |
| `/leader` | 200 if every replica, or that of `?role=`, is ACTIVE and may answer right now, else 503 |
| `/standby` | the same for: stands by with warm tables |
| `/metrics`, `/metrics_default` | Prometheus text: ours and Milvus' / the process |
| `/log/level` | GET and PUT, as zap's level handler |

Reads what the replicas hold in memory and waits for nothing. The port is unauthenticated, as in Milvus:
reading is open to whoever reaches it, changing something is for this machine only unless a setting says
otherwise.

Source of truth: Milvus 2.3.5 internal/http/server.go and router.go.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from aiohttp import web

from coordd.errors import CoorddError
from coordd.log import get_logger
from coordd.management import log_level
from coordd.management.health import health, is_leader, is_ready, is_standby, verdict
from coordd.management.metrics import CONTENT_TYPE, Metrics
from coordd.management.view import ReplicaView
from coordd.rpc.port import PortReservation, bind

SETTING = "coordd.management.port (environment: METRICS_PORT)"
_JSON = "application/json"
_Handler = Callable[[web.Request], Awaitable[web.Response]]
_MAX_BODY_BYTES = 4096
_REMOTE_CHANGE = "changes are taken from this machine only (coordd.management.allowRemoteChanges)"
_SHUTDOWN_S = 0.5

log = get_logger("coordd.management")


class ManagementServer:
    """Serves from entering to leaving the context.

    `host` "" is all interfaces, `port` 0 any free one. `allow_remote_changes` lets other machines PUT, too.

    Attributes:
        port: the port in use, once entered.
    """

    def __init__(
        self,
        replicas: Sequence[ReplicaView],
        metrics: Metrics,
        *,
        host: str = "",
        port: int = 9091,
        allow_remote_changes: bool = False,
    ) -> None:
        self.port = port
        self._host = host
        self._replicas = tuple(replicas)
        self._metrics = metrics
        self._allow_remote_changes = allow_remote_changes
        self._reservation: PortReservation | None = None
        self._listening: socket.socket | None = None
        self._runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S
        )

    async def __aenter__(self) -> Self:
        """Listen and serve.

        Raises:
            PortInUse: names address and setting.
            ListenError: the address cannot be listened on for another reason.
        """
        # The reservation also finds a clash with a gRPC port that is reserved and not listened on yet.
        self._reservation = PortReservation(self._host, self.port, setting=SETTING)
        self.port = self._reservation.port
        try:
            self._listening = bind(self._host, self.port, SETTING)
            await self._runner.setup()
            await web.SockSite(self._runner, self._listening).start()
        except BaseException:
            await self._close()
            raise
        log.info("management listen", addr=f"{self._host}:{self.port}")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self._runner.cleanup()
        if self._listening is not None:
            self._listening.close()
        if self._reservation is not None:
            self._reservation.release()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/livez", self._livez),
                web.get("/readyz", self._verdict(is_ready)),
                web.get("/leader", self._verdict(is_leader)),
                web.get("/standby", self._verdict(is_standby)),
                web.get("/metrics", self._prometheus(self._metrics.text)),
                web.get("/metrics_default", self._prometheus(self._metrics.default_text)),
                web.route("*", "/log/level", self._log_level),
            ]
        )
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        found = health(self._replicas)
        if request.headers.get("Content-Type") == _JSON:
            return web.Response(text=found.json(), status=found.http_status, content_type=_JSON)
        return web.Response(text=found.state, status=found.http_status)

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="OK")

    def _verdict(self, test: Callable[[ReplicaView], bool]) -> _Handler:
        async def answer(request: web.Request) -> web.Response:
            role = request.query.get("role")
            replicas = [view for view in self._replicas if role in (None, view.role)]
            if not replicas:
                return web.Response(text=f"no replica of {role} in this process\n", status=404)
            status, text = verdict(replicas, test)
            return web.Response(text=text, status=status)

        return answer

    def _prometheus(self, text: Callable[[], bytes]) -> _Handler:
        async def answer(_request: web.Request) -> web.Response:
            return web.Response(body=text(), headers={"Content-Type": CONTENT_TYPE})

        return answer

    async def _log_level(self, request: web.Request) -> web.Response:
        if request.method in ("GET", "HEAD"):
            return web.Response(text=log_level.current(), content_type=_JSON)
        if request.method != "PUT":
            return _refused(405, "Only GET and PUT are supported.")
        if not (self._allow_remote_changes or _from_this_machine(request)):
            return _refused(403, _REMOTE_CHANGE)
        try:
            before, after = log_level.change(request.content_type, await request.text())
        except CoorddError as error:
            return _refused(400, str(error))
        except UnicodeDecodeError:
            return _refused(400, "malformed request body: not UTF-8")
        if before != after:
            log.warning("log level changed", before=before, after=after, peer=request.remote)
        return web.Response(text=log_level.current(), content_type=_JSON)


def _refused(status: int, text: str) -> web.Response:
    return web.Response(text=log_level.error(text), status=status, content_type=_JSON)


def _from_this_machine(request: web.Request) -> bool:
    """Whether the peer of the connection itself is loopback; headers that claim another are not read."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    if not peer:
        return False
    address = ipaddress.ip_address(peer[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
