"""Past states, written and read on a real etcd."""

import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from coordd.etcd import EtcdClient, Put
from coordd.meta.codecs import DecodeError
from coordd.meta.commit import split
from coordd.meta.layout import MAX_TS, MetaLayout
from coordd.meta.past_collections import PastCollections
from coordd.meta.snapshot import SnapshotReader, plan_delete, plan_put
from coordd.meta.transaction import Write
from tests.support.etcd import EtcdCluster, unique_root
from tests.unit.meta import samples


class Store:
    """A cluster's metadata under a root of its own; keys of the samples are moved there."""

    def __init__(self, client: EtcdClient) -> None:
        self.client = client
        self.layout = MetaLayout(unique_root(), "meta", "kv")
        self.reader = SnapshotReader(client, self.layout)
        self.past = PastCollections(self.reader, self.layout)

    def own(self, key: str) -> str:
        return self.layout.meta + key.removeprefix(samples.LAYOUT.meta)

    async def write(self, keys: Mapping[str, bytes], ts: int) -> None:
        """Write keys of the samples' layout with their history."""
        groups: list[tuple[Write, ...]] = []
        for key, value in keys.items():
            groups.append(plan_put(self.layout, self.own(key), value, ts))
        for batch in split(groups):
            await self.client.txn([], batch)

    async def delete(self, keys: Mapping[str, bytes], ts: int) -> None:
        for key in keys:
            await self.client.txn([], plan_delete(self.layout, self.own(key), ts))


@contextlib.asynccontextmanager
async def store(server: EtcdCluster) -> AsyncIterator[Store]:
    async with EtcdClient(server.settings()) as client:
        yield Store(client)


async def test_one_key(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        key = one.layout.alias(1, "a")
        for ts, value in ((10, b"x"), (20, b"y")):
            await one.client.txn([], plan_put(one.layout, key, value, ts))
        await one.client.txn([], plan_put(one.layout, one.layout.alias(1, "a_ts15"), b"other", 15))
        values = [(await one.reader.read(key, ts)).value for ts in (9, 10, 19, 20, 21, 0, MAX_TS)]
        assert values == [None, b"x", b"x", b"y", b"y", b"y", b"y"]
        await one.client.txn([], plan_delete(one.layout, key, 30))
        values = [(await one.reader.read(key, ts)).value for ts in (20, 29, 30, 31, 0, MAX_TS)]
        assert values == [b"y", b"y", None, None, None, None]


async def test_a_key_without_history_is_as_it_is_at_all_times(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        key = one.layout.alias(1, "a")
        await one.client.txn([], [Put(key, b"x")])
        assert [(await one.reader.read(key, ts)).value for ts in (1, 5, 0)] == [b"x", b"x", b"x"]
        prefix = one.layout.alias_prefix
        assert (await one.reader.read_prefix(prefix, 5)).values == {}
        assert (await one.reader.read_prefix(prefix, 0)).values == {key: b"x"}


async def test_reads_can_be_pinned_to_a_revision(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        key = one.layout.alias(1, "a")
        await one.client.txn([], plan_put(one.layout, key, b"x", 10))
        then = (await one.reader.read(key, 50)).revision
        await one.client.txn([], plan_put(one.layout, key, b"y", 20))
        for ts in (50, 0):
            assert (await one.reader.read(key, ts, revision=then)).value == b"x"
            pinned = await one.reader.read_prefix(one.layout.alias_prefix, ts, revision=then)
            assert (pinned.values, pinned.revision) == ({key: b"x"}, then)
            assert (await one.reader.read(key, ts)).value == b"y"


async def test_a_prefix_ends_at_a_separator(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        with pytest.raises(ValueError, match="separator"):
            await one.reader.read_prefix(one.layout.alias_prefix + "1", 5)
        await one.write(samples.collection(50, "a", db_id=1), 10)
        await one.write(samples.collection(60, "b", db_id=10), 10)
        found = await one.reader.read_prefix(one.layout.collections_of(1), 10)
        assert list(found.values) == [one.layout.collection(1, 50)]


async def test_a_collection_through_its_life(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        born = samples.collection(50, "books")
        await one.write(born, 10)
        more = samples.collection(50, "books", partitions={51: "_default", 52: "new"})
        await one.write({key: value for key, value in more.items() if key not in born}, 20)
        await one.write(samples.collection(50, "novels", partitions={}, fields={}), 30)
        await one.delete(more, 40)

        assert await one.past.view(1, 50, 9) is None
        for ts, name, partitions in (
            (10, "books", 1),
            (20, "books", 2),
            (30, "novels", 2),
            (39, "novels", 2),
        ):
            view = await one.past.view(1, 50, ts)
            assert view is not None
            assert (view.name, len(view.partitions)) == (name, partitions)
            assert [field.fieldID for field in view.fields] == [100, 101, 0, 1]
            found = await one.past.find(1, name, ts)
            assert found is not None
            assert (found.id, found.partitions, found.fields) == (50, view.partitions, view.fields)
        assert await one.past.find(1, "books", 30) is None
        assert await one.past.view(1, 50, 40) is None
        assert await one.past.view(2, 50, 20) is None
        assert [row.name for row in await one.past.in_db(1, 35)] == ["novels"]
        assert await one.past.in_db(1, 40) == []


async def test_states_and_legacy_forms(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        await one.write(samples.collection(50, "n", state=samples.DROPPING), 10)
        await one.write(samples.collection(40, "n"), 10)
        await one.write(samples.collection(60, "old", db_id=0), 10)
        await one.write({samples.LAYOUT.collection(0, 70): samples.inline_collection_value(70, "oldest")}, 10)
        await one.write(
            {samples.LAYOUT.collection(0, 40): samples.collection_value(40, "shadowed", db_id=0)}, 10
        )
        assert [row.name for row in await one.past.in_db(1, 10)] == ["n", "old", "oldest"]
        assert [row.collection_id for row in await one.past.in_db(0, 10, available_only=False)] == [
            40,
            50,
            60,
            70,
        ]
        found = await one.past.find(1, "n", 10)
        assert found is not None
        assert found.id == 40
        inline = await one.past.view(1, 70, 10)
        assert inline is not None
        assert (len(inline.fields), len(inline.partitions)) == (3, 2)
        assert await one.past.find(1, "shadowed", 10) is None


async def test_damage(etcd_server: EtcdCluster) -> None:
    async with store(etcd_server) as one:
        await one.write(samples.collection(50, "good"), 10)
        await one.write(samples.collection(60, "bad"), 10)
        await one.write(
            {samples.LAYOUT.collection(1, 60): b"\xff", samples.LAYOUT.field(50, 100): b"\xff"}, 20
        )
        assert [row.name for row in await one.past.in_db(1, 20)] == ["good"]
        assert await one.past.find(1, "bad", 20) is None
        with pytest.raises(DecodeError, match="collection-info/1/60"):
            await one.past.view(1, 60, 20)
        with pytest.raises(DecodeError, match="fields/50/100"):
            await one.past.find(1, "good", 20)
        view = await one.past.view(1, 50, 19)
        assert view is not None
        assert len(view.fields) == 4
