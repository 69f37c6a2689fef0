"""Fenced commits on a real etcd: limits, lost answers, lost leadership, a full disk."""

import asyncio
import contextlib

import pytest

from coordd.clock import boottime
from coordd.etcd import MAX_REQUEST_BYTES, MAX_TXN_OPS, Delete, EtcdClient, Put
from coordd.etcd.errors import OutcomeUnknown, Unavailable
from coordd.meta.commit import CommitConflict, FenceLost, MetadataFull, TransactionTooLarge, split
from tests.integration.meta.support import Term, term
from tests.support.etcd import EtcdCluster, etcd_cluster, eventually, unique_root
from tests.support.tcp_proxy import tcp_proxy


async def test_commit_read_and_conflict(etcd_server: EtcdCluster) -> None:
    async with term(etcd_server.settings(), unique_root()) as one:
        revision = await one.committer.commit([Put(one.key("1"), b"x"), Put(one.key("2"), b"y")])
        read = await one.committer.read([one.key("1"), one.key("none")])
        assert read.mod_revision(one.key("1")) == revision == one.fold.mod_revision(one.key("1"))
        assert read.values[one.key("none")] is None
        foreign = await one.client.put(one.key("1"), b"foreign")
        with pytest.raises(CommitConflict) as caught:
            await one.committer.commit([Put(one.key("1"), b"z")])
        assert caught.value.actual == foreign
        await one.committer.commit([Delete(one.key("1"))], guard_revision=foreign)
        assert await one.stored("1") is None


async def test_a_deposed_replica_writes_nothing(etcd_server: EtcdCluster) -> None:
    async with term(etcd_server.settings(), unique_root()) as one:
        await one.client.put(one.active_key, b"me")
        with pytest.raises(FenceLost) as caught:
            await one.committer.commit([Put(one.key("1"), b"x")])
        with pytest.raises(FenceLost):
            await one.committer.commit([Put(one.key("2"), b"x")])
        assert caught.value.committed is False
        assert [await one.stored("1"), await one.stored("2")] == [None, None]
        assert len(one.losses) == 1


async def test_limits_of_the_server(etcd_server: EtcdCluster) -> None:
    async with term(etcd_server.settings(), unique_root()) as one:
        await one.committer.commit([Put(one.key(str(index)), b"x") for index in range(MAX_TXN_OPS)])
        assert len(one.table.values) == MAX_TXN_OPS
        for ops in (
            [Put(one.key(str(index)), b"y") for index in range(MAX_TXN_OPS + 1)],
            [Put(one.key("0"), bytes(MAX_REQUEST_BYTES))],
        ):
            with pytest.raises(TransactionTooLarge):
                await one.committer.commit(ops)
        assert await one.stored("0") == b"x"


async def test_split_writes_are_all_taken(etcd_server: EtcdCluster) -> None:
    async with term(etcd_server.settings(), unique_root()) as one:
        pairs = [
            (Put(one.key(f"{index}"), bytes(20_000)), Put(one.key(f"s{index}"), bytes(20_000)))
            for index in range(150)
        ]
        batches = split(pairs)
        assert len(batches) > 3
        for batch in batches:
            await one.committer.commit(batch)
        assert len(one.table.values) == 300


async def test_answers_that_never_come(etcd_server: EtcdCluster) -> None:
    """The request arrives, the answer is thrown away: the second copy loses, and finds the first."""
    async with tcp_proxy(etcd_server.endpoints[0]) as proxy:
        settings = etcd_server.settings(endpoints=[proxy.endpoint])
        async with term(settings, unique_root()) as one, EtcdClient(etcd_server.settings()) as direct:
            await one.committer.commit([Put(one.key("1"), b"old")])
            proxy.swallow_down = True
            commit = asyncio.create_task(one.committer.commit([Put(one.key("1"), b"new")]), name="commit")
            await arrived(direct, one.key("1"), b"new")
            proxy.swallow_down = False
            proxy.cut()
            revision = await commit
            kv = (await direct.get(one.key("1"))).kv
            assert kv is not None
            assert (kv.value, kv.mod_revision, kv.version) == (b"new", revision, 2)
            assert one.table.values == {one.key("1"): b"new"}


async def arrived(client: EtcdClient, key: str, value: bytes) -> None:
    """Poll until etcd has the value."""
    limit = boottime() + 5
    while boottime() < limit:
        kv = (await client.get(key)).kv
        if kv is not None and kv.value == value:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{key} did not arrive")


