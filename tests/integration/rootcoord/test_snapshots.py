"""Old history deleted on a real etcd, of databases that a term has made, changed and dropped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from coordd import clock
from coordd.clock import boottime
from coordd.config import load_config
from coordd.etcd import EtcdClient, prefix_end
from coordd.ha.coordinator import Term
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.commit import FenceLost
from coordd.meta.fold import Fold
from coordd.meta.layout import MAX_TS, MetaLayout
from coordd.meta.snapshot import values_at
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.root_coord_pb2 import AlterDatabaseRequest
from coordd.rootcoord import RootCoord
from coordd.rootcoord.databases import plan_alter, plan_create, plan_drop
from coordd.rootcoord.snapshots import Pace, SnapshotCollector, SnapshotFigures
from tests.integration.rootcoord.test_terms import term
from tests.support.etcd import unique_root

pytestmark = pytest.mark.timeout(60)

CHANGES = 150
"""Versions of one database: more than one transaction takes."""


@dataclass
class Scene:
    client: EtcdClient
    layout: MetaLayout
    coordinator: RootCoord
    collector: SnapshotCollector
    figures: SnapshotFigures

    async def create(self, name: str) -> None:
        tables, layout = self.coordinator.metadata, self.layout
        await self.coordinator.parts.ddl.carry_out(
            lambda stamp: plan_create(tables, layout, name, stamp, limit=100, now_ns=clock.unix_ns()),
            deadline=boottime() + 10,
        )

    async def change(self, name: str, value: int) -> None:
        request = AlterDatabaseRequest(
            db_name=name, properties=[KeyValuePair(key="number", value=str(value))]
        )
        await self.coordinator.parts.ddl.carry_out(
            lambda stamp: plan_alter(self.coordinator.metadata, self.layout, request, stamp),
            deadline=boottime() + 10,
        )

    async def drop(self, name: str) -> None:
        await self.coordinator.parts.ddl.carry_out(
            lambda stamp: plan_drop(self.coordinator.metadata, self.layout, name, stamp),
            deadline=boottime() + 10,
        )

    async def snapshots(self) -> list[str]:
        prefix = self.layout.snapshot_prefix
        return [kv.key for kv in (await self.client.range(prefix, prefix_end(prefix))).kvs]

    async def loaded(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """What a Milvus 2.3 loads (from the snapshots) and a 2.5 (from the plain keys)."""
        plain, history = self.layout.root_coord_prefix, self.layout.snapshot_prefix
        values = {kv.key: kv.value for kv in (await self.client.range(plain, prefix_end(plain))).kvs}
        kvs = (await self.client.range(history, prefix_end(history))).kvs
        live = {key: value for key, value in values.items() if value != TOMBSTONE}
        return values_at(self.layout, kvs, MAX_TS), live

    async def until_old(self) -> None:
        """Until a millisecond has come that is later than all that was written."""
        oracle = self.coordinator.parts.oracle
        now = last = await oracle.wait_timestamps(1, boottime() + 10)
        while now >> 18 == last >> 18:
            await asyncio.sleep(0.001)
            now = await oracle.wait_timestamps(1, boottime() + 10)


@asynccontextmanager
async def scene(client: EtcdClient) -> AsyncIterator[tuple[Scene, Term]]:
    """A term that keeps no history at all."""
    layout = MetaLayout(unique_root(), "meta", "kv")
    loaded = load_config(env={"METASTORE_SNAPSHOT_TTL": "0", "METASTORE_SNAPSHOT_RESERVETIME": "0"})
    pace = Pace(page_keys=40, page_pause_s=0.0, transaction_pause_s=0.0)
    coordinator = RootCoord(lambda: loaded, layout, client, pace=pace)
    async with term(client, layout, coordinator) as begun:
        collector = coordinator._snapshot_collector(begun, coordinator.parts.oracle)
        yield Scene(client, layout, coordinator, collector, coordinator._snapshots), begun


async def test_only_what_exists_is_left_and_is_as_it_was(client: EtcdClient) -> None:
    async with scene(client) as (here, _term):
        for name in ("kept", "dropped", "other"):
            await here.create(name)
        for number in range(CHANGES):
            await here.change("kept", number)
            await here.change("dropped", number)
        await here.drop("dropped")
        await here.until_old()
        snapshots, plain = await here.loaded()
        assert len(await here.snapshots()) == 4 + 2 * CHANGES + 1

        await here.collector.collect()

        assert await here.loaded() == (snapshots, plain)
        assert len(await here.snapshots()) == 3, "default, kept, other: the newest of each"
        assert (here.figures.snapshots, here.figures.keys) == (2 * CHANGES + 2, 1)
        prefix = here.layout.root_coord_prefix
        stored = await client.range(prefix, prefix_end(prefix))
        assert TOMBSTONE not in {kv.value for kv in stored.kvs}
        tables = RootCoordTables(here.layout)
        Fold(tables.tables).load(stored)
        assert list(tables.databases) == list(here.coordinator.metadata.databases)
        # Both go on as if nothing had been.
        await here.create("dropped")
        await here.change("kept", -1)
        kept = here.coordinator.metadata.databases.by_name("kept")
        assert kept is not None
        assert dict(kept.properties) == {"number": "-1"}
        assert len((await here.loaded())[0]) == 4


async def test_a_deposed_replica_deletes_nothing(client: EtcdClient) -> None:
    async with scene(client) as (here, _term):
        await here.create("a")
        await here.change("a", 1)
        await here.until_old()
        before = await here.snapshots()
        await client.put(here.layout.session("rootcoord"), b"another")
        with pytest.raises(FenceLost):
            await here.collector.collect()
        assert await here.snapshots() == before
