"""What README.md and docs/operations.md promise an operator of coordd alone, on real processes."""

import asyncio
import json
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from coordd.config.schema import SCHEMA, Kind
from coordd.etcd.child import bound_to_parent
from coordd.ha.leadership import SessionEntry
from coordd.ha.session import SessionRecord
from coordd.meta.layout import MetaLayout
from coordd.pb import common_pb2, milvus_pb2
from tests.packaging.files import COORDD, ROOT, clean_env
from tests.support.coordd import (
    LAYOUT,
    CoorddProcess,
    Launcher,
    coordd_processes,
    etcd_client,
    milvus_yaml,
    wait_active,
)
from tests.support.etcd import EtcdCluster, etcd_cluster, free_ports, unique_root
from tests.support.managed import LEADS, LIMIT_S, STANDBY, replicas, until
from tests.support.rootcoord_client import RootCoordClient

pytestmark = pytest.mark.timeout(150)


async def start(
    launcher: Launcher, folder: Path, *arguments: str | Path, env: Mapping[str, str]
) -> CoorddProcess:
    """The installed `coordd` in `folder`, with no environment but `env`; its log lies beside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    log_path = folder.with_suffix(".log")
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent([str(COORDD), *map(str, arguments)]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=clean_env(**env),
        )
    launcher.processes.append(CoorddProcess(process, log_path))
    return launcher.processes[-1]


def on_loopback(etcd: EtcdCluster, *, etcd_root: str) -> dict[str, str]:
    """What a test adds to any configuration: a place of its own in etcd, free ports on loopback."""
    rpc, management = free_ports(2)
    return {
        "ETCD_ENDPOINTS": ",".join(etcd.endpoints),
        "ETCD_ROOT_PATH": etcd_root,
        "ROOT_COORD_IP": "127.0.0.1",
        "ROOT_COORD_PORT": str(rpc),
        "METRICS_PORT": str(management),
        "COORDD_RPC_LISTEN_HOST": "127.0.0.1",
        "COORDD_MANAGEMENT_LISTEN_HOST": "127.0.0.1",
    }


# --- configuration ---


async def test_two_variables_make_a_pair(tmp_path: Path, etcd_server: EtcdCluster) -> None:
    """No file at all. The other variables here only keep the test off other addresses and etcd keys."""
    root = unique_root()
    async with coordd_processes(tmp_path) as launcher:

        async def one(name: str) -> CoorddProcess:
            env = on_loopback(etcd_server, etcd_root=root) | {"ROOT_COORD_ENABLE_ACTIVE_STANDBY": "true"}
            return await start(launcher, tmp_path / name, "run", "rootcoord", env=env)

        first = await one("first")
        await first.wait_log(LEADS)
        second = await one("second")
        await second.wait_log(STANDBY)
        first.send(signal.SIGTERM)
        await second.wait_log(LEADS)
        assert await first.wait() == 0


@pytest.mark.parametrize("version", ["2.2.3", "2.3.5", "2.5"])
async def test_a_milvus_yaml_is_taken_as_it_is(
    tmp_path: Path, etcd_server: EtcdCluster, version: str
) -> None:
    folder = tmp_path / "milvus"
    (folder / "configs").mkdir(parents=True)
    shipped = ROOT / "tests" / "unit" / "config" / "files" / f"milvus-{version}.yaml"
    (folder / "configs" / "milvus.yaml").write_bytes(shipped.read_bytes())
    async with coordd_processes(tmp_path) as launcher:
        env = on_loopback(etcd_server, etcd_root=unique_root())
        process = await start(launcher, folder, "run", "rootcoord", env=env)
        log = await process.wait_log(LEADS)
        assert "milvus.yaml" in log
        async with RootCoordClient(f"127.0.0.1:{env['ROOT_COORD_PORT']}") as rootcoord:
            await rootcoord.alloc_timestamp()


async def test_config_check_names_every_wrong_key_with_its_line(tmp_path: Path) -> None:
    """Each key that is read and is more than a text is wrong at once; that of Kafka may be blank."""
    wrong = {
        one.path: "" if one.kind is Kind.LIST else "sideways"
        for one in SCHEMA
        if one.kind is not Kind.TEXT and one.path != "kafka.brokerList"
    }
    assert len(wrong) > 50
    document: dict[str, Any] = {}
    for path, value in wrong.items():
        *sections, key = path.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    async with coordd_processes(tmp_path) as launcher:
        process = await start(launcher, tmp_path / "check", "config", "check", file, env={})
        assert await process.wait() == 1
    found = re.findall(rf"^error: {re.escape(str(file))}:(\d+): (\S+) ", process.log(), re.MULTILINE)
    lines = lines_of(yaml.compose(file.read_text()))
    assert sorted(found) == sorted((str(lines[path]), path) for path in wrong)


def lines_of(node: yaml.Node, path: str = "") -> dict[str, int]:
    """Line of each key of a YAML document, by its dotted path."""
    found: dict[str, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}".lstrip(".")
            found[here] = key.start_mark.line + 1
            found |= lines_of(value, here)
    return found


async def test_without_an_address_it_advertises_that_of_the_machine(
    tmp_path: Path, etcd_server: EtcdCluster
) -> None:
    root = unique_root()
    ipv4 = [one.address for a in psutil.net_if_addrs().values() for one in a if one.family == socket.AF_INET]
    global_ones = [text for text in ipv4 if not text.startswith(("127.", "169.254."))]
    async with coordd_processes(tmp_path) as launcher, etcd_client(etcd_server.endpoints) as client:
        env = on_loopback(etcd_server, etcd_root=root)
        env.pop("ROOT_COORD_IP")
        process = await start(launcher, tmp_path / "one", "run", "rootcoord", env=env)
        await process.wait_log(LEADS)
        held = (await client.get(MetaLayout(root, "meta", "kv").session("rootcoord"))).kv
        assert held is not None
        host, _, port = SessionRecord.from_json(held.value).address.rpartition(":")
        assert host in (global_ones or ["127.0.0.1"])
        assert port == env["ROOT_COORD_PORT"]


NO_QUEUE = "no message queue: collections cannot be made or dropped"
OF_A_COLLECTION = (
    ("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name="a")),
    ("DropCollection", milvus_pb2.DropCollectionRequest(collection_name="a")),
    ("CreatePartition", milvus_pb2.CreatePartitionRequest(collection_name="a", partition_name="p")),
    ("DropPartition", milvus_pb2.DropPartitionRequest(collection_name="a", partition_name="p")),
)
OTHERS = (
    ("CreateDatabase", milvus_pb2.CreateDatabaseRequest(db_name="books")),
    ("DropDatabase", milvus_pb2.DropDatabaseRequest(db_name="books")),
    ("CreateRole", milvus_pb2.CreateRoleRequest(entity=milvus_pb2.RoleEntity(name="reader"))),
)


async def test_without_a_message_queue_all_but_four_methods_are_served(
    tmp_path: Path, etcd_server: EtcdCluster
) -> None:
    async with coordd_processes(tmp_path) as launcher:
        env = on_loopback(etcd_server, etcd_root=unique_root())
        process = await start(launcher, tmp_path / "one", "run", "rootcoord", env=env)
        log = await process.wait_log(LEADS)
        assert NO_QUEUE in log
        async with RootCoordClient(f"127.0.0.1:{env['ROOT_COORD_PORT']}") as rootcoord:
            await rootcoord.alloc_timestamp()
            for method, request in OTHERS:
                answer = await rootcoord.call(method, request, common_pb2.Status)
                assert answer.code == 0, (method, answer)
            for method, request in OF_A_COLLECTION:
                answer = await rootcoord.call(method, request, common_pb2.Status)
                assert answer.code != 0, method
                assert "neither pulsar.address nor kafka.brokerList is set" in answer.reason, (method, answer)


# --- takeovers as an operator sees them ---


async def test_status_watch_reports_a_takeover(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        replicas(tmp_path, etcd, 2) as (first, second),
        coordd_processes(tmp_path) as launcher,
    ):
        active = await wait_active(client, "rootcoord")
        config = first.process.log_path.parent
        arguments = ("status", "--watch", "--config", config)
        table = await start(launcher, tmp_path / "table", *arguments, env={})
        lines = await start(launcher, tmp_path / "lines", *arguments, "--json", env={})

        async def shown(held: SessionEntry, pid: int) -> bool:
            reports = [json.loads(line) for line in lines.log().splitlines() if line.endswith("}")]
            actives = [report["roles"][0]["active"] for report in reports]
            row = rf"coordd {held.record.server_id}\s+ACTIVE\s+{held.mod_revision}\s.*\s{pid}\s"
            return bool(re.search(row, table.log())) and any(
                (one["epoch"], one["pid"]) == (held.mod_revision, pid) for one in actives if one
            )

        await until("both show the first", lambda: shown(active, first.process.pid))
        first.process.send(signal.SIGTERM)
        heir = await wait_active(client, "rootcoord", other_than=active.record.server_id)
        await until("both show the second", lambda: shown(heir, second.process.pid))
        for watching in (table, lines):
            watching.send(signal.SIGINT)
            assert await watching.wait() == 130
            assert "Traceback" not in watching.log()


async def test_a_paused_standby_registers_anew_and_takes_over(tmp_path: Path) -> None:
    async with (
        etcd_cluster() as etcd,
        etcd_client(etcd.endpoints) as client,
        replicas(tmp_path, etcd, 2, common={"session": {"ttl": 2}}) as (first, second),
    ):
        active = await wait_active(client, "rootcoord")
        old_id = await second.metric("coordd_server_id", role="rootcoord")
        assert old_id is not None
        old_key = LAYOUT.session("rootcoord", int(old_id))
        second.process.send(signal.SIGSTOP)

        async def lapsed() -> bool:
            return (await client.get(old_key)).kv is None

        await until("its session has ended", lapsed)
        second.process.send(signal.SIGCONT)
        await second.process.wait_log("session ended, registering anew")
        await second.process.wait_log(STANDBY, count=2)
        first.process.send(signal.SIGTERM)
        heir = await wait_active(client, "rootcoord", other_than=active.record.server_id)
        assert heir.record.server_id > old_id
        await second.process.wait_log(LEADS)


async def test_the_log_file_and_the_line_that_the_readme_shows(tmp_path: Path) -> None:
    line = "serverName: rootcoord is in STANDBY ..."
    (example,) = [shown for shown in (ROOT / "README.md").read_text("utf-8").splitlines() if line in shown]
    form = re.sub(r"\d+", r"\\d+", re.escape(example))
    async with etcd_cluster() as etcd, coordd_processes(tmp_path) as launcher:
        first = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints))
        await first.wait_log(LEADS)
        files = {"stdout": False, "file": {"rootPath": str(tmp_path / "logs")}}
        second = await launcher.run("rootcoord", milvus_yaml(etcd.endpoints, log=files))
        in_file = CoorddProcess(second._process, tmp_path / "logs" / "rootcoord.log")

        async def exists() -> bool:
            return in_file.log_path.exists()

        await until("the file is there", exists)
        log = await in_file.wait_log(line, timeout_s=20)
        assert any(re.fullmatch(form, written) for written in log.splitlines()), form
        assert second.log() == ""


async def test_it_needs_no_place_to_write(tmp_path: Path, etcd_server: EtcdCluster) -> None:
    """In a process that cannot write one byte to a file; only its standard output, a pipe, stays."""
    env = clean_env(**on_loopback(etcd_server, etcd_root=unique_root()), TMPDIR=str(tmp_path))
    command = ["/bin/sh", "-c", 'ulimit -f 0 && exec "$@"', "sh", str(COORDD), "run", "rootcoord"]
    process = await asyncio.create_subprocess_exec(
        *bound_to_parent(command),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
        env=env,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            while LEADS not in (line := (await process.stdout.readline()).decode()):
                assert line, "it ended"
        process.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(process.communicate(), LIMIT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert "Traceback" not in rest.decode()
    assert list(tmp_path.iterdir()) == []
