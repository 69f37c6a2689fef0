"""`etcd.endpoints`, understood. Pure.

Spellings, as etcd's Go client takes them: `host:port`, `http://host:port`, `https://host:port`, a trailing
slash allowed, IPv6 hosts in brackets, `unix:/path`. `https://` forces TLS and `http://` and `unix:` forbid
it, whatever `etcd.ssl.enabled` says; without a scheme that setting decides.

Source: etcd client/v3/internal/endpoint/endpoint.go, client/v3/client.go (credentialsForEndpoint).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordd.etcd.errors import EndpointInvalid

_HINT = "set etcd.endpoints to host:port of every etcd member, for instance etcd-0:2379,etcd-1:2379"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One etcd address. `name` is `host:port` for people.

    `host` is a name or an IP address (without brackets), or the path of a Unix socket, which has `port` 0.
    """

    name: str
    host: str
    port: int
    tls: bool

    @property
    def is_path(self) -> bool:
        """Whether it is a Unix socket."""
        return not self.port

    @property
    def authority(self) -> str:
        """What is written into the requests as the server's name; a path is none."""
        return "localhost" if self.is_path else self.name


def parse_endpoints(texts: Sequence[str], *, tls: bool) -> tuple[Endpoint, ...]:
    """The endpoints in the order given, without repeats.

    Raises:
        EndpointInvalid: there is none, or one is not understood.
    """
    found: dict[tuple[str, int], Endpoint] = {}
    for text in texts:
        endpoint = _parse(text.strip(), tls=tls)
        found.setdefault((endpoint.host, endpoint.port), endpoint)
    if not found:
        raise EndpointInvalid("etcd.endpoints is empty", hint=_HINT)
    return tuple(found.values())


def _parse(text: str, *, tls: bool) -> Endpoint:
    scheme, separator, rest = text.partition("://")
    if text.startswith("unix:"):
        return Endpoint(text, text.removeprefix("unix:").removeprefix("//"), 0, tls=False)
    if not separator:
        scheme, rest = "", text
    if scheme not in {"", "http", "https"}:
        raise EndpointInvalid(f"etcd.endpoints: {text!r} has the unknown scheme {scheme!r}", hint=_HINT)
    host, _, port = rest.rstrip("/").rpartition(":")
    literal = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if literal else host
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise EndpointInvalid(f"etcd.endpoints: {text!r} is not host:port", hint=_HINT)
    if ":" in host and not literal:
        raise EndpointInvalid(f"etcd.endpoints: the IPv6 address in {text!r} needs brackets", hint=_HINT)
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Endpoint(name, host, int(port), scheme == "https" or (tls and scheme != "http"))
