"""When the metadata is there: what stays is exempted from garbage collection, what is free is given back."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from coordd.etcd import EtcdClient, prefix_end
from coordd.ha.follower import Follower
from coordd.ha.long_lived import settle_once_loaded
from coordd.meta.fold import Fold
from tests.support.etcd import EtcdCluster, eventually, unique_root
from tests.support.memory import LEFT_MB, anonymous_mb, leave_free_memory


@pytest.fixture(autouse=True)
def all_is_looked_through_again() -> Iterator[None]:
    yield
    gc.unfreeze()


async def test_the_first_load_exempts_all_there_is_and_no_later_batch_does(etcd_server: EtcdCluster) -> None:
    prefix = f"{unique_root()}/"
    async with EtcdClient(etcd_server.settings()) as client, asyncio.TaskGroup() as group:
        follower = Follower(client, Fold([]), prefix, prefix_end(prefix))
        settle_once_loaded(follower)
        gc.unfreeze()
        assert gc.get_freeze_count() == 0
        following = group.create_task(follower.run())
        await eventually(lambda: follower.synced)
        exempted = gc.get_freeze_count()
        assert exempted > 0
        revision = await client.put(f"{prefix}a", b"1")
        await eventually(lambda: follower.revision >= revision)
        assert gc.get_freeze_count() <= exempted, "an object that ended is not there any more"
        following.cancel()


async def test_the_first_load_gives_free_memory_back(etcd_server: EtcdCluster) -> None:
    prefix = f"{unique_root()}/"
    async with EtcdClient(etcd_server.settings()) as client, asyncio.TaskGroup() as group:
        follower = Follower(client, Fold([]), prefix, prefix_end(prefix))
        settle_once_loaded(follower)
        last = leave_free_memory()
        before_mb = anonymous_mb()
        following = group.create_task(follower.run())
        await eventually(lambda: follower.synced)
        assert anonymous_mb() < before_mb - LEFT_MB
        following.cancel()
        assert last
