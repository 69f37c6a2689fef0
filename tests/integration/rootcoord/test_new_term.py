"""What a new term tells the other coordinators: real etcd, a real gRPC server."""

import sys

import pytest

from coordd.etcd import EtcdClient
from coordd.ha.session import SessionRecord
from coordd.meta.codecs import decode_time_ns, encode_time_ns
from coordd.meta.layout import MetaLayout
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.first_windows import LATELY_MS
from coordd.rootcoord.tso import NS_PER_MS, WINDOW_MS
from tests.integration.rootcoord.test_barred_proxies import take_over
from tests.integration.rootcoord.test_time_ticks import CHANNEL, PATIENCE_S, Log, Member, members, register
from tests.support.etcd import eventually, unique_root
from tests.support.peers import Acting
from tests.unit.meta.samples import CREATED, collection_value

pytestmark = pytest.mark.timeout(60)


async def test_data_coord_is_had_to_look_for_the_new_root_coord(client: EtcdClient) -> None:
    layout = MetaLayout(unique_root(), "meta", "kv")
    async with Acting("datacoord", 9) as data:
        record = SessionRecord(server_id=9, server_name="datacoord", address=data.address, version="2.3.5")
        await client.put(layout.session("datacoord"), record.to_json())
        async with members(client, layout, Log(), 2) as group:
            for number in range(1, 4):
                await eventually(lambda at=number: len(data.requests("GetFlushAllState")) == at, PATIENCE_S)
                await take_over(client, layout, group)
    assert {request.db_name for request in data.requests("GetFlushAllState")} == {"-"}


async def test_data_coord_is_told_of_what_was_altered_in_an_earlier_term(client: EtcdClient) -> None:
    """That may have ended between the change and the news of it, and nobody need repeat the call."""
    layout = MetaLayout(unique_root(), "meta", "kv")
    async with Acting("datacoord", 9) as data:
        record = SessionRecord(server_id=9, server_name="datacoord", address=data.address, version="2.3.5")
        await client.put(layout.session("datacoord"), record.to_json())
        async with members(client, layout, Log(), 2) as group:
            info = CollectionInfo.FromString(collection_value(500, "books", state=CREATED))
            info.physical_channel_names[:] = [CHANNEL]
            info.properties.add(key="collection.ttl.seconds", value="60")
            await client.put(layout.collection(1, 500), info.SerializeToString())
            await eventually(lambda: all(500 in known(one) for one in group), PATIENCE_S)
            assert data.requests("BroadcastAlteredCollection") == []
            await take_over(client, layout, group)
            await eventually(lambda: data.requests("BroadcastAlteredCollection"), PATIENCE_S)
    told = data.requests("BroadcastAlteredCollection")[0]
    assert (told.collectionID, [(pair.key, pair.value) for pair in told.properties]) == (
        500,
        [("collection.ttl.seconds", "60")],
    )


async def test_proxies_are_told_of_what_was_changed_lately_and_not_of_what_is_long_ago(
    client: EtcdClient,
) -> None:
    layout = MetaLayout(unique_root(), "meta", "kv")

    async def change(group: list[Member], collection_id: int) -> int:
        value = collection_value(collection_id, f"c{collection_id}", state=CREATED)
        revision = await client.put(layout.collection(1, collection_id), value)
        await eventually(lambda: all(collection_id in known(one) for one in group), PATIENCE_S)
        return revision

    async def pass_time(ms: int) -> None:
        """As far as can be told by the window, which is saved again and goes on from there."""
        saved = (await client.get(layout.timestamp)).kv
        assert saved is not None
        end_ns = decode_time_ns(saved.key, saved.value) + ms * NS_PER_MS
        await client.put(layout.timestamp, encode_time_ns(end_ns))

    async with members(client, layout, Log(), 2) as group, Acting("proxy", 7) as proxy:
        await register(client, layout, 7, proxy.address)
        old = await change(group, 500)
        for _ in range(LATELY_MS // WINDOW_MS + 1):
            await pass_time(WINDOW_MS)
        tables = [one.coordinator._windows for one in group]
        await eventually(lambda: all(table.long_ago(sys.maxsize) > old for table in tables), PATIENCE_S)
        await change(group, 600)
        await change(group, 700)
        await take_over(client, layout, group)
        await eventually(lambda: told(proxy)[-1:] == [700], PATIENCE_S)
    assert told(proxy) == [600, 700]


def told(proxy: Acting) -> list[int]:
    """IDs of the collections that it was told to forget."""
    return [request.collectionID for request in proxy.requests("InvalidateCollectionMetaCache")]


def known(member: Member) -> list[int]:
    return [row.collection_id for row in member.coordinator.metadata.collections]
