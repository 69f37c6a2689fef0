"""Pairs of real `coordd run rootcoord` processes on real etcd, ended and paused by real signals."""

import asyncio
import signal
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordd.clock import boottime
from coordd.etcd import Event, prefix_end
from coordd.ha.leadership import decode_heartbeat
from coordd.pb.common_pb2 import MsgBase, MsgType, StateCode, Status
from coordd.pb.milvus_pb2 import CreateRoleRequest, RoleEntity
from tests.support.coordd import (
    LAYOUT,
    CoorddProcess,
    coordd_processes,
    etcd_client,
    milvus_yaml,
    wait_active,
)
from tests.support.etcd import etcd_cluster
from tests.support.managed import until
from tests.support.rootcoord_client import RootCoordClient

pytestmark = pytest.mark.timeout(120)

TTL_S = 60
"""Longer than any wait here: nothing that happens can be due to the end of a lease."""


async def _pair(
    launcher, endpoints, client, *, ttl_s: int, **more: dict[str, Any]
) -> tuple[CoorddProcess, CoorddProcess, object]:
    """An active and a standby, both registered, and the ACTIVE entry. `more`: sections of their settings."""
    settings = milvus_yaml(endpoints, ttl_s=ttl_s, **more)
    first = await launcher.run("rootcoord", settings)
    active = await wait_active(client, "rootcoord")
    await first.wait_log("RootCoord startup success")
    second = await launcher.run("rootcoord", settings)
    await second.wait_log("serverName: rootcoord enter STANDBY mode")
    return first, second, active


