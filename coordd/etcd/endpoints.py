"""`etcd.endpoints` as gRPC targets. Pure.

Spellings, as etcd's Go client takes them: `host:port`, `http://host:port`, `https://host:port`, a trailing
slash allowed, IPv6 hosts in brackets, `unix:/path`. `https://` forces TLS and `http://` and `unix:` forbid
it, whatever `etcd.ssl.enabled` says; without a scheme that setting decides.

Source: etcd client/v3/internal/endpoint/endpoint.go, client/v3/client.go (credentialsForEndpoint).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from coordd.etcd.errors import EndpointInvalid

_HINT = "set etcd.endpoints to host:port of every etcd member, for instance etcd-0:2379,etcd-1:2379"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One etcd address. `name` is `host:port` for people, `target` gRPC's name for it."""

    name: str
    host: str
    port: int
    target: str
    tls: bool


def parse_endpoints(texts: Sequence[str], *, tls: bool) -> tuple[Endpoint, ...]:
    """The endpoints in the order given, without repeats.

    Raises:
        EndpointInvalid: there is none, or one is not understood.
    """
    found: dict[str, Endpoint] = {}
    for text in texts:
        endpoint = _parse(text.strip(), tls=tls)
        found.setdefault(endpoint.target, endpoint)
    if not found:
        raise EndpointInvalid("etcd.endpoints is empty", hint=_HINT)
    return tuple(found.values())


def _parse(text: str, *, tls: bool) -> Endpoint:
    scheme, separator, rest = text.partition("://")
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        return Endpoint(text, path, 0, f"unix:{path}", tls=False)
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
    secure = scheme == "https" or (tls and scheme != "http")
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Endpoint(name, host, int(port), _target(host, port), secure)


def _target(host: str, port: str) -> str:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return f"dns:///{host}:{port}"
    return f"ipv4:{host}:{port}" if version == 4 else f"ipv6:{quote(f'[{host}]:{port}', safe=':')}"
