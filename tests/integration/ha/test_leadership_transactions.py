"""The transactions on the leadership keys, each compare of each one, on a real etcd."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from coordd.etcd import EtcdClient, Put
from coordd.etcd.errors import LeaseLost
from coordd.ha.election import Promise
from coordd.ha.leadership import HandoverResult, Leadership, SessionEntry, decode_heartbeat
from coordd.ha.session import Safety, SessionRecord
from coordd.meta.layout import MetaLayout
from tests.support.etcd import EtcdCluster, unique_root

SETTLED = Promise(2.0, settled=True)


@dataclass
class Side:
    """One replica's leadership on a lease of its own."""

    record: SessionRecord
    leadership: Leadership


class World:
    def __init__(self, client: EtcdClient) -> None:
        self.client = client
        self.layout = MetaLayout(unique_root(), "meta", "kv")

    async def side(self, server_id: int) -> Side:
        """Register a replica: a lease, and its own session key on it."""
        lease = await self.client.grant(60)
        record = SessionRecord(
            server_id=server_id,
            server_name="datacoord",
            address=f"127.0.0.1:{server_id}",
            version="2.3.5",
            lease_id=lease.id,
            safety=Safety(serve_guard_ms=2000),
        )
        await self.client.put(self.layout.session("datacoord", server_id), record.to_json(), lease=lease.id)
        return Side(record, Leadership(self.client, self.layout, record, ("indexcoord",)))

    async def entry(self, name: str, server_id: int | None = None) -> SessionEntry:
        kv = (await self.client.get(self.layout.session(name, server_id))).kv
        assert kv is not None
        return SessionEntry(kv.key, kv.mod_revision, kv.lease, SessionRecord.from_json(kv.value))

    async def holder(self) -> int | None:
        kv = (await self.client.get(self.layout.session("datacoord"))).kv
        return None if kv is None else SessionRecord.from_json(kv.value).server_id

    async def revision_of(self, key: str) -> int:
        kv = (await self.client.get(key)).kv
        return 0 if kv is None else kv.mod_revision

    async def active(self, server_id: int) -> tuple[Side, int]:
        """A replica that leads, and its epoch."""
        side = await self.side(server_id)
        won = await side.leadership.campaign(0, 0, SETTLED)
        assert won.epoch
        return side, won.epoch

    async def ready(self, server_id: int) -> tuple[Side, SessionEntry, int]:
        """A standby that has answered an offer: it, its session entry and its report's mod_revision."""
        side = await self.side(server_id)
        report = await side.leadership.report(1, synced=True, offer=1)
        return side, await self.entry("datacoord", server_id), report


@pytest.fixture
async def world(etcd_server: EtcdCluster) -> AsyncIterator[World]:
    async with EtcdClient(etcd_server.settings()) as client:
        yield World(client)


# --- campaigns ---


async def test_a_campaign_takes_the_free_key_with_its_companions_and_a_heartbeat(world: World) -> None:
    side, epoch = await world.active(1)
    assert await world.revision_of(side.leadership.active_key) == epoch
    assert (await world.entry("indexcoord")).lease == side.record.lease_id
    beat = (await world.client.get(side.leadership.heartbeat_key)).kv
    assert beat is not None
    assert decode_heartbeat(beat.value) == (1, 2.0, True)
    assert beat.lease == 0, "it outlives the session"


async def test_a_steal_needs_the_active_key_as_it_was_seen(world: World) -> None:
    old, epoch = await world.active(1)
    thief = await world.side(2)
    beat = await world.revision_of(old.leadership.heartbeat_key)
    lost = await thief.leadership.campaign(epoch - 1, beat, SETTLED)
    assert (lost.epoch, lost.heartbeat_mod_revision) == (0, beat)
    assert lost.holder is not None
    assert lost.holder.mod_revision == epoch
    assert await world.holder() == 1


async def test_a_steal_needs_the_heartbeat_as_it_was_seen(world: World) -> None:
    old, epoch = await world.active(1)
    thief = await world.side(2)
    seen = await world.revision_of(old.leadership.heartbeat_key)
    assert await old.leadership.heartbeat(epoch, SETTLED) > seen, "a sign of life nobody has seen yet"
    lost = await thief.leadership.campaign(epoch, seen, SETTLED)
    assert lost.epoch == 0
    assert await world.holder() == 1
    won = await thief.leadership.campaign(epoch, lost.heartbeat_mod_revision, SETTLED)
    assert won.epoch > epoch
    assert await world.holder() == 2


