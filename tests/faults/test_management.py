"""The management port of real processes, through takeovers and trouble."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from coordd.ha.leadership import SessionEntry
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState
from tests.support.coordd import LAYOUT, etcd_client, wait_active
from tests.support.etcd import etcd_cluster
from tests.support.managed import LEADS, Managed, replicas, until
from tests.support.rootcoord_client import RootCoordClient

pytestmark = pytest.mark.timeout(90)


async def test_health_for_operators_and_load_balancers_through_a_takeover(tmp_path: Path) -> None:
    as_json = {"headers": {"Content-Type": "application/json"}}
    async with etcd_cluster() as etcd, replicas(tmp_path, etcd, 2) as (first, second):
        for one, code in ((first, StateCode.Healthy), (second, StateCode.StandBy)):
            assert await one.ask("/healthz") == (200, "OK")
            status, text = await one.ask("/healthz", **as_json)
            assert status == 200
            assert json.loads(text) == {"state": "OK", "detail": [{"name": "rootcoord", "code": code}]}
            assert await one.is_200("/livez")
            assert await one.is_200("/readyz")
        assert [await one.is_200("/leader") for one in (first, second)] == [True, False]
        assert [await one.is_200("/standby") for one in (first, second)] == [False, True]

        first.process.send(signal.SIGTERM)
        await until("the second leads", lambda: second.is_200("/leader"))
        assert not await second.is_200("/standby")
        assert await second.ask("/healthz") == (200, "OK")
        assert await first.process.wait() == 0
        assert await first.ask("/leader") == (0, "")


async def test_metrics_are_true(tmp_path: Path) -> None:
    role = {"role": "rootcoord"}
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        replicas(tmp_path, etcd, 2) as (first, second),
    ):
        active = await wait_active(client, "rootcoord")
        await assert_metrics_of_the_active(first, active)
        assert await second.metric("coordd_state", **role, state="standby") == 1
        assert await second.metric("coordd_state", **role, state="active") == 0
        assert await second.metric("coordd_epoch", **role) == 0
        assert await second.metric("coordd_follower_synced", **role) == 1
        assert not [name for name, _ in await second.metrics() if name.startswith("milvus_rootcoord")]

        first.process.send(signal.SIGTERM)
        heir = await wait_active(client, "rootcoord", other_than=active.record.server_id)
        await second.process.wait_log(LEADS)
        await assert_metrics_of_the_active(second, heir)
        assert "coordd_takeover_phase_seconds" in {name for name, _ in await second.metrics()}
        await second.process.wait_log("known data-loss bugs")  # of the etcd 3.5.1 that tests use


async def assert_metrics_of_the_active(one: Managed, held: SessionEntry) -> None:
    """As etcd and the answers of the process have them."""
    role, server_id = {"role": "rootcoord"}, held.record.server_id
    assert await one.metric("coordd_epoch", **role) == held.mod_revision
    assert await one.metric("coordd_server_id", **role) == server_id
    assert await one.metric("coordd_state", **role, state="active") == 1
    assert await one.metric("coordd_quarantined_keys", **role) == 0
    assert await one.metric("milvus_num_node", role_name="rootcoord", node_id=str(server_id)) == 1
    assert await one.metric("milvus_rootcoord_collection_num") == 0
    assert await one.metric("milvus_rootcoord_credential_num") == 1
    assert await one.metric("milvus_rootcoord_num_of_roles") == 2
    calls = {
        **role,
        "service": "RootCoord",
        "method": "AllocTimestamp",
        "grpc_code": "OK",
        "status_code": "0",
    }
    async with RootCoordClient(held.record.address) as rootcoord:
        await rootcoord.alloc_timestamp(2)
        first, count = await rootcoord.alloc_timestamp(5)
        await rootcoord.alloc_id(1000)
    assert await one.metric("coordd_rpc_calls_total", **calls) == 2
    # Prometheus has floats: a timestamp of 2^59 is given to some 64.
    assert await one.metric("milvus_rootcoord_timestamp") == float(first + count - 1)
    assert await one.metric("milvus_rootcoord_id_alloc_count") == 1000
    txns = await one.metric("coordd_etcd_requests_total", operation="Txn") or 0
    assert txns > 0

    async def beats() -> bool:
        now = await one.metrics()
        guard_s = now["coordd_guard_remaining_seconds", frozenset(role.items())]
        assert guard_s <= 2
        return guard_s > 0 and now["coordd_etcd_requests_total", frozenset({("operation", "Txn")})] > txns

    await until("another heartbeat", beats)


async def test_the_log_level_of_a_running_process_is_changed(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, replicas(tmp_path, etcd, 2) as (first, second):
        assert await second.ask("/log/level") == (200, '{"level":"info"}\n')
        put = {"method": "PUT", "json": {"level": "error"}}
        assert await second.ask("/log/level", **put) == (200, '{"level":"error"}\n')
        first.process.send(signal.SIGTERM)
        await until("the second leads", lambda: second.is_200("/leader"))
        assert LEADS in first.process.log()
        assert LEADS not in second.process.log()
        put["json"] = {"level": "info"}
        assert await second.ask("/log/level", **put) == (200, '{"level":"info"}\n')
        second.process.send(signal.SIGTERM)
        assert await second.process.wait() == 0
        assert "coordd ends" in second.process.log()


async def test_an_etcd_that_hangs_closes_the_guard_and_answers_wait(tmp_path: Path) -> None:
    role = {"role": "rootcoord"}
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        replicas(tmp_path, etcd, 1) as (one,),
        asyncio.TaskGroup() as group,
    ):
        active = await wait_active(client, "rootcoord")

        async def guard_passed() -> bool:
            return await one.metric("coordd_guard_remaining_seconds", **role) == 0

        async with RootCoordClient(active.record.address) as rootcoord:
            await rootcoord.alloc_timestamp()
            etcd.members[0].pause()
            await until("the guard has passed", guard_passed)
            assert await one.metric("coordd_state", **role, state="active") == 1
            assert not await one.is_200("/leader")
            assert await one.is_200("/healthz")
            held = group.create_task(rootcoord.alloc_timestamp(timeout_s=60), name="held")

            async def is_held() -> bool:
                return await one.metric("coordd_rpc_in_flight", **role) == 1

            await until("the call is held", is_held)
            assert not held.done()
            etcd.members[0].resume()
            await held
        await until("it leads as before", lambda: one.is_200("/leader"))
        assert await one.metric("coordd_epoch", **role) == active.mod_revision
        assert "coordd_rpc_bugs_total" not in {name for name, _ in await one.metrics()}


async def test_a_damaged_value_is_counted_until_it_is_restored(tmp_path: Path) -> None:
    key = LAYOUT.database(7)
    good = DatabaseInfo(name="restored", id=7, state=DatabaseState.DatabaseCreated)
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        replicas(tmp_path, etcd, 2) as pair,
    ):
        active = await wait_active(client, "rootcoord")

        async def quarantined(number: int) -> bool:
            return all(
                [await one.metric("coordd_quarantined_keys", role="rootcoord") == number for one in pair]
            )

        await client.put(key, b"\xff\xff\xff")
        await until("both have noticed", lambda: quarantined(1))
        for one in pair:
            await one.process.wait_log(key)
        assert await databases(active.record.address) == {"default"}
        await client.put(key, good.SerializeToString())
        await until("both have read it", lambda: quarantined(0))
        assert await databases(active.record.address) == {"default", "restored"}


async def databases(address: str) -> set[str]:
    async with RootCoordClient(address) as rootcoord:
        answer = await rootcoord.call(
            "ListDatabases", milvus_pb2.ListDatabasesRequest(), milvus_pb2.ListDatabasesResponse
        )
        return set(answer.db_names)
