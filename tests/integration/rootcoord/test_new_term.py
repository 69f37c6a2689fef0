"""What a new term tells the other coordinators: real etcd, a real gRPC server."""

import pytest

from coordd.etcd import EtcdClient
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout
from tests.integration.rootcoord.test_barred_proxies import take_over
from tests.integration.rootcoord.test_time_ticks import PATIENCE_S, Log, members
from tests.support.etcd import eventually, unique_root
from tests.support.peers import Acting

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