async def test_a_stolen_key_does_not_hang_on_the_old_lease(world: World) -> None:
    old, epoch = await world.active(1)
    thief = await world.side(2)
    beat = await world.revision_of(old.leadership.heartbeat_key)
    await thief.leadership.campaign(epoch, beat, SETTLED)
    await world.client.revoke(old.record.lease_id)
    assert await world.holder() == 2
    companion = (await world.entry("indexcoord")).record
    assert companion is not None
    assert companion.server_id == 2
    assert (await world.client.get(world.layout.session("datacoord", 1))).kv is None


# --- the fence ---


async def test_who_was_robbed_commits_nothing_any_more(world: World) -> None:
    old, epoch = await world.active(1)
    thief = await world.side(2)
    beat = await world.revision_of(old.leadership.heartbeat_key)
    await thief.leadership.campaign(epoch, beat, SETTLED)
    before = await world.client.revision()
    _, heir, report = await world.ready(3)
    after_ready = await world.client.revision()
    assert await old.leadership.heartbeat(epoch, SETTLED) == 0
    assert not await old.leadership.make_offer(epoch, 0)
    assert not await old.leadership.withdraw_offer(epoch)
    assert not await old.leadership.write(epoch, [Put(f"{world.layout.meta}/x", b"")])
    assert not await old.leadership.resign(epoch)
    assert await old.leadership.hand_over(epoch, heir, report) is HandoverResult.LOST
    assert await world.client.revision() == after_ready > before
    assert await world.holder() == 2


# --- handing over ---


async def test_a_handover_passes_all_keys_on_in_one_revision(world: World) -> None:
    old, epoch = await world.active(1)
    await old.leadership.make_offer(epoch, 0)
    heir, entry, report = await world.ready(2)
    extra = f"{world.layout.meta}/session-coordd/history/x"
    result = await old.leadership.hand_over(epoch, entry, report, [Put(extra, b"1")])
    assert result is HandoverResult.COMMITTED
    active, companion = await world.entry("datacoord"), await world.entry("indexcoord")
    assert active.mod_revision == companion.mod_revision == await world.revision_of(extra)
    assert active.lease == companion.lease == heir.record.lease_id
    assert active.record is not None
    assert (active.record.server_id, active.record.address) == (2, "127.0.0.1:2")
    for key in (old.leadership.heartbeat_key, old.leadership.offer_key, heir.leadership.report_key):
        assert await world.revision_of(key) == 0
    assert await heir.leadership.heartbeat(active.mod_revision, SETTLED)
    await world.client.revoke(old.record.lease_id)
    assert await world.holder() == 2


async def test_a_handover_sent_again_finds_out_that_it_was_done(world: World) -> None:
    old, epoch = await world.active(1)
    _, entry, report = await world.ready(2)
    for _ in range(2):
        result = await old.leadership.hand_over(epoch, entry, report)
        assert result is HandoverResult.COMMITTED
    assert await world.holder() == 2


async def test_no_handover_to_a_standby_that_took_its_readiness_back(world: World) -> None:
    old, epoch = await world.active(1)
    heir, entry, report = await world.ready(2)
    await heir.leadership.report(1, synced=True)
    assert await old.leadership.hand_over(epoch, entry, report) is HandoverResult.REFUSED
    assert await world.holder() == 1


async def test_no_handover_to_a_session_that_is_gone(world: World) -> None:
    old, epoch = await world.active(1)
    heir, entry, report = await world.ready(2)
    await world.client.revoke(heir.record.lease_id)
    assert await old.leadership.hand_over(epoch, entry, report) is HandoverResult.REFUSED
    assert await world.holder() == 1


async def test_no_handover_onto_a_lease_that_is_gone(world: World) -> None:
    old, epoch = await world.active(1)
    heir, _, _ = await world.ready(2)
    entry = await world.entry("datacoord", 2)
    await world.client.revoke(heir.record.lease_id)
    # Its keys were written again by hand, on no lease; the record still names the old one.
    key = world.layout.session("datacoord", 2)
    session = await world.client.put(key, heir.record.to_json())
    report = await world.client.put(heir.leadership.report_key, b"{}")
    forged = SessionEntry(key, session, entry.lease, heir.record)
    with pytest.raises(LeaseLost):
        await old.leadership.hand_over(epoch, forged, report)
    assert await world.holder() == 1


# --- giving up ---


async def test_resigning_leaves_no_leadership_key(world: World) -> None:
    side, epoch = await world.active(1)
    await side.leadership.make_offer(epoch, 0)
    assert await side.leadership.resign(epoch)
    assert await world.holder() is None
    for key in (side.leadership.heartbeat_key, side.leadership.offer_key):
        assert await world.revision_of(key) == 0
    assert (await world.client.get(world.layout.session("indexcoord"))).kv is None
