"""Watches on real servers: every revision, whole, once, in order, whatever happens to the connection.

The expectation is never what some earlier watch said, but what the writer knows it has written.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import pytest

from coordd.etcd import Delete, EtcdClient, Put, WatchBatch, errors, prefix_end
from tests.integration.etcd.proxied import proxied
from tests.support.etcd import EtcdCluster, etcd_cluster

History = dict[int, list[tuple[str, bytes | None]]]


class Writer:
    """Writes transactions of several keys below a prefix and remembers what each revision holds."""

    def __init__(self, client: EtcdClient, root: str, *, value_size: int = 10) -> None:
        self._client = client
        self._root = root
        self._size = value_size
        self._random = random.Random(7)
        self.history: History = {}

    async def write(self, transactions: int, *, keys: int = 3) -> None:
        for number in range(transactions):
            value = (b"%d-" % number).ljust(self._size, b".")
            ops = [Put(f"{self._root}{key:02}", value) for key in range(keys)]
            written: list[tuple[str, bytes | None]] = [(op.key, op.value) for op in ops]
            revision = (await self._client.txn([], ops)).revision
            self.history[revision] = written
            if self._random.random() < 0.1:
                revision = (await self._client.txn([], [Delete(ops[0].key)])).revision
                self.history[revision] = [(ops[0].key, None)]

    @property
    def last(self) -> int:
        return max(self.history)


async def collect(client: EtcdClient, root: str, first: int, last: int) -> list[WatchBatch]:
    """All batches of a watch from `first` until revision `last` has come."""
    batches = []
    async with contextlib.aclosing(client.watch(root, prefix_end(root), from_revision=first)) as watch:
        async for batch in watch:
            batches.append(batch)
            if batch.revision >= last:
                break
    return batches


def check(batches: list[WatchBatch], expected: History) -> None:
    """Ordered, unique, atomic, reliable."""
    got: History = {}
    reported = 0
    for batch in batches:
        assert batch.revision > reported
        for event in batch.events:
            assert reported < event.mod_revision <= batch.revision
            got.setdefault(event.mod_revision, []).append((event.key, event.value))
        reported = batch.revision
    assert list(got) == sorted(got)
    assert {revision: sorted(events) for revision, events in got.items()} == {
        revision: sorted(events) for revision, events in expected.items()
    }


async def test_events_carry_what_etcd_stores(client: EtcdClient, root: str) -> None:
    lease = await client.grant(60)
    first = await client.put(f"{root}k", b"1", lease=lease.id)
    second = await client.put(f"{root}k", b"2")
    await client.delete(f"{root}k")
    (put, again, gone) = [
        event for batch in await collect(client, root, first, second + 1) for event in batch.events
    ]
    assert (put.key, put.value, put.create_revision, put.version, put.lease) == (
        f"{root}k",
        b"1",
        first,
        1,
        lease.id,
    )
    assert (again.mod_revision, again.create_revision, again.version, again.lease) == (second, first, 2, 0)
    assert gone.deleted
    assert (gone.value, gone.mod_revision) == (None, second + 1)


async def test_previous_values_on_request(client: EtcdClient, root: str) -> None:
    first = await client.put(f"{root}k", b"1")
    second = await client.put(f"{root}k", b"2")
    stream = client.watch(f"{root}k", None, from_revision=second, prev_kv=True)
    async with contextlib.aclosing(stream) as watch:
        batch = await anext(watch)
    assert batch.events[0].prev is not None
    assert (batch.events[0].prev.value, batch.events[0].prev.mod_revision) == (b"1", first)


async def test_a_watch_follows_live_and_catches_up_alike(client: EtcdClient, root: str) -> None:
    writer = Writer(client, root)
    first = await client.revision() + 1
    await writer.write(50)
    async with asyncio.TaskGroup() as group:
        stop = writer.last + 60
        watch = group.create_task(collect(client, root, first, stop), name="watch")
        while not writer.history or writer.last < stop:
            await writer.write(5)
    expected = {r: events for r, events in writer.history.items() if r <= watch.result()[-1].revision}
    check(watch.result(), expected)


async def test_a_backlog_larger_than_etcds_message_limit_comes_in_whole_revisions(
    client: EtcdClient, root: str
) -> None:
    """15 transactions of 1.2 MB: etcd cuts its answers into fragments of 1.5 MiB."""
    writer = Writer(client, root, value_size=100_000)
    first = await client.revision() + 1
    await writer.write(15, keys=12)
    batches = await collect(client, root, first, writer.last)
    check(batches, writer.history)
    assert len(batches) > 1
    await client.delete(root, prefix_end(root))


async def test_cut_connections_lose_and_repeat_nothing(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    writer = Writer(client, root, value_size=20_000)
    first = await client.revision() + 1
    async with proxied(etcd_server) as (proxy, faulty), asyncio.TaskGroup() as group:
        proxy.delay_s = 0.002
        await writer.write(60, keys=8)
        last = writer.last
        watch = group.create_task(collect(faulty, root, first, last), name="watch")
        cuts = 0
        while not watch.done():
            await asyncio.sleep(0.03)
            if cuts < 10:
                proxy.cut()
                cuts += 1
        assert proxy.accepted > 1
        check(watch.result(), writer.history)


async def test_a_watch_goes_on_after_etcd_was_killed_and_restarted(root: str) -> None:
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings(request_timeout_ms=10_000)) as client:
        writer = Writer(client, root)
        await writer.write(20)
        async with contextlib.aclosing(client.watch(root, prefix_end(root), from_revision=2)) as watch:
            batches = [await anext(watch)]
            cluster.members[0].kill()
            cluster.members[0].start()
            await writer.write(20)
            while batches[-1].revision < writer.last:
                batches.append(await anext(watch))
        check(batches, writer.history)


async def test_a_watch_moves_on_from_an_endpoint_that_goes_silent(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    """HTTP/2 pings would need 8 s; the requests beside it notice within 1 s."""
    async with proxied(etcd_server, direct=True) as (proxy, faulty):
        first = await client.put(f"{root}k", b"1")
        async with contextlib.aclosing(faulty.watch(root, prefix_end(root), from_revision=first)) as watch:
            assert (await anext(watch)).revision == first
            proxy.partition()
            started = time.monotonic()
            second = await client.put(f"{root}k", b"2")
            async with asyncio.TaskGroup() as group:
                beat = group.create_task(heartbeats(faulty, f"{root}beat"), name="heartbeats")
                batch = await anext(watch)
                assert batch.events[0].mod_revision == second
                assert time.monotonic() - started < 4.0
                beat.cancel()


async def test_pings_find_a_silent_connection_without_other_requests(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    async with proxied(etcd_server, direct=True) as (proxy, faulty):
        first = await client.put(f"{root}k", b"1")
        async with contextlib.aclosing(faulty.watch(root, prefix_end(root), from_revision=first)) as watch:
            await anext(watch)
            proxy.partition()
            second = await client.put(f"{root}k", b"2")
            async with asyncio.timeout(12):
                assert (await anext(watch)).events[0].mod_revision == second


async def test_compacted_at_the_start(root: str) -> None:
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        revisions = [await client.put(f"{root}k", b"%d" % number) for number in range(5)]
        cluster.ctl("compact", str(revisions[3]))
        async with contextlib.aclosing(
            client.watch(root, prefix_end(root), from_revision=revisions[0])
        ) as watch:
            with pytest.raises(errors.Compacted) as caught:
                await anext(watch)
        assert caught.value.compact_revision == revisions[3]
        (batch,) = await collect(client, root, revisions[3], revisions[4])
        assert [event.mod_revision for event in batch.events] == revisions[3:]


async def test_compacted_while_disconnected(root: str) -> None:
    async with (
        etcd_cluster() as cluster,
        EtcdClient(cluster.settings()) as client,
        proxied(cluster) as (proxy, faulty),
    ):
        first = await client.put(f"{root}k", b"1")
        async with contextlib.aclosing(faulty.watch(root, prefix_end(root), from_revision=first)) as watch:
            await anext(watch)
            await proxy.refuse()
            proxy.cut()
            await client.put(f"{root}k", b"2")
            third = await client.put(f"{root}k", b"3")
            cluster.ctl("compact", str(third))
            await proxy.accept()
            with pytest.raises(errors.Compacted) as caught:
                await anext(watch)
        assert caught.value.compact_revision == third


async def test_progress_of_a_quiet_range(root: str) -> None:
    interval = "--experimental-watch-progress-notify-interval=100ms"
    async with (
        etcd_cluster(arguments=[interval]) as cluster,
        EtcdClient(cluster.settings()) as client,
        contextlib.aclosing(client.watch(root, prefix_end(root), from_revision=1)) as watch,
    ):
        elsewhere = await client.put("elsewhere", b"1")
        batch = await anext(watch)
        while batch.revision < elsewhere:
            batch = await anext(watch)
        assert batch == WatchBatch(elsewhere, ())
        inside = await client.put(f"{root}k", b"1")
        batch = await anext(watch)
        assert (batch.revision, len(batch.events)) == (inside, 1)


async def test_a_slow_consumer_holds_up_etcd_not_our_memory(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    async with proxied(etcd_server) as (proxy, slow):
        writer = Writer(client, root, value_size=1_000_000)
        first = await client.put(f"{root}00", b"0")
        async with contextlib.aclosing(slow.watch(root, prefix_end(root), from_revision=first)) as watch:
            await anext(watch)
            await writer.write(40, keys=1)
            passed = -1
            while passed != proxy.bytes_down:
                passed = proxy.bytes_down
                await asyncio.sleep(0.3)
            assert passed < 20_000_000
            assert (await slow.get(f"{root}00")).kv is not None, "who shares the connection is not held up"
            batches = []
            while not batches or batches[-1].revision < writer.last:
                batches.append(await anext(watch))
        check(batches, writer.history)
        await client.delete(root, prefix_end(root))


async def test_a_watch_waits_for_an_etcd_that_is_not_there_yet(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    async with proxied(etcd_server) as (proxy, late), asyncio.TaskGroup() as group:
        await proxy.refuse()
        revision = await client.put(f"{root}k", b"1")
        watch = group.create_task(collect(late, root, revision, revision), name="watch")
        cpu = time.process_time()
        await asyncio.sleep(0.6)
        assert time.process_time() - cpu < 0.3
        await proxy.accept()
        (batch,) = await watch
        assert batch.revision == revision


async def test_a_watch_can_be_cancelled_at_any_moment(client: EtcdClient, root: str) -> None:
    for delay_s in (0.0, 0.001, 0.005, 0.02):
        async with contextlib.aclosing(client.watch(root, prefix_end(root), from_revision=1)) as watch:
            with pytest.raises(TimeoutError):
                await drain(watch, delay_s)
    await client.put(f"{root}k", b"1")


async def heartbeats(client: EtcdClient, key: str) -> None:
    while True:
        with contextlib.suppress(errors.OutcomeUnknown):
            await client.put(key, b"", timeout_s=0.5)
        await asyncio.sleep(0.1)


async def drain(watch: AsyncIterator[WatchBatch], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        async for _ in watch:
            pass
