"""Proxies that could not be told of a change, over takeovers, and the time ticks meanwhile: real etcd."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from coordd.etcd import EtcdClient
from coordd.ha.session import BARRED_FIELD
from coordd.meta.layout import MetaLayout
from coordd.pb.common_pb2 import MsgBase
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.oracle import NotHandedOutError
from coordd.rpc.status import MilvusError
from tests.integration.rootcoord.test_time_ticks import (
    PATIENCE_S,
    Log,
    Member,
    hung_port,
    known,
    members,
    register,
    report,
    wait_ended,
)
from tests.support.etcd import eventually
from tests.support.peers import Acting

pytestmark = [pytest.mark.timeout(90), pytest.mark.usefixtures("one_collection")]

REQUEST = InvalidateCollMetaCacheRequest(base=MsgBase(sourceID=4), db_name="default", collection_name="c")


def active(group: list[Member]) -> Member:
    [member] = [one for one in group if one.serving]
    return member


def barred(member: Member) -> set[int]:
    return member.coordinator._bar.ids


def epoch_of(member: Member) -> int:
    """Of its present term, 0 if it has none."""
    parts = member.coordinator._parts
    return 0 if parts is None else parts.epoch


async def take_over(client: EtcdClient, layout: MetaLayout, group: list[Member]) -> Member:
    """End the term without a word; returns who is active next, which may be the same replica."""
    before = active(group)
    epoch = epoch_of(before)
    await client.delete(layout.session("rootcoord"))
    await eventually(lambda: any(one.serving and epoch_of(one) > epoch for one in group), PATIENCE_S)
    return active(group)


async def is_marked(client: EtcdClient, key: str) -> bool:
    kv = (await client.get(key)).kv
    return kv is not None and json.loads(kv.value).get(BARRED_FIELD) is True


async def wait_unmarked(client: EtcdClient, key: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await is_marked(client, key):  # noqa: ASYNC110 - a key in etcd has no event to wait for
            await asyncio.sleep(0.05)


@asynccontextmanager
async def reporting(group: list[Member], server_id: int, promised: int) -> AsyncIterator[None]:
    """A barred proxy that is alive: it reports all the time, and always the last timestamp it was given."""

    async def run() -> None:
        while True:
            for member in group:
                if member.serving:
                    with suppress(MilvusError, NotHandedOutError):
                        report(member, server_id, promised)
            await asyncio.sleep(0.1)

    task = asyncio.create_task(run(), name="reporting")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_bar_is_on_record_before_the_change_counts_as_done_and_goes_with_the_answer(
    client: EtcdClient, layout: MetaLayout
) -> None:
    async with members(client, layout, Log()) as [member], Acting("proxy", 7) as proxy:
        key = await register(client, layout, 7, proxy.address)
        await known(member, 7)
        before = (await client.get(key)).kv
        proxy.hang()
        await member.coordinator.parts.services.peers.proxies.invalidate_collection_meta_cache(REQUEST)
        assert barred(member) == {7}
        assert await is_marked(client, key)
        proxy.resume()
        await eventually(lambda: not barred(member), PATIENCE_S)
        await wait_unmarked(client, key)
        after = (await client.get(key)).kv
    assert before is not None
    assert after is not None
    assert after.value == before.value


async def test_a_successor_bars_whoever_was_barred_and_no_answer_lifts_that(
    client: EtcdClient, layout: MetaLayout
) -> None:
    """It has lost what the proxy was to forget."""
    async with members(client, layout, Log(), 2) as group, Acting("proxy", 7) as proxy:
        key = await register(client, layout, 7, proxy.address)
        await known(active(group), 7)
        proxy.hang()
        await active(group).coordinator.parts.services.peers.proxies.invalidate_collection_meta_cache(REQUEST)
        heir = await take_over(client, layout, group)
        assert barred(heir) == {7}
        proxy.resume()
        proxies = heir.coordinator.parts.services.peers.proxies
        await eventually(lambda: proxies._links and not proxies._links[7]._outbox.pending(), PATIENCE_S)
        await proxies.invalidate_collection_meta_cache(REQUEST)
        assert barred(heir) == {7}
        assert await is_marked(client, key)


async def test_whose_session_ended_in_another_term_gets_no_timestamps_either(
    client: EtcdClient, layout: MetaLayout
) -> None:
    """Nobody waits for what it may send; it may have been suspended, and ask the successor."""
    async with members(client, layout, Log(), 2) as group:
        key = await register(client, layout, 7, "127.0.0.1:1")
        for member in group:
            await known(member, 7)
        await client.delete(key)
        await eventually(lambda: all(barred(member) == {7} for member in group), PATIENCE_S)
        for _ in range(2):
            assert barred(await take_over(client, layout, group)) == {7}


async def test_one_that_reports_is_made_to_start_anew_and_ticks_wait_until_it_has_stopped(
    client: EtcdClient, layout: MetaLayout
) -> None:
    log = Log()
    with hung_port() as address:
        async with members(client, layout, log) as [member]:
            key = await register(client, layout, 7, address)
            await known(member, 7)
            promised = member.coordinator.parts.oracle.timestamps_now(1)
            assert isinstance(promised, int)
            async with reporting([member], 7, promised):
                await member.coordinator.parts.services.peers.proxies.invalidate_collection_meta_cache(
                    REQUEST
                )
                assert barred(member) == {7}
                await wait_ended(client, key)
                await eventually(lambda: member.replica.sessions.get("proxy-7") is None, PATIENCE_S)
                new = await register(client, layout, 8, address)
                await known(member, 8)
                for _ in range(20):
                    report(member, 8)
                    await asyncio.sleep(0.1)
                assert max(log.ticks) == promised  # it still reports, so it may still send

            async def going_on() -> None:
                while max(log.ticks) == promised:
                    report(member, 8)
                    await asyncio.sleep(0.1)

            await asyncio.wait_for(going_on(), PATIENCE_S)
            assert (await client.get(new)).kv is not None
            with pytest.raises(MilvusError, match="un-recognized session 7"):
                report(member, 7)


async def test_a_takeover_lets_no_tick_pass_what_a_barred_proxy_may_send(
    client: EtcdClient, layout: MetaLayout
) -> None:
    """The ticks of a term rest on what the proxies promise in it, whoever is barred."""
    log = Log()
    with hung_port() as address:
        async with members(client, layout, log, 2) as group:
            await register(client, layout, 7, address)
            await known(active(group), 7)
            sent_late = active(group).coordinator.parts.oracle.timestamps_now(1)
            assert isinstance(sent_late, int)
            report(active(group), 7, sent_late - 1)  # it is about to send a message with that timestamp
            active(group).coordinator._bar.owes(7)  # in memory only, as if the replica had died at once
            heir = await take_over(client, layout, group)
            assert barred(heir) == set()
            await asyncio.sleep(0.5)
            report(heir, 7, sent_late - 1)
            await asyncio.sleep(0.5)
            assert all(tick < sent_late for tick in log.ticks)
            report(heir, 7)  # the message is in the queue, and it has a new timestamp
            await eventually(lambda: max(log.ticks, default=0) > sent_late, PATIENCE_S)
