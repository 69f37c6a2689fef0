"""Three members, and what becomes of requests, watches and leases when one or two of them fail."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

import pytest

from coordd.etcd import Compare, EtcdClient, KeepAliveAck, Put, WatchBatch, errors, prefix_end
from tests.support.etcd import EtcdCluster, EtcdMember, etcd_cluster, eventually


@pytest.fixture
async def cluster() -> AsyncIterator[EtcdCluster]:
    async with etcd_cluster(members=3) as cluster:
        yield cluster


def ordered(cluster: EtcdCluster, first: EtcdMember) -> list[str]:
    """All endpoints, `first`'s in front: the client uses it until it fails."""
    return [first.endpoint, *(endpoint for endpoint in cluster.endpoints if endpoint != first.endpoint)]


class Counter:
    """Counts up one key by fenced transactions, as an active coordinator commits; reads back when unsure."""

    def __init__(self, client: EtcdClient, key: str) -> None:
        self._client = client
        self._key = key
        self.revisions: list[int] = []
        self.unknown = 0
        self.longest_gap_s = 0.0

    async def run(self, total: int) -> None:
        """Until the key stands at `total`."""
        last = time.monotonic()
        while len(self.revisions) < total:
            fence = self.revisions[-1] if self.revisions else 0
            value = b"%d" % (len(self.revisions) + 1)
            try:
                result = await self._client.txn(
                    [Compare.mod_revision(self._key, fence)], [Put(self._key, value)], timeout_s=0.5
                )
                assert result.succeeded
                fence = result.revision
            except errors.OutcomeUnknown:
                self.unknown += 1
                fence = await self._settle(fence, value)
            except errors.Unavailable:
                continue
            self.revisions.append(fence)
            self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - last)
            last = time.monotonic()
            await asyncio.sleep(0.005)

    async def _settle(self, fence: int, value: bytes) -> int:
        """The revision at which `value` was written, at last.

        Sending the same compare again is safe: of all that were sent, only one can succeed.
        """
        while True:
            with contextlib.suppress(errors.EtcdError):
                found = (await self._client.get(self._key, timeout_s=2.0)).kv
                if found is not None and found.value == value:
                    return found.mod_revision
                result = await self._client.txn(
                    [Compare.mod_revision(self._key, fence)], [Put(self._key, value)], timeout_s=2.0
                )
                if result.succeeded:
                    return result.revision


async def follow(client: EtcdClient, root: str, batches: list[WatchBatch]) -> None:
    async with contextlib.aclosing(client.watch(root, prefix_end(root), from_revision=1)) as watch:
        async for batch in watch:
            batches += [batch]


async def keep(client: EtcdClient, lease: int, acks: list[KeepAliveAck]) -> None:
    async with contextlib.aclosing(client.keep_alive(lease, 5, 0.3)) as stream:
        async for ack in stream:
            acks += [ack]


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_commits_watch_and_lease_survive_the_loss_of_the_leader_they_talk_to(
    cluster: EtcdCluster, root: str, how: str
) -> None:
    leader = cluster.leader()
    batches: list[WatchBatch] = []
    acks: list[KeepAliveAck] = []
    async with EtcdClient(cluster.settings(endpoints=ordered(cluster, leader))) as client:
        lease = (await client.grant(5)).id
        counter = Counter(client, f"{root}counter")
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(follow(client, root, batches), name="watch")
            keeper = group.create_task(keep(client, lease, acks), name="keepalive")
            await counter.run(50)
            getattr(leader, how)()
            lost = time.monotonic()
            await counter.run(100)
            outage_s = time.monotonic() - lost
            acked = len(acks)
            await eventually(lambda: len(acks) >= acked + 2, 6.0)
            await eventually(lambda: batches[-1].revision >= counter.revisions[-1])
            watch.cancel()
            keeper.cancel()
        found = await client.get(f"{root}counter")
    assert outage_s < 6.0
    assert found.kv is not None
    assert (found.kv.value, found.kv.version) == (b"100", 100)
    seen = [event.mod_revision for batch in batches for event in batch.events]
    assert seen == counter.revisions
    for sooner, later in itertools.pairwise(acks):
        assert later.sent_at > sooner.sent_at


async def test_losing_a_follower_is_hardly_felt(cluster: EtcdCluster, root: str) -> None:
    follower = cluster.followers()[0]
    async with EtcdClient(cluster.settings(endpoints=ordered(cluster, follower))) as client:
        counter = Counter(client, f"{root}counter")
        await counter.run(20)
        counter.longest_gap_s = 0.0
        follower.kill()
        await counter.run(60)
        assert counter.longest_gap_s < 1.0
        assert counter.unknown <= 1


async def test_without_a_quorum_nothing_is_written_and_it_is_said_why(
    cluster: EtcdCluster, root: str
) -> None:
    survivor, *others = cluster.members
    async with EtcdClient(cluster.settings(endpoints=[survivor.endpoint])) as client:
        await client.put(f"{root}k", b"1")
        for other in others:
            other.kill()
        limit = time.monotonic() + 10
        while True:
            assert time.monotonic() < limit
            try:
                await client.put(f"{root}k", b"2", timeout_s=0.5)
            except errors.OutcomeUnknown:
                continue
            except errors.NoLeader:
                break
        with pytest.raises(errors.NoLeader, match="quorum"):
            await client.get(f"{root}k", timeout_s=0.5)
        stale = await client.get(f"{root}k", serializable=True, timeout_s=0.5)
        assert stale.kv is not None
        for other in others:
            other.start()
        cluster.wait_healthy()
        await client.put(f"{root}k", b"3")


async def test_status_of_all_members(cluster: EtcdCluster) -> None:
    down = cluster.followers()[0]
    down.kill()
    async with EtcdClient(cluster.settings()) as client:
        status = {one.endpoint: one for one in await client.status(timeout_s=3)}
    assert set(status) == set(cluster.endpoints)
    assert status[down.endpoint].error is not None
    up = [one for one in status.values() if one.error is None]
    assert len(up) == 2
    assert [one.is_leader for one in up].count(True) == 1