@pytest.mark.parametrize(("members", "quota"), [(1, False), (3, True)])
async def test_pitfall_5_sigterm_hands_the_role_over_at_once(
    tmp_path: Path, members: int, *, quota: bool
) -> None:
    """`quota`: whether the quota centre has anything to do. Milvus' stop waits for one that never began."""
    async with (
        etcd_cluster(members=members) as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first, second, active = await _pair(
            launcher, etcd.endpoints, client, ttl_s=TTL_S, quotaAndLimits={"enabled": quota}
        )
        async with RootCoordClient(active.record.address) as rootcoord:
            before, _ = await rootcoord.alloc_timestamp()
        first.send(signal.SIGTERM)
        heir = await wait_active(client, "rootcoord", other_than=active.record.server_id, timeout_s=10)
        assert await first.wait() == 0
        await second.wait_log("RootCoord startup success")
        async with RootCoordClient(heir.record.address) as rootcoord:
            assert await rootcoord.state_code() == StateCode.Healthy
            after, _ = await rootcoord.alloc_timestamp()
        assert after > before
        assert heir.mod_revision > active.mod_revision
        changes = await _changes(client, LAYOUT.session("rootcoord"), active.mod_revision)
        assert [revision for revision, _ in changes] == [active.mod_revision, heir.mod_revision]
        assert all(value for _, value in changes), "the ACTIVE key changed hands in place"
        # Nothing of the stopped one is left: its lease was given back, not waited for.
        assert (await client.get(LAYOUT.session("rootcoord", active.record.server_id))).kv is None


@pytest.mark.parametrize("members", [1, 3])
async def test_kill_9_is_followed_by_takeover_long_before_the_lease_ends(
    tmp_path: Path, members: int
) -> None:
    async with (
        etcd_cluster(members=members) as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first, second, active = await _pair(launcher, etcd.endpoints, client, ttl_s=TTL_S)
        async with RootCoordClient(active.record.address) as rootcoord:
            before, _ = await rootcoord.alloc_timestamp(1000)
            id_before, _ = await rootcoord.alloc_id(1_000_000)
        first.send(signal.SIGKILL)
        heir = await wait_active(client, "rootcoord", other_than=active.record.server_id, timeout_s=20)
        await second.wait_log("RootCoord startup success")
        async with RootCoordClient(heir.record.address) as rootcoord:
            after, _ = await rootcoord.alloc_timestamp()
            id_after, _ = await rootcoord.alloc_id()
        assert after >= before + 1000
        assert id_after >= id_before + 1_000_000
        changes = await _changes(client, LAYOUT.session("rootcoord"), active.mod_revision)
        assert [revision for revision, _ in changes] == [active.mod_revision, heir.mod_revision]
        assert all(value for _, value in changes), "taken in place: the ACTIVE key was never absent"
        await _wait_gone(client, LAYOUT.session("rootcoord", active.record.server_id))


async def test_the_standby_line_comes_every_ten_seconds(tmp_path: Path) -> None:
    line = "serverName: rootcoord is in STANDBY ..."
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first, second, _active = await _pair(launcher, etcd.endpoints, client, ttl_s=TTL_S)
        log = await second.wait_log(line, count=2)
        said = [
            datetime.strptime(one[1:31], "%Y/%m/%d %H:%M:%S.%f %z") for one in log.splitlines() if line in one
        ]
        assert 9.9 < (said[1] - said[0]).total_seconds() < 15
        assert line not in first.log()
        second.send(signal.SIGTERM)
        assert await second.wait() == 0, "SIGTERM ends a standby too"


async def test_pitfall_4_a_paused_active_that_wakes_answers_and_commits_nothing(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first, second, active = await _pair(launcher, etcd.endpoints, client, ttl_s=TTL_S)
        async with RootCoordClient(active.record.address, active.record.server_id) as old:
            await old.alloc_timestamp()
            first.send(signal.SIGSTOP)
            # These lie in the paused process' socket when it wakes.
            waiting = [asyncio.ensure_future(old.alloc_timestamp(timeout_s=60)) for _ in range(20)]
            waiting += [asyncio.ensure_future(_create_role(old, f"late_{n}", 60)) for n in range(5)]
            heir = await wait_active(client, "rootcoord", other_than=active.record.server_id, timeout_s=20)
            await second.wait_log("RootCoord startup success")
            async with RootCoordClient(heir.record.address) as new:
                await new.alloc_timestamp()
                first.send(signal.SIGCONT)
                outcomes = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(outcome, grpc.aio.AioRpcError) for outcome in outcomes), outcomes
            codes = {outcome.code() for outcome in outcomes}
            assert codes <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN}, outcomes
        # It stands by again under a new server ID, in the same process.
        await first.wait_log("serverName: rootcoord enter STANDBY mode", count=2)
        written = await _events_since(client, heir.mod_revision)
        # No key of a role among them: what was answered to nobody was not committed either.
        allowed = (
            LAYOUT.session_prefix,
            LAYOUT.heartbeat_prefix,
            LAYOUT.standby_prefix,
            LAYOUT.history_prefix,
            LAYOUT.kv,
        )
        assert all(event.key.startswith(allowed) for event in written), written
        old_keys = {
            LAYOUT.session("rootcoord", active.record.server_id),
            LAYOUT.standby_report("rootcoord", active.record.server_id),
        }
        assert all(event.deleted for event in written if event.key in old_keys), "its lease was revoked"
        beats = [event for event in written if event.key.startswith(LAYOUT.heartbeat_prefix)]
        assert beats, "the new active's heartbeats are among the events"
        assert {decode_heartbeat(event.value)[0] for event in beats} == {heir.record.server_id}
        holders = [event for event in written if event.key == LAYOUT.session("rootcoord")]
        assert [event.mod_revision for event in holders] == [heir.mod_revision]
        window_writes = [event for event in written if event.key == LAYOUT.timestamp]
        assert [event.value for event in window_writes] == sorted(event.value for event in window_writes)
        async with RootCoordClient(heir.record.address) as new:
            await _create_role(new, "late_0")
        roles = await client.range(LAYOUT.role_prefix, prefix_end(LAYOUT.role_prefix))
        assert [kv.key for kv in roles.kvs if "late_" in kv.key] == [f"{LAYOUT.role_prefix}late_0"]


async def _create_role(rootcoord: RootCoordClient, name: str, timeout_s: float = 5.0) -> None:
    request = CreateRoleRequest(base=MsgBase(msg_type=MsgType.CreateRole), entity=RoleEntity(name=name))
    status = await rootcoord.call("CreateRole", request, Status, timeout_s)
    assert status.code == 0, status


async def _changes(client, key: str, revision: int) -> list[tuple[int, bytes | None]]:
    """Revision and value of each change of a key since `revision`."""
    events = await _events_since(client, revision)
    return [(event.mod_revision, event.value) for event in events if event.key == key]


async def _wait_gone(client, key: str) -> None:
    """Wait until the key is there no more, for less time than a lease lasts."""

    async def gone() -> bool:
        return (await client.get(key)).kv is None

    await until(f"{key} is gone", gone, TTL_S / 2)


async def _events_since(client, revision: int) -> list[Event]:
    """All that was written below the cluster's root since `revision`, up to now."""
    now = await client.revision()
    events: list[Event] = []
    deadline = boottime() + 10
    async for batch in client.watch("by-dev/", prefix_end("by-dev/"), from_revision=revision):
        events += [event for event in batch.events if event.mod_revision <= now]
        if batch.revision >= now or boottime() > deadline:
            return events
    raise AssertionError("the watch ended")


async def test_switched_off_active_standby_is_exclusive(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        settings = milvus_yaml(etcd.endpoints, active_standby=False)
        settings["common"]["session"]["retryTimes"] = 2
        first = await launcher.run("rootcoord", settings)
        active = await wait_active(client, "rootcoord")
        await first.wait_log("RootCoord startup success")
        second = await launcher.run("rootcoord", settings)
        assert await second.wait() == 1
        log = second.log()
        assert f"server {active.record.server_id} at {active.record.address}" in log
        assert "rootCoord.enableActiveStandby" in log
        assert (await wait_active(client, "rootcoord")).mod_revision == active.mod_revision
        async with RootCoordClient(active.record.address) as rootcoord:
            assert await rootcoord.state_code() == StateCode.Healthy


@pytest.mark.parametrize("role", ["datacoord", "querycoord"])
async def test_the_other_roles_stand_by_and_take_over(tmp_path: Path, role: str) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first = await launcher.run(role, milvus_yaml(etcd.endpoints))
        active = await wait_active(client, role)
        second = await launcher.run(role, milvus_yaml(etcd.endpoints))
        await second.wait_log(f"serverName: {role} enter STANDBY mode")
        if role == "datacoord":
            assert (await client.get(LAYOUT.session("indexcoord"))).kv is not None
        first.send(signal.SIGTERM)
        heir = await wait_active(client, role, other_than=active.record.server_id)
        await second.wait_log("startup success")
        assert heir.record.address != active.record.address


async def test_mixcoord_runs_the_three_roles_in_one_process(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first = await launcher.run("mixcoord", milvus_yaml(etcd.endpoints))
        holders = {role: await wait_active(client, role) for role in ("rootcoord", "datacoord", "querycoord")}
        second = await launcher.run("mixcoord", milvus_yaml(etcd.endpoints))
        for role in holders:
            await second.wait_log(f"serverName: {role} enter STANDBY mode")
        first.send(signal.SIGTERM)
        for role, holder in holders.items():
            await wait_active(client, role, other_than=holder.record.server_id)
        assert await first.wait() == 0
