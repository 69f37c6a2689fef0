"""RootCoord's terms on real etcd: bootstrap, windows under the fence, takeovers, damage."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest

from coordd import clock
from coordd.config import load_config
from coordd.etcd import Compare, EtcdClient
from coordd.ha.coordinator import Term
from coordd.ha.replica import Replica
from coordd.ha.tasks import TaskScope
from coordd.meta.codecs import decode_time_ns, encode_time_ns
from coordd.meta.commit import FencedCommitter
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.rootcoord import RootCoord
from coordd.rootcoord.oracle import NotHandedOutError
from coordd.rootcoord.tso import LOGICAL_BITS, NS_PER_MS, Wait
from coordd.rootcoord.windows import WindowCorruptError
from coordd.rpc.forward import GrpcForwarder
from tests.support.etcd import EtcdMember, etcd_cluster, eventually
from tests.support.replicas import SilentServer, quick_settings


def root_coord(client: EtcdClient, layout: MetaLayout) -> RootCoord:
    loaded = load_config(env={})
    return RootCoord(lambda: loaded, layout, client)


@dataclass(eq=False)
class Member:
    """A whole replica of RootCoord, but for its gRPC port."""

    coordinator: RootCoord
    replica: Replica
    task: asyncio.Task[None] = field(init=False)

    @property
    def serving(self) -> bool:
        return self.replica.gate.serving()

    async def stop(self) -> None:
        self.replica.request_stop()
        async with asyncio.timeout(10):
            await self.task


@asynccontextmanager
async def members(client: EtcdClient, layout: MetaLayout, count: int) -> AsyncIterator[list[Member]]:
    started: list[Member] = []
    for number in range(count):
        coordinator = root_coord(client, layout)
        settings = quick_settings(number + 1)
        replica = Replica(settings, client, layout, coordinator, SilentServer, GrpcForwarder)
        member = Member(coordinator, replica)
        member.task = asyncio.get_running_loop().create_task(member.replica.run(), name=settings.address)
        started.append(member)
    try:
        yield started
    finally:
        for member in started:
            member.task.cancel()
        await asyncio.wait([member.task for member in started])


@asynccontextmanager
async def term(
    client: EtcdClient,
    layout: MetaLayout,
    coordinator: RootCoord,
    on_fence_lost: Callable[[], None] = lambda: None,
) -> AsyncIterator[Term]:
    """A term won by hand: the ACTIVE key is simply written."""
    key = layout.session("rootcoord")
    epoch = await client.put(key, b"{}")
    fold = Fold(coordinator.tables)
    fold.load(await client.range(coordinator.follow_from, layout.session_end))
    fence = Compare.mod_revision(key, epoch)
    async with TaskScope() as scope:
        committer = FencedCommitter(client, fence, fold, on_fence_lost)
        begun = Term("rootcoord", 1, epoch, fence, committer, clock.boottime(), scope)
        try:
            await coordinator.activate(begun)
            yield begun
        finally:
            coordinator.deactivate()


async def saved_ms(client: EtcdClient, key: str) -> int:
    kv = (await client.get(key)).kv
    assert kv is not None
    return decode_time_ns(key, kv.value) // NS_PER_MS


async def test_a_new_cluster_gets_its_keys_and_a_second_term_adds_none(
    client: EtcdClient, layout: MetaLayout
) -> None:
    async with term(client, layout, root_coord(client, layout)):
        first = await client.range(layout.root_coord_prefix, f"{layout.meta}/root-coord0")
        history = await client.range(layout.snapshot_prefix, f"{layout.meta}/snapshots0")
    assert len(first.kvs) == 9
    assert [kv.key.rpartition("_ts")[0] for kv in history.kvs] == [
        layout.snapshots_of(layout.database(1))[:-3]
    ]
    async with term(client, layout, root_coord(client, layout)):
        second = await client.range(layout.root_coord_prefix, f"{layout.meta}/root-coord0")
    assert second.kvs == first.kvs


async def test_what_is_handed_out_lies_below_what_is_saved(client: EtcdClient, layout: MetaLayout) -> None:
    coordinator = root_coord(client, layout)
    async with term(client, layout, coordinator):
        oracle = coordinator.parts.oracle
        deadline = clock.boottime() + 2.5
        while clock.boottime() < deadline:
            stamp = await oracle.wait_timestamps(10, clock.boottime() + 2)
            block = await oracle.wait_ids(20_000_000, clock.boottime() + 2)
            assert (stamp + 9) >> LOGICAL_BITS < await saved_ms(client, layout.timestamp)
            assert block + 20_000_000 <= await saved_ms(client, layout.id_window) << LOGICAL_BITS
            assert abs((stamp >> LOGICAL_BITS) - clock.unix_ms()) < 1000
            await asyncio.sleep(0.02)


async def test_replicas_follow_each_other_without_repeating(client: EtcdClient, layout: MetaLayout) -> None:
    stamps, blocks = [], []
    async with members(client, layout, 3) as group:
        for _ in range(3):
            await eventually(lambda: any(member.serving for member in group), 10)
            [active] = [member for member in group if member.serving]
            assert active.coordinator.metadata.users.names() == ["root"]
            stamps.append(await active.coordinator.parts.oracle.wait_timestamps(5, clock.boottime() + 2))
            blocks.append(await active.coordinator.parts.oracle.wait_ids(5, clock.boottime() + 2))
            await active.stop()
    assert stamps == sorted(set(stamps))
    assert blocks == sorted(set(blocks))


@pytest.mark.parametrize("planned", [True, False], ids=["handover", "vacancy"])
async def test_the_transaction_that_makes_a_term_saves_its_windows(
    client: EtcdClient, layout: MetaLayout, planned: bool
) -> None:
    async with members(client, layout, 2) as group:
        await eventually(lambda: any(member.serving for member in group), 10)
        first, second = sorted(group, key=lambda member: not member.serving)
        oracle = first.coordinator.parts.oracle
        stamp = await oracle.wait_timestamps(1, clock.boottime() + 2)
        block = await oracle.wait_ids(1, clock.boottime() + 2)
        await eventually(lambda: second.replica.follower.synced and second.coordinator.claim(), 10)
        before = first.replica.epoch
        if planned:
            await first.stop()
        else:
            await client.delete(layout.session("rootcoord"))

        def led_anew() -> list[Member]:
            return [member for member in group if member.serving and member.replica.epoch > before]

        await eventually(led_anew, 10)
        [heir] = led_anew()
        epoch = heir.replica.epoch
        made = [(await client.get(key, revision=epoch)).kv for key in (layout.timestamp, layout.id_window)]
        assert [kv.mod_revision for kv in made if kv is not None] == [epoch, epoch]
        assert await heir.coordinator.parts.oracle.wait_timestamps(1, clock.boottime() + 2) > stamp
        assert await heir.coordinator.parts.oracle.wait_ids(1, clock.boottime() + 2) > block


async def test_a_deposed_term_cannot_move_the_window(client: EtcdClient, layout: MetaLayout) -> None:
    coordinator, lost = root_coord(client, layout), asyncio.Event()
    async with term(client, layout, coordinator, lost.set):
        oracle = coordinator.parts.oracle
        await client.put(layout.session("rootcoord"), b"another")
        window = (await client.get(layout.timestamp)).kv
        await eventually(lambda: isinstance(oracle.timestamps_now(1), Wait), 10)
        assert lost.is_set()
    assert (await client.get(layout.timestamp)).kv == window


async def test_a_corrupt_window_is_mended_from_history(client: EtcdClient, layout: MetaLayout) -> None:
    far = clock.unix_ms() + 3_600_000
    await client.put(layout.timestamp, encode_time_ns(far * NS_PER_MS))
    await client.put(layout.timestamp, b"oops")
    coordinator = root_coord(client, layout)
    async with term(client, layout, coordinator):
        first = await coordinator.parts.oracle.wait_timestamps(1, clock.boottime() + 2)
        assert first >> LOGICAL_BITS == far + 1
        assert await saved_ms(client, layout.timestamp) > far


async def test_a_corrupt_window_whose_history_is_gone_refuses_every_term_until_mended() -> None:
    layout = MetaLayout("by-dev", "meta", "kv")
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        revision = await client.put(layout.timestamp, b"oops")
        cluster.ctl("compact", str(revision))
        coordinator = root_coord(client, layout)
        with pytest.raises(WindowCorruptError, match="by-dev/kv/gid/timestamp"):
            async with term(client, layout, coordinator):
                pass
        await client.delete(layout.timestamp)
        async with term(client, layout, coordinator):
            assert isinstance(coordinator.parts.oracle.timestamps_now(1), int)


async def test_an_etcd_that_stops_costs_no_timestamp_until_the_window_ends() -> None:
    layout = MetaLayout("by-dev", "meta", "kv")
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        coordinator = root_coord(client, layout)
        async with term(client, layout, coordinator):
            oracle = coordinator.parts.oracle
            before = await oracle.wait_timestamps(1, clock.boottime() + 2)
            [member] = cluster.members
            with paused(member):
                until = clock.boottime() + 1.8
                while clock.boottime() < until:
                    first = oracle.timestamps_now(1)
                    assert isinstance(first, int)
                    assert first > before
                    before = first
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1.5)
                with pytest.raises(NotHandedOutError):
                    await oracle.wait_timestamps(1, clock.boottime() + 0.2)
            after = await oracle.wait_timestamps(1, clock.boottime() + 10)
            assert after > before


@contextmanager
def paused(member: EtcdMember) -> Iterator[None]:
    """The member is stopped inside the block."""
    member.pause()
    try:
        yield
    finally:
        member.resume()
