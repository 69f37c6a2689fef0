"""Fixtures of the etcd client's tests."""

from collections.abc import AsyncIterator

import pytest

from coordd.etcd import EtcdClient
from tests.support.etcd import EtcdCluster, unique_root


@pytest.fixture
async def client(etcd_server: EtcdCluster) -> AsyncIterator[EtcdClient]:
    """A client of the session's etcd."""
    async with EtcdClient(etcd_server.settings()) as client:
        yield client


@pytest.fixture
def root() -> str:
    """A prefix of keys that only this test uses."""
    return f"{unique_root()}/"
