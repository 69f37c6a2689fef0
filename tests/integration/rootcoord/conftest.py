"""Fixtures of RootCoord's tests on a real etcd."""

import pytest

from coordd.etcd import EtcdClient
from coordd.meta.layout import MetaLayout
from tests.unit.meta.samples import collection_value


@pytest.fixture
async def one_collection(client: EtcdClient, layout: MetaLayout) -> None:
    """A collection in the cluster, which uses one channel."""
    await client.put(layout.collection(1, 50), collection_value(50, "c"))
