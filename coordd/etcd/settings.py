"""What the client needs to know, as structural types.

`coordd.config.EtcdSettings` fits them; `Plain*` are for tools and tests that have no configuration file.
"""

from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr


class SslSettings(Protocol):
    """`etcd.ssl.*`. Paths are PEM files; empty or None: not given."""

    @property
    def enabled(self) -> bool: ...
    @property
    def tls_cert(self) -> object: ...
    @property
    def tls_key(self) -> object: ...
    @property
    def tls_ca_cert(self) -> object: ...
    @property
    def tls_min_version(self) -> str: ...


class AuthSettings(Protocol):
    """`etcd.auth.*`."""

    @property
    def enabled(self) -> bool: ...
    @property
    def user_name(self) -> str: ...
    @property
    def password(self) -> SecretStr: ...


class ClientSettings(Protocol):
    """The part of `etcd.*` that concerns the connection."""

    @property
    def endpoints(self) -> tuple[str, ...]: ...
    @property
    def request_timeout_ms(self) -> int: ...
    @property
    def ssl(self) -> SslSettings: ...
    @property
    def auth(self) -> AuthSettings: ...


@dataclass(frozen=True, slots=True)
class PlainSsl:
    """`SslSettings` without a configuration file."""

    enabled: bool = False
    tls_cert: object = None
    tls_key: object = None
    tls_ca_cert: object = None
    tls_min_version: str = "1.3"


@dataclass(frozen=True, slots=True)
class PlainAuth:
    """`AuthSettings` without a configuration file."""

    enabled: bool = False
    user_name: str = ""
    password: SecretStr = field(default_factory=lambda: SecretStr(""))


@dataclass(frozen=True, slots=True)
class PlainSettings:
    """`ClientSettings` without a configuration file."""

    endpoints: tuple[str, ...]
    request_timeout_ms: int = 10_000
    ssl: SslSettings = field(default_factory=PlainSsl)
    auth: AuthSettings = field(default_factory=PlainAuth)
