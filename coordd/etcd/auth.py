"""The token that etcd's user/password authentication hands out, fetched when needed, renewed when refused.

etcd's simple tokens live five minutes after their last use, and not beyond a restart of the member; JWT
tokens have a fixed life. In both cases a request with a stale token is refused before anything is done, so
it may be sent again with a new one. Any number of requests that are refused at once cause one renewal.

Source: etcd client/v3/client.go (getToken), server/auth/simple_token.go; bcrypt makes each fetch cost etcd
some 50 ms or more.
"""

import asyncio
from dataclasses import replace

from coordd.etcd.connection import CallFailedError, Connection, Metadata
from coordd.etcd.errors import AuthenticationFailed, EtcdError, RequestTimeout
from coordd.etcd.messages import rpc
from coordd.etcd.methods import AUTHENTICATE
from coordd.etcd.settings import AuthSettings
from coordd.etcd.translate import Failure, Verdict
from coordd.log import get_logger

_LOG = get_logger("coordd.etcd")
# Makes a member that has lost its leader refuse at once, instead of holding the request until it times out.
_LEADER = (("hasleader", "true"),)
_NOT_ENABLED = "authentication is not enabled"
_HINT = "check etcd.auth.userName and etcd.auth.password"


class Authenticator:
    """Gives every request its metadata. Without `etcd.auth.enabled` it never asks for a token."""

    def __init__(self, settings: AuthSettings) -> None:
        self._settings = settings
        self._token: str | None = None
        self._needed = settings.enabled
        self._lock = asyncio.Lock()
        self._metadata: Metadata = ()
        self._leader_metadata: Metadata = _LEADER

    async def metadata(
        self, connection: Connection, timeout_s: float, *, require_leader: bool = True
    ) -> Metadata:
        """The metadata of the next request; fetches the first token if there is none yet.

        Raises:
            AuthenticationFailed: etcd does not accept user and password.
            CallFailedError: the token could not be fetched for another reason.
        """
        if self._needed and self._token is None:
            await self._login(connection, timeout_s)
        return self._leader_metadata if require_leader else self._metadata

    @property
    def token(self) -> str | None:
        """The token in use, to tell `invalidate` which one was refused."""
        return self._token

    def invalidate(self, stale: str | None) -> None:
        """etcd has refused the token `stale`: fetch another before the next request, unless that is done."""
        if self._token == stale:
            self._token = None
            self._needed = True

    async def _login(self, connection: Connection, timeout_s: float) -> None:
        if not self._settings.enabled:
            raise AuthenticationFailed(
                "etcd requires a user, and none is configured",
                hint="set etcd.auth.enabled, etcd.auth.userName and etcd.auth.password",
            )
        try:
            async with asyncio.timeout(timeout_s), self._lock:
                if self._needed and self._token is None:
                    self._set(await self._fetch(connection, timeout_s))
        except TimeoutError as error:
            text = f"etcd at {connection.endpoint.name} did not answer the login within {timeout_s:.1f} s"
            failure = Failure(Verdict.NOT_TAKEN, RequestTimeout(text), from_server=False)
            raise CallFailedError(failure) from error

    async def _fetch(self, connection: Connection, timeout_s: float) -> str | None:
        user = self._settings.user_name
        login = rpc.AuthenticateRequest(name=user, password=self._settings.password.get_secret_value())
        try:
            answer = await connection.unary(AUTHENTICATE, login.SerializeToString(), _LEADER, timeout_s)
        except CallFailedError as failed:
            error = failed.failure.error
            if _NOT_ENABLED in error.message:
                _LOG.warning("etcd has authentication switched off, going on without", user=user)
                return None
            if failed.failure.verdict is Verdict.REFUSED:
                raise AuthenticationFailed(
                    f"etcd at {connection.endpoint.name} does not accept user {user!r} with this password",
                    hint=_HINT,
                ) from failed
            # The request proper is not sent yet, so whatever became of the login, it may be repeated.
            raise CallFailedError(replace(failed.failure, verdict=Verdict.NOT_TAKEN)) from failed
        return str(answer.token)

    def _set(self, token: str | None) -> None:
        self._token = token
        self._needed = token is not None
        self._metadata = () if token is None else (("token", token),)
        self._leader_metadata = _LEADER + self._metadata


def refused_again(error: EtcdError) -> AuthenticationFailed:
    """etcd gave a token and refused it right away."""
    return AuthenticationFailed(f"{error.message}; the token is fresh", hint=_HINT)
