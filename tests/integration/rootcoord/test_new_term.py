"""What a new term tells the other coordinators: real etcd, a real gRPC server."""

import pytest

from coordd.etcd import EtcdClient
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from tests.integration.rootcoord.test_barred_proxies import take_over
from tests.integration.rootcoord.test_time_ticks import CHANNEL, PATIENCE_S, Log, Member, members
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


def known(member: Member) -> list[int]:
    return [row.collection_id for row in member.coordinator.metadata.collections]