async def test_leadership_lost_while_the_answer_is_missing(etcd_server: EtcdCluster) -> None:
    async with tcp_proxy(etcd_server.endpoints[0]) as proxy:
        settings = etcd_server.settings(endpoints=[proxy.endpoint])
        async with term(settings, unique_root()) as one, EtcdClient(etcd_server.settings()) as direct:
            await one.committer.commit([Put(one.key("1"), b"old")])
            proxy.swallow_down = True
            commit = asyncio.create_task(one.committer.commit([Put(one.key("1"), b"new")]), name="commit")
            await arrived(direct, one.key("1"), b"new")
            await direct.put(one.active_key, b"another")
            proxy.swallow_down = False
            proxy.cut()
            with pytest.raises(FenceLost) as caught:
                await commit
            assert caught.value.committed is True
            assert len(one.losses) == 1


async def test_etcd_out_of_reach_until_the_deadline_and_back(etcd_server: EtcdCluster) -> None:
    async with tcp_proxy(etcd_server.endpoints[0]) as proxy:
        settings = etcd_server.settings(endpoints=[proxy.endpoint])
        async with term(settings, unique_root()) as one:
            await proxy.refuse()
            proxy.cut()
            with pytest.raises((Unavailable, OutcomeUnknown)):
                await one.committer.commit([Put(one.key("1"), b"x")], deadline=boottime() + 0.3)
            commit = asyncio.create_task(one.committer.commit([Put(one.key("2"), b"x")]), name="commit")
            await asyncio.sleep(0)
            assert not commit.done()
            await proxy.accept()
            await commit
            assert await one.stored("2") == b"x"


async def test_a_restart_of_etcd_costs_time_only() -> None:
    async with etcd_cluster() as cluster, term(cluster.settings(), unique_root()) as one:
        done: list[int] = []

        async def write() -> None:
            for index in range(200):
                revision = await one.committer.commit([Put(one.key("counter"), str(index).encode())])
                done.append(revision)

        writing = asyncio.create_task(write(), name="write")
        await eventually(lambda: len(done) > 20)
        cluster.members[0].kill()
        cluster.members[0].start()
        await writing
        assert done == sorted(set(done))
        kv = (await one.client.get(one.key("counter"))).kv
        assert kv is not None
        assert (kv.value, kv.version) == (b"199", 200)  # each exactly once


async def test_no_space_left() -> None:
    """etcd takes the put that crosses its quota, then refuses: both are told apart."""
    quota = ["--quota-backend-bytes", str(1 << 20)]
    async with etcd_cluster(arguments=quota) as cluster, term(cluster.settings(), unique_root()) as one:
        written = await fill(one)
        stored = await one.client.range(one.key(""), one.key("~"), keys_only=True)
        assert {kv.key for kv in stored.kvs} == set(one.table.values)
        assert len(stored.kvs) == written


async def fill(one: Term) -> int:
    """Commit until there is no space; returns how many commits succeeded."""
    for written in range(200):
        try:
            await one.committer.commit([Put(one.key(str(written)), bytes(100_000))])
        except MetadataFull:
            return written
    raise AssertionError("etcd took more than its quota")


async def test_followed_watch_and_own_commits_end_in_the_same_state(etcd_server: EtcdCluster) -> None:
    """Own commits, somebody else's writes and the watch's echo, all at once."""
    async with term(etcd_server.settings(), unique_root()) as one:
        start, end = one.key(""), f"{one.root}/a0"
        one.fold.load(await one.client.range(start, end))

        async def follow() -> None:
            async with contextlib.aclosing(
                one.client.watch(start, end, from_revision=one.fold.revision + 1)
            ) as batches:
                async for batch in batches:
                    one.fold.apply(batch)

        following = asyncio.create_task(follow(), name="follow")
        async with asyncio.TaskGroup() as group:
            for writer in range(4):
                group.create_task(churn(one, writer), name=f"own-{writer}")
            group.create_task(foreign_churn(one), name="foreign")
        final = await one.client.put(one.key("final"), b"x")
        await eventually(lambda: one.fold.revision >= final)
        following.cancel()
        stored = await one.client.range(start, end)
        assert one.table.values == {kv.key: kv.value for kv in stored.kvs}
        assert {kv.key: kv.mod_revision for kv in stored.kvs} == {
            key: one.fold.mod_revision(key) for key in one.table.values
        }


async def churn(one: Term, writer: int) -> None:
    for index in range(60):
        key = one.key(str((writer + index) % 6))
        with contextlib.suppress(CommitConflict):
            await one.committer.commit(
                [Delete(key) if index % 5 == 4 else Put(key, f"{writer}.{index}".encode())]
            )


async def foreign_churn(one: Term) -> None:
    for index in range(60):
        await one.client.put(one.key(str(index % 8)), f"foreign {index}".encode())
