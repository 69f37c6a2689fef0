"""Fixtures of the commands' tests."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from coordd import log
from coordd.etcd import EtcdClient
from tests.integration.cli.support import Role
from tests.support.etcd import EtcdCluster, unique_root


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Puts back what a command that runs in this process sets."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger(log.ROOT_LOGGER).level
    yield
    root.handlers, root.level = before[0], before[1]
    logging.getLogger(log.ROOT_LOGGER).setLevel(before[2])


@pytest.fixture
async def role(etcd_server: EtcdCluster, tmp_path: Path) -> AsyncIterator[Role]:
    """A rootcoord without any replica yet."""
    async with EtcdClient(etcd_server.settings()) as client:
        yield Role(client, unique_root(), tmp_path, list(etcd_server.endpoints))
