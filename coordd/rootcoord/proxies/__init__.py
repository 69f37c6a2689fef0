"""What RootCoord tells the proxies of the cluster, and asks them.

`manager` is what the rest of RootCoord uses; `link` is the way to one proxy, `outbox` what that one
has yet to be told, `bar` the hold on timestamps of a proxy that could not be told, `bar_record` what
tells successors of it, `departures` notices whose session has ended; `health` asks for CheckHealth.
"""

from coordd.rootcoord.proxies.bar import TimestampBar
from coordd.rootcoord.proxies.bar_record import BarRecords
from coordd.rootcoord.proxies.departures import Departures
from coordd.rootcoord.proxies.health import (
    GrpcProxyClient,
    ProxyAddress,
    ProxyClient,
    ProxyUnreachableError,
    unhealthy_reasons,
)
from coordd.rootcoord.proxies.manager import ProxyFailed, ProxyManager

__all__ = [
    "BarRecords",
    "Departures",
    "GrpcProxyClient",
    "ProxyAddress",
    "ProxyClient",
    "ProxyFailed",
    "ProxyManager",
    "ProxyUnreachableError",
    "TimestampBar",
    "unhealthy_reasons",
]
