"""Databases on real etcd: kept across takeovers, one of a name, whatever etcd does in between."""

import asyncio

import pytest

from coordd import clock
from coordd.etcd import EtcdClient, prefix_end
from coordd.etcd.errors import EtcdError, OutcomeUnknown
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.commit import FenceLost
from coordd.meta.layout import MetaLayout
from coordd.pb.etcd_meta_pb2 import DatabaseInfo
from coordd.rootcoord import RootCoord
from coordd.rootcoord.databases import plan_create, plan_drop
from coordd.rpc.status import MilvusError
from tests.integration.rootcoord.test_terms import Member, members, paused, root_coord, term
from tests.support.etcd import etcd_cluster, eventually


async def create(coordinator: RootCoord, layout: MetaLayout, name: str, within_s: float = 10) -> int:
    return await coordinator.parts.ddl.carry_out(
        lambda stamp: plan_create(
            coordinator.metadata, layout, name, stamp, limit=64, now_ns=clock.unix_ns()
        ),
        deadline=clock.boottime() + within_s,
    )


async def drop(coordinator: RootCoord, layout: MetaLayout, name: str) -> int:
    return await coordinator.parts.ddl.carry_out(
        lambda stamp: plan_drop(coordinator.metadata, layout, name, stamp), deadline=clock.boottime() + 10
    )


def names(coordinator: RootCoord) -> list[str]:
    return sorted(database.name for database in coordinator.metadata.databases)


async def in_etcd(client: EtcdClient, layout: MetaLayout) -> list[str]:
    prefix = layout.database_prefix
    values = [kv.value for kv in (await client.range(prefix, prefix_end(prefix))).kvs]
    return sorted(DatabaseInfo.FromString(value).name for value in values if value != TOMBSTONE)


async def active_of(group: list[Member]) -> RootCoord:
    await eventually(lambda: any(member.serving for member in group), 10)
    [active] = [member for member in group if member.serving]
    return active.coordinator


async def test_databases_outlive_the_replica_that_made_them(client: EtcdClient, layout: MetaLayout) -> None:
    async with members(client, layout, 2) as group:
        first = await active_of(group)
        await create(first, layout, "music")
        await create(first, layout, "books")
        await drop(first, layout, "books")
        [stopping] = [member for member in group if member.coordinator is first]
        await stopping.stop()

        second = await active_of(group)
        assert second is not first
        assert names(second) == ["default", "music"]
        with pytest.raises(MilvusError, match="database already exist: music"):
            await create(second, layout, "music")
        await create(second, layout, "books")
        await drop(second, layout, "music")
        assert names(second) == await in_etcd(client, layout) == ["books", "default"]


async def test_callers_at_once_leave_one_of_each_name(client: EtcdClient, layout: MetaLayout) -> None:
    coordinator = root_coord(client, layout)
    async with term(client, layout, coordinator):
        outcomes = await asyncio.gather(
            *(create(coordinator, layout, f"n{number % 10}") for number in range(40)), return_exceptions=True
        )
        made = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(made) == len(set(made)) == 10
        assert (
            await in_etcd(client, layout) == names(coordinator) == ["default", *(f"n{n}" for n in range(10))]
        )
        dropped = await asyncio.gather(*(drop(coordinator, layout, f"n{n % 10}") for n in range(40)))
        assert sum(revision > 0 for revision in dropped) == 10
        assert await in_etcd(client, layout) == names(coordinator) == ["default"]


async def test_a_deposed_term_creates_nothing(client: EtcdClient, layout: MetaLayout) -> None:
    coordinator = root_coord(client, layout)
    async with term(client, layout, coordinator):
        await client.put(layout.session("rootcoord"), b"another")
        with pytest.raises(FenceLost):
            await create(coordinator, layout, "music")
    assert await in_etcd(client, layout) == ["default"]


async def test_a_call_that_etcd_left_unanswered_can_be_repeated() -> None:
    layout = MetaLayout("by-dev", "meta", "kv")
    async with (
        etcd_cluster() as cluster,
        EtcdClient(cluster.settings()) as client,
        members(client, layout, 1) as group,
    ):
        coordinator = await active_of(group)
        [member] = cluster.members
        with paused(member):
            with pytest.raises(EtcdError) as caught:
                await create(coordinator, layout, "music", within_s=1)
            assert isinstance(caught.value, OutcomeUnknown) or type(caught.value).retriable
        [outcome] = await asyncio.gather(create(coordinator, layout, "music"), return_exceptions=True)
        assert isinstance(outcome, int) or str(outcome) == "database already exist: music"
        assert names(coordinator) == await in_etcd(client, layout) == ["default", "music"]
