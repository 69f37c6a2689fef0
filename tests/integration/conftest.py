"""Fixtures of all tests on the session's etcd."""

from collections.abc import AsyncIterator

import pytest

from coordd.etcd import EtcdClient
from coordd.meta.layout import MetaLayout
from tests.support.etcd import EtcdCluster, unique_root


@pytest.fixture
async def client(etcd_server: EtcdCluster) -> AsyncIterator[EtcdClient]:
    """A client of the session's etcd."""
    async with EtcdClient(etcd_server.settings()) as connected:
        yield connected


@pytest.fixture
def layout() -> MetaLayout:
    """The keys of a cluster that only this test uses."""
    return MetaLayout(unique_root(), "meta", "kv")
