"""The warm standby on real etcd: whatever happens to its watch, its tables end up as etcd is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from coordd.etcd import MAX_TXN_OPS, EtcdClient, Event, Put, prefix_end
from coordd.etcd.paging import FIRST_PAGE_KEYS, PART_KEYS
from coordd.ha.follower import Follower
from coordd.meta.fold import Fold
from tests.support.etcd import EtcdCluster, etcd_cluster, eventually, unique_root
from tests.support.faulty_etcd import FaultyEtcd
from tests.support.replicas import Group, replica_group
from tests.support.tcp_proxy import TcpProxy, tcp_proxy


@dataclass
class Values:
    """A table: values by key, and every event that it was given."""

    prefix: str
    values: dict[str, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def apply(self, event: Event) -> None:
        self.events.append(event)
        name = event.key.removeprefix(self.prefix)
        if event.value is None:
            self.values.pop(name, None)
        else:
            self.values[name] = event.value


@dataclass
class Following:
    """A follower at work: `faulty` is its client, `proxy` its way to etcd."""

    follower: Follower
    fold: Fold
    table: Values
    faulty: FaultyEtcd
    proxy: TcpProxy

    async def put(self, client: EtcdClient, name: str, value: bytes) -> int:
        """Write into the followed range by another client."""
        return await client.put(self.table.prefix + name, value)

    async def cut_off(self) -> None:
        """No way to etcd until `proxy.accept()`."""
        await self.proxy.refuse()
        self.proxy.cut()


@asynccontextmanager
async def following(cluster: EtcdCluster) -> AsyncIterator[Following]:
    table = Values(f"{unique_root()}/")
    end = table.prefix[:-1] + "0"
    async with (
        tcp_proxy(cluster.endpoints[0]) as proxy,
        FaultyEtcd(cluster.settings(endpoints=[proxy.endpoint])) as faulty,
        asyncio.TaskGroup() as group,
    ):
        fold = Fold([table])
        follower = Follower(faulty, fold, table.prefix, end)
        task = group.create_task(follower.run(), name="follower")
        await eventually(lambda: follower.synced and follower.revision)
        yield Following(follower, fold, table, faulty, proxy)
        task.cancel()


@pytest.fixture
async def at_work(etcd_server: EtcdCluster) -> AsyncIterator[Following]:
    async with following(etcd_server) as started:
        yield started


@pytest.fixture
def lines() -> Iterator[Callable[[str], int]]:
    """How many log lines say what."""
    with capture_logs() as captured:
        yield lambda text: sum(text in line["event"] for line in captured)


# --- a watch that breaks ---


async def test_pitfall_2_a_lost_watch_goes_on_where_it_was(at_work: Following, client: EtcdClient) -> None:
    await at_work.put(client, "a", b"1")
    await eventually(lambda: at_work.table.values == {"a": b"1"})
    await at_work.cut_off()
    await at_work.put(client, "a", b"2")
    await client.delete(at_work.table.prefix + "a")
    await at_work.put(client, "b", b"3")
    await at_work.proxy.accept()
    await eventually(lambda: at_work.table.values == {"b": b"3"})
    assert [event.value for event in at_work.table.events] == [b"1", b"2", None, b"3"], "each once, in order"
    assert at_work.faulty.ranges == 1


async def test_listeners_hear_of_what_others_write_and_not_of_own_commits(
    at_work: Following, client: EtcdClient
) -> None:
    told: list[int] = []
    follower = at_work.follower
    follower.on_progress(lambda: told.append(follower.revision))
    at_work.proxy.partition()  # the commit is in the tables before the watch tells of it
    own = await at_work.put(client, "own", b"1")
    at_work.fold.apply_commit(own, [Event(at_work.table.prefix + "own", b"1", own, own, 0, 1)])
    at_work.proxy.heal()
    await eventually(lambda: follower.revision == own)
    other = await at_work.put(client, "other", b"2")
    await eventually(lambda: follower.revision == other)
    assert told == [other]


async def test_pitfall_16_a_follower_that_was_away_for_too_long_applies_the_difference() -> None:
    async with (
        etcd_cluster() as cluster,
        EtcdClient(cluster.settings()) as client,
        following(cluster) as at_work,
    ):
        for name in ("same", "changed", "deleted"):
            await at_work.put(client, name, b"1")
        await eventually(lambda: len(at_work.table.values) == 3)
        await at_work.cut_off()
        for number in range(50):
            await at_work.put(client, "changed", b"%d" % number)
        await client.delete(at_work.table.prefix + "deleted")
        last = await at_work.put(client, "new", b"1")
        await asyncio.to_thread(cluster.ctl, "compact", str(last))
        await at_work.proxy.accept()
        await eventually(lambda: at_work.follower.revision >= last, 10)
        assert at_work.table.values == {"same": b"1", "changed": b"49", "new": b"1"}
        later = [event.key.removeprefix(at_work.table.prefix) for event in at_work.table.events[3:]]
        assert sorted(later) == ["changed", "deleted", "new"], "what did not change was not applied again"
        assert at_work.faulty.ranges == 2
        await at_work.put(client, "same", b"2")
        await eventually(lambda: at_work.table.values["same"] == b"2")
        assert at_work.faulty.ranges == 2, "the watch follows again"


async def test_a_load_begins_anew_when_etcd_compacts_what_it_reads() -> None:
    async with etcd_cluster() as cluster, EtcdClient(cluster.settings()) as client:
        table = Values(f"{unique_root()}/")
        keys = [f"{table.prefix}{number:05}" for number in range(FIRST_PAGE_KEYS + PART_KEYS)]
        for first in range(0, len(keys), MAX_TXN_OPS):
            await client.txn([], [Put(key, b"1") for key in keys[first : first + MAX_TXN_OPS]])

        async def compact() -> None:
            faulty.after_part = None
            revision = await client.delete(keys[0]) and await client.put(keys[1], b"2")
            await asyncio.to_thread(cluster.ctl, "compact", str(revision))

        async with FaultyEtcd(cluster.settings()) as faulty:
            faulty.after_part = compact
            follower = Follower(faulty, Fold([table]), table.prefix, prefix_end(table.prefix))
            await follower.catch_up(1)
        assert faulty.ranges == 2
        found = await client.range(table.prefix, prefix_end(table.prefix))
        assert table.values == {kv.key.removeprefix(table.prefix): kv.value for kv in found.kvs}
        assert len(table.values) == len(keys) - 1
        gone, changed = keys[0].removeprefix(table.prefix), keys[1].removeprefix(table.prefix)
        events = [event for event in table.events if event.key.removeprefix(table.prefix) in (gone, changed)]
        assert [event.value for event in events] == [b"1", b"1", b"2", None], "the first page was taken in"


# --- a watch that is silently dead ---


async def test_a_watch_that_delivers_nothing_is_opened_anew_where_it_was(
    at_work: Following, client: EtcdClient, lines: Callable[[str], int]
) -> None:
    known = await at_work.put(client, "a", b"1")
    await eventually(lambda: at_work.follower.revision == known)
    at_work.faulty.deafen()
    own = await at_work.put(client, "a", b"2")
    at_work.follower.committed(own)
    await eventually(lambda: at_work.follower.revision == own, 5)
    assert at_work.table.values == {"a": b"2"}
    assert at_work.faulty.watched_from[1:] == [known + 1]
    assert at_work.faulty.ranges == 1, "no reload"
    assert at_work.follower.synced
    assert lines("the watch delivers nothing") == 1


async def test_while_it_is_dead_it_does_not_count_as_following(
    at_work: Following, client: EtcdClient
) -> None:
    at_work.faulty.deafen()
    at_work.faulty.deaf = True
    at_work.follower.committed(await at_work.put(client, "a", b"1"))
    await eventually(lambda: not at_work.follower.synced, 5)
    at_work.faulty.deaf = False
    at_work.follower.committed(await at_work.put(client, "a", b"2"))  # etcd still commits
    await eventually(lambda: at_work.follower.synced, 10)
    assert at_work.table.values == {"a": b"2"}


async def test_an_idle_watch_and_one_that_is_only_slow_are_left_alone(
    at_work: Following, client: EtcdClient
) -> None:
    for number in range(5):
        at_work.follower.committed(await at_work.put(client, "a", b"%d" % number))
    await eventually(lambda: at_work.table.values == {"a": b"4"})
    at_work.proxy.down.delay_s = 0.3
    at_work.follower.committed(await at_work.put(client, "a", b"5"))
    await asyncio.sleep(3)
    assert at_work.table.values == {"a": b"5"}
    assert at_work.faulty.watches == 1


async def test_what_was_committed_after_the_watch_had_died_is_missed_too(
    at_work: Following, client: EtcdClient
) -> None:
    """The first own write arrives, the second does not, and no third one follows."""
    at_work.proxy.down.stall()
    at_work.follower.committed(await at_work.put(client, "a", b"1"))
    first = await at_work.put(client, "a", b"2")
    at_work.follower.committed(first + 1)  # of which the watch will not tell
    at_work.proxy.heal()
    await eventually(lambda: at_work.follower.revision == first)
    await eventually(lambda: at_work.faulty.watches == 2, 5)
    assert at_work.faulty.watched_from[-1] == first + 1


# --- takeovers in the middle of it ---


@pytest.fixture
async def group(client: EtcdClient) -> AsyncIterator[Group]:
    async with replica_group(client, unique_root()) as started:
        yield started


async def sessions(group: Group, client: EtcdClient) -> set[str]:
    """The session keys as etcd has them."""
    prefix = group.layout.session_prefix
    found = await client.range(prefix, prefix[:-1] + "0")
    return {kv.key.removeprefix(prefix) for kv in found.kvs} - {"id"}


async def test_activation_reads_no_range_when_it_is_caught_up(
    group: Group, client: EtcdClient, etcd_server: EtcdCluster
) -> None:
    active = group.start()
    await eventually(lambda: active.serving)
    async with EtcdClient(etcd_server.settings()) as own:
        standby = group.start(client=own)
        await eventually(lambda: standby.replica.state == "standby" and standby.replica.follower.synced)
        revision = await client.put(f"{group.layout.session_prefix}proxy-7", b"{}")
        await eventually(lambda: standby.replica.follower.revision >= revision)
        before = own.requests()["Range"]
        await active.stop()
        await eventually(lambda: standby.serving)
        assert own.requests()["Range"] == before
        await standby.stop()


async def test_a_dead_watch_steals_no_role(group: Group, etcd_server: EtcdCluster) -> None:
    """Its holder seems silent, but the heartbeat that the campaign names is not the last one."""
    active = group.start()
    await eventually(lambda: active.serving)
    epoch = active.replica.epoch
    async with FaultyEtcd(etcd_server.settings()) as faulty:
        standby = group.start(client=faulty)
        await eventually(lambda: standby.replica.state == "standby" and standby.replica.follower.synced)
        faulty.deafen()
        faulty.deaf = True
        known = standby.replica.follower.revision
        await asyncio.sleep(3)
        assert (active.serving, active.replica.epoch) == (True, epoch)
        assert not standby.serving
        faulty.deaf = False
        await eventually(lambda: standby.replica.follower.revision > known, 15)
        assert faulty.ranges == 1
        assert (active.serving, active.replica.epoch) == (True, epoch)
        await standby.stop()


async def test_a_takeover_in_the_middle_of_a_reload_ends_correct() -> None:
    """The standby's watch was compacted, its range read hangs, and then the active replica goes."""
    async with (
        etcd_cluster() as cluster,
        EtcdClient(cluster.settings()) as client,
        tcp_proxy(cluster.endpoints[0]) as proxy,
        FaultyEtcd(cluster.settings(endpoints=[proxy.endpoint])) as faulty,
        replica_group(client, unique_root()) as group,
    ):
        active = group.start()
        await eventually(lambda: active.serving)
        prefix = group.layout.session_prefix
        await client.put(f"{prefix}proxy-76", b"{}")
        standby = group.start(client=faulty)
        await eventually(lambda: standby.replica.state == "standby" and standby.replica.follower.synced)
        await proxy.refuse()
        proxy.cut()
        await client.delete(f"{prefix}proxy-76")
        revision = await client.put(f"{prefix}proxy-77", b"{}")
        await asyncio.to_thread(cluster.ctl, "compact", str(revision))
        reading, go_on = asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            reading.set()
            await go_on.wait()

        faulty.before_range = hang
        await proxy.accept()
        async with asyncio.timeout(10):
            await reading.wait()
        assert not standby.replica.follower.synced
        await active.stop()
        # It can find out only by campaigning; whether it has won already or not, it must not serve yet.
        await asyncio.sleep(1.5)
        assert not standby.serving
        go_on.set()
        await eventually(lambda: standby.serving, 10)
        known = {name for name in ("proxy-76", "proxy-77") if standby.replica.sessions.get(name)}
        assert known == {"proxy-77"}
        own = {"rootcoord", f"rootcoord-{standby.server_id}"}
        assert await sessions(group, client) == {"proxy-77"} | own
        await standby.stop()
