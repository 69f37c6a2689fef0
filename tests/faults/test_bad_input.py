"""What an operator sees when something is wrong: a real process, its exit code and its words."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import grpc
import pytest

from coordd.etcd import Put
from coordd.pb import milvus_pb2
from tests.support.coordd import LAYOUT, coordd_processes, etcd_client, milvus_yaml, wait_active
from tests.support.etcd import etcd_cluster, free_ports
from tests.support.rootcoord_client import RootCoordClient

pytestmark = pytest.mark.timeout(60)


async def test_malformed_yaml_is_named_with_file_and_line(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", "etcd:\n  endpoints: [unclosed\nrootCoord: {}\n")
        assert await process.wait() == 1
        log = process.log()
        assert "milvus.yaml:" in log
        assert "Traceback" not in log


async def test_wrong_type_is_named_with_key_and_line(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run(
            "rootcoord", "etcd:\n  endpoints: localhost:2379\nrootCoord:\n  port: high\n"
        )
        assert await process.wait() == 1
        log = process.log()
        assert "rootCoord.port" in log
        assert "milvus.yaml:4" in log
        assert "Traceback" not in log


async def test_unknown_role(tmp_path: Path) -> None:
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("proxycoord", "")
        assert await process.wait() == 2
        log = process.log()
        assert "proxycoord" in log
        assert "rootcoord" in log
        assert "Traceback" not in log


async def test_port_in_use_is_an_error_at_start(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            settings = milvus_yaml(etcd.endpoints)
            settings["rootCoord"]["port"] = port
            process = await launcher.run("rootcoord", settings)
            assert await process.wait() == 1
        log = process.log()
        assert f"127.0.0.1:{port}" in log
        assert "rootCoord.port" in log
        assert "Traceback" not in log


async def test_management_port_in_use_names_its_setting(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            process = await launcher.run(
                "rootcoord", milvus_yaml(etcd.endpoints), env={"METRICS_PORT": str(port)}
            )
            assert await process.wait() == 1
        assert "METRICS_PORT" in process.log()
        assert "Traceback" not in process.log()


async def test_etcd_unreachable_at_start_is_waited_for_with_one_line(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml([f"127.0.0.1:{port}"]))
        log = await process.wait_log("etcd cannot be reached, waiting for it")
        (line,) = (line for line in log.splitlines() if "waiting for it" in line)
        assert f"127.0.0.1:{port}" in line
        started = time.monotonic()
        cpu_before = _cpu_s(process.pid)
        while time.monotonic() - started < 4:
            assert process.returncode is None
            await asyncio.sleep(0.1)
        assert _cpu_s(process.pid) - cpu_before < 1.0, "it must not spin"
        assert process.log().count("etcd cannot be reached") == 1


async def test_it_starts_as_soon_as_etcd_is_there(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        etcd.members[0].stop()
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await process.wait_log("etcd cannot be reached")
        etcd.members[0].start()
        await process.wait_log("RootCoord startup success")


async def test_wrong_etcd_password_names_the_user_and_hides_the_password(tmp_path: Path) -> None:
    async with etcd_cluster(auth=True) as etcd, coordd_processes(tmp_path) as launcher:
        settings = milvus_yaml(etcd.endpoints)
        settings["etcd"]["auth"] = {"enabled": True, "userName": "root", "password": "not-the-secret"}
        process = await launcher.run("rootcoord", settings)
        assert await process.wait() == 1
        log = process.log()
        assert "root" in log
        assert "etcd.auth" in log
        assert "not-the-secret" not in log
        assert "Traceback" not in log


async def test_session_record_that_is_not_json_keeps_standbys_waiting(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        active_key = LAYOUT.session("rootcoord")
        await client.txn([], [Put(active_key, b"not json")])
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        log = await process.wait_log(active_key)
        await process.wait_log("serverName: rootcoord enter STANDBY mode")
        assert "metadata value cannot be used" in log
        assert (await client.get(active_key)).kv.value == b"not json", "it is left for a person to look at"
        await client.delete(active_key)
        await process.wait_log("RootCoord startup success")


async def test_one_corrupt_collection_is_quarantined_and_the_rest_served(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        corrupt = LAYOUT.collection(1, 443)
        await client.txn([], [Put(corrupt, b"\xff\xff\xffgarbage")])
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await process.wait_log("RootCoord startup success")
        assert corrupt in process.log()
        active = await wait_active(client, "rootcoord")
        async with RootCoordClient(active.record.address) as rootcoord:
            answer = await rootcoord.call(
                "ListDatabases", milvus_pb2.ListDatabasesRequest(), milvus_pb2.ListDatabasesResponse
            )
            assert list(answer.db_names) == ["default"]
            await rootcoord.alloc_timestamp()
        assert (await client.get(corrupt)).kv.value == b"\xff\xff\xffgarbage"


async def test_pitfall_6_requests_without_base_and_oversized_ones_do_no_harm(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        coordd_processes(tmp_path) as launcher,
    ):
        settings = milvus_yaml(etcd.endpoints, grpc={"serverMaxRecvSize": 1 << 20})
        process = await launcher.run("rootcoord", settings)
        await process.wait_log("RootCoord startup success")
        active = await wait_active(client, "rootcoord")
        async with RootCoordClient(active.record.address) as rootcoord:
            for method, request, response in (
                (
                    "DescribeCollection",
                    milvus_pb2.DescribeCollectionRequest(),
                    milvus_pb2.DescribeCollectionResponse,
                ),
                ("HasCollection", milvus_pb2.HasCollectionRequest(), milvus_pb2.BoolResponse),
                ("ShowCollections", milvus_pb2.ShowCollectionsRequest(), milvus_pb2.ShowCollectionsResponse),
                ("ShowPartitions", milvus_pb2.ShowPartitionsRequest(), milvus_pb2.ShowPartitionsResponse),
                ("HasPartition", milvus_pb2.HasPartitionRequest(), milvus_pb2.BoolResponse),
            ):
                answer = await rootcoord.call(method, request, response)
                assert isinstance(answer, response), method
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await rootcoord.call(
                    "HasCollection",
                    milvus_pb2.HasCollectionRequest(collection_name="x" * (2 << 20)),
                    milvus_pb2.BoolResponse,
                )
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            await rootcoord.alloc_timestamp()
        assert "Traceback" not in process.log()


async def test_no_secret_is_in_the_log(tmp_path: Path) -> None:
    """At DEBUG, with a real login to etcd and a root user that is created, from start to end."""
    async with etcd_cluster(auth=True) as etcd, coordd_processes(tmp_path) as launcher:
        settings = milvus_yaml(
            etcd.endpoints,
            log={"level": "debug"},
            minio={"secretAccessKey": "hidden-minio-key"},
            kafka={"saslUsername": "hidden-kafka-user", "saslPassword": "hidden-kafka-password"},
        )
        settings["etcd"]["auth"] = {"enabled": True, "userName": "root", "password": "root-password"}
        settings["etcd"]["noSuchPassword"] = "hidden-behind-an-unknown-key"  # named at DEBUG
        settings["common"]["security"] = {"defaultRootPassword": "hidden-root-password"}
        process = await launcher.run("rootcoord", settings)
        await process.wait_log("RootCoord startup success")
        process.send(signal.SIGTERM)
        assert await process.wait() == 0
        log = process.log()
        assert "[DEBUG]" in log
        assert "root_user=true" in log, "the password was hashed and written in this run"
        for secret in ("hidden-", "root-password", "$2a$", "$2b$"):
            assert secret not in log


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def test_log_lines_as_json(tmp_path: Path) -> None:
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        process = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints, log={"format": "json"}))
        log = await process.wait_log("RootCoord startup success")
        lines = [json.loads(line) for line in log.splitlines() if line]
        assert any(line["message"] == "RootCoord startup success" for line in lines)
