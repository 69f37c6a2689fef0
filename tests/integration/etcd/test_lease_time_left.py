"""How long a lease has left, as `coordd status` shows it."""

from coordd.etcd import EtcdClient
from tests.support.etcd import EtcdCluster


async def test_time_left_of_a_lease_and_of_none(etcd_server: EtcdCluster) -> None:
    async with EtcdClient(etcd_server.settings()) as client:
        lease = await client.grant(60)
        left = await client.lease_time_left_s(lease.id)
        assert left is not None
        assert 50 < left <= 60
        await client.revoke(lease.id)
        assert await client.lease_time_left_s(lease.id) is None
