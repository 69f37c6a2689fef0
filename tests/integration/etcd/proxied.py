"""A client whose way to etcd leads through a proxy."""

import contextlib
from collections.abc import AsyncIterator

from coordd.etcd import EtcdClient
from tests.support.etcd import EtcdCluster
from tests.support.tcp_proxy import TcpProxy, tcp_proxy


@contextlib.asynccontextmanager
async def proxied(
    cluster: EtcdCluster, *, direct: bool = False
) -> AsyncIterator[tuple[TcpProxy, EtcdClient]]:
    """Proxy and client; with `direct`, the client also knows etcd's own address, as its second endpoint."""
    async with tcp_proxy(cluster.endpoints[0]) as proxy:
        endpoints = [proxy.endpoint, *(cluster.endpoints if direct else ())]
        async with EtcdClient(cluster.settings(endpoints=endpoints)) as client:
            yield proxy, client
