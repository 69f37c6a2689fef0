"""A real `coordd run` process: signals at any moment, settings from etcd, roles that end together."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from coordd.etcd import Delete, EtcdClient, Put
from coordd.ha.session import SessionRecord
from tests.support.coordd import LAYOUT, coordd_processes, etcd_client, milvus_yaml, wait_active
from tests.support.etcd import etcd_cluster, free_ports

pytestmark = pytest.mark.timeout(180)


async def session_keys(client: EtcdClient) -> set[str]:
    """All keys of sessions and of leadership, but for the log of past terms, which stays."""
    found = await client.range(LAYOUT.coordination_prefix, LAYOUT.session_end)
    keys = {kv.key for kv in found.kvs if not kv.key.startswith(LAYOUT.history_prefix)}
    return keys - {LAYOUT.server_id_counter}


@pytest.mark.parametrize("role", ["rootcoord", "mixcoord"])
async def test_a_signal_at_any_moment_of_the_start_ends_it_and_leaves_nothing(
    tmp_path: Path, role: str
) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first = await launcher.run(role, milvus_yaml(etcd.endpoints))
        await first.wait_log("coordd starts")
        first.send(signal.SIGTERM)
        assert await first.wait(5) == 0
        for number in range(8):
            process = await launcher.run(role, milvus_yaml(etcd.endpoints))
            await process.wait_log("coordd starts")
            await asyncio.sleep(number * 0.015)
            process.send(signal.SIGTERM)
            assert await process.wait(5) == 0, process.log()
            assert "Traceback" not in process.log()
            # A heartbeat may stay: it makes the next one wait for as long as this one might have served.
            left = await session_keys(client)
            assert all(key.startswith(LAYOUT.heartbeat_prefix) for key in left), process.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
async def test_every_stop_signal_gives_leadership_up(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await process.wait_log("RootCoord startup success")
        process.send(number)
        process.send(signal.SIGTERM)
        assert await process.wait(5) == 0
        assert await session_keys(client) == set()
        assert "Traceback" not in process.log()


async def test_a_stop_while_etcd_does_not_answer_takes_a_few_seconds_at_most(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        active = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await wait_active(client, "rootcoord")
        await active.wait_log("RootCoord startup success")
        standby = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await standby.wait_log("enter STANDBY mode")
        etcd.members[0].pause()
        starting = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await starting.wait_log("coordd starts")
        for process in (starting, standby, active):
            process.send(signal.SIGTERM)
        for process in (starting, standby, active):
            assert await process.wait(6) == 0
            assert "Traceback" not in process.log()
        etcd.members[0].resume()


async def test_settings_in_etcd_are_in_force_from_the_start(tmp_path: Path) -> None:
    port, management = free_ports(2)
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        await client.put("by-dev/config/log/level", b"debug")
        await client.put("by-dev/config/rootCoord/port", str(port).encode())
        await client.put("by-dev/config/log/format", b"json")
        process = await launcher.run(
            "rootcoord",
            milvus_yaml(etcd.endpoints, log={"level": "info"}),
            env={"METRICS_PORT": str(management)},
        )
        active = await wait_active(client, "rootcoord")
        assert active.record is not None
        assert active.record.address == f"127.0.0.1:{port}"
        await process.wait_log("RootCoord startup success")
        assert '"message": "RootCoord startup success"' in process.log()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{management}/log/level") as answer,
        ):
            assert await answer.json() == {"level": "debug"}


async def test_a_log_folder_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        settings = milvus_yaml(["127.0.0.1:1"], log={"file": {"rootPath": "/proc/none"}})
        process = await launcher.run("rootcoord", settings)
        assert await process.wait() == 1
        assert "/proc/none/rootcoord.log" in process.log()
        assert "log.file.rootPath" in process.log()
        assert "Traceback" not in process.log()


async def test_a_role_that_fails_lets_the_others_of_its_process_give_leadership_up(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        holder = SessionRecord(server_id=900, server_name="datacoord", address="10.9.9.9:1", version="2.3.5")
        await client.txn([], [Put(LAYOUT.session("datacoord"), holder.to_json())])
        settings = milvus_yaml(etcd.endpoints)
        settings["dataCoord"]["enableActiveStandby"] = False
        settings["common"]["session"]["retryTimes"] = 3
        process = await launcher.run("mixcoord", settings)
        await wait_active(client, "rootcoord")
        await wait_active(client, "querycoord")
        assert await process.wait(20) == 1
        log = process.log()
        assert "datacoord is held by server 900 at 10.9.9.9:1" in log
        assert "dataCoord.enableActiveStandby" in log
        assert "Traceback" not in log
        assert log.count("giving leadership up") == 2
        assert await session_keys(client) == {LAYOUT.session("datacoord")}


@pytest.mark.parametrize("how", ["the ACTIVE key went", "handed over"])
async def test_the_lines_of_a_takeover_are_milvus_own_and_in_order(tmp_path: Path, how: str) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        first = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await first.wait_log("RootCoord Register Finished")
        holder = await wait_active(client, "rootcoord")
        assert holder.record is not None
        standby = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await standby.wait_log("start to watch ACTIVE key")
        if how == "handed over":
            first.send(signal.SIGTERM)
        else:  # as at the end of a lease
            first.send(signal.SIGSTOP)
            keys = LAYOUT.session("rootcoord"), LAYOUT.session("rootcoord", holder.record.server_id)
            await client.txn([], [Delete(key) for key in keys])
        await standby.wait_log("RootCoord Register Finished")
        standby.send(signal.SIGTERM)
        assert await standby.wait() == 0
        log = standby.log()
    campaign = [
        '["stop watching ACTIVE key by-dev/meta/session/rootcoord"]',
        '["try to register as ACTIVE rootcoord service..."]',
    ]
    lines = [
        '["start server"] [name=rootcoord]',
        '["put session key into etcd"]',
        '["Service registered successfully"] [ServerName=rootcoord] [serverID=2]',
        '["update rootcoord state"] [state=StandBy]',
        '["RootCoord enter standby mode successfully"]',
        '["serverName: rootcoord enter STANDBY mode"]',
        f'["ACTIVE rootcoord has already been registered"] [holder=1] [address={holder.record.address}]',
        '["rootcoord start to watch ACTIVE key by-dev/meta/session/rootcoord"]',
        *([] if how == "handed over" else campaign),
        '["update rootcoord state"] [state=Initializing]',
        '["register ACTIVE rootcoord"]',
        '["serverName: rootcoord quit STANDBY mode, this node will become ACTIVE, ID: 2"]',
        '["RootCoord switch from standby to active, activating"]',
        '["update rootcoord state"] [state=Healthy]',
        '["rootcoord startup successfully"]',
        '["RootCoord startup success"]',
        '["RootCoord Register Finished"]',
        '["asked to stop"] [signal=SIGTERM]',
        '["update rootcoord state"] [state=Stopping]',
        '["giving leadership up"]',
        '["update rootcoord state"] [state=Abnormal]',
        '["coordd ends"]',
    ]
    at = 0
    for line in lines:
        at = log.find(line, at)
        assert at >= 0, f"{line} is not there, or comes too early:\n{log}"
    warnings = [line for line in log.splitlines() if "[WARN]" in line or "[ERROR]" in line]
    assert all("known data-loss bugs" in line for line in warnings), "a clean takeover is no trouble"
