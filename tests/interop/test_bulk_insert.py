"""Bulk inserts: coordd's answers and records beside Milvus', and files that real data nodes import for it."""

import json
import signal
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import ImportState, KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.pb.root_coord_pb2 import ImportResult
from tests.interop.scenario import connect
from tests.interop.test_recorded import RECORDING
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab
from tests.lab.install import LabError
from tests.lab.recorder import open_rootcoord
from tests.lab.recording import load
from tests.lab.wire import Stub

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

TASKS = "by-dev/meta/importtask/"
LIMIT = 5
DIM = 8
ROWS = 500
DONE_S = 60
UNKNOWN = "nope"


def asks(collection: str, *files: str, partition: str = "", **options: str) -> milvus_pb2.ImportRequest:
    return milvus_pb2.ImportRequest(
        db_name="default",
        collection_name=collection,
        partition_name=partition,
        channel_names=["no such"],
        files=files,
        options=[KeyValuePair(key=key, value=value) for key, value in options.items()],
    )


# The recorded cluster has these collections; `everything` is an alias of all_types.
REQUESTS = (
    asks("partitioned", "a/rows.json"),
    asks("partitioned", "a/rows.json", partition="p_2020", start_ts="1", end_ts="2"),
    asks("partitioned", "a/rows.json", partition="nope"),
    asks("partitioned", "a/rows.json", partition="p_gone"),
    asks("partitioned"),
    asks("partitioned", partition="nope"),
    asks("partitioned", "a.json", "b.json"),
    asks("partitioned", "a.npy", "b.json"),
    asks("partitioned", "a.json", "b.npy"),
    asks("partitioned", "a.parquet", "b"),
    asks("everything", "pk.npy", "vec.npy"),
    asks("partition_key", "rows.json"),
    asks("partition_key", "rows.json", partition="_default_1"),
    asks("partition_key", "insert/", "delta/", backup="true"),
    asks("partition_key", "insert/", "delta/", partition="_default_1", backup="True"),
    asks("partitioned", "insert/", backup="true"),
    asks("partitioned", "one_too_many.json"),
    asks("partitioned", "one_too_many.json", partition="nope"),
)
LISTS = tuple(
    milvus_pb2.ListImportTasksRequest(db_name="default", collection_name=name, limit=limit)
    for name, limit in (("", 0), ("", 2), ("", -1), ("partitioned", 0), ("partitioned", 1), ("everything", 9),
                        ("binary_auto_dynamic", 0), (UNKNOWN, 0))
)  # fmt: skip


@dataclass
class Outcome:
    """What one RootCoord answered and wrote; IDs and times of the run are taken out."""

    imports: list[dict[str, Any]]
    lists: list[dict[str, Any]]
    states: list[dict[str, Any]]
    reports: list[dict[str, Any]]
    unknown_collection: list[str]
    records: list[dict[str, Any]]


def answer(stub: Stub, method: str, request: Any) -> dict[str, Any]:
    reply = stub.call(method, request, timeout_s=20)
    return json_format.MessageToDict(reply, preserving_proto_field_name=True)


def recorded(lab: MilvusLab, rootcoord: Component) -> Outcome:
    with open_rootcoord(rootcoord.address) as stub:
        imports = [answer(stub, "Import", request) for request in REQUESTS]
        ids = [task for one in imports for task in one.get("tasks", [])]
        gets = [milvus_pb2.GetImportStateRequest(task=int(task)) for task in (*ids, 5, 0, -1)]
        outcome = Outcome(
            imports=imports,
            lists=[answer(stub, "ListImportTasks", request) for request in LISTS],
            states=[answer(stub, "GetImportState", request) for request in gets],
            reports=[answer(stub, "ReportImport", ImportResult(task_id=task, state=2)) for task in (5, 0)],
            unknown_collection=unknown_collection(stub),
            records=[
                json_format.MessageToDict(ImportTaskInfo.FromString(value), preserving_proto_field_name=True)
                for _, value in sorted(lab.etcd.dump(TASKS).items())
            ],
        )
    assert len(outcome.records) == len(ids) == LIMIT
    return without_run(outcome, ids)


def unknown_collection(stub: Stub) -> list[str]:
    """How an unknown collection is refused: as a gRPC error, or as a status; and in which words."""
    try:
        reply = stub.call("Import", asks(UNKNOWN, "rows.json"), timeout_s=20)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return ["OK", reply.status.detail]


def without_run(outcome: Outcome, ids: list[str]) -> Outcome:
    text = json.dumps(outcome.__dict__)
    for number, task in enumerate(ids):
        text = text.replace(task, f"task {number}")
    found = Outcome(**json.loads(text))
    for one in (
        *found.states,
        *found.records,
        *(task for tasks in found.lists for task in tasks.get("tasks", [])),
    ):
        if "create_ts" in one:
            assert int(one.pop("create_ts")) > 1_600_000_000
    return found


def test_the_same_calls_get_the_same_answers_and_leave_the_same_records(tmp_path: Path) -> None:
    outcomes = {}
    for kind in ("milvus", "coordd"):
        extra = {"rootCoord": {"importMaxPendingTaskCount": LIMIT}}
        with MilvusLab(tmp_path / kind, extra=extra) as lab:
            lab.etcd.load(load(RECORDING).etcd)
            rootcoord = lab.start("rootcoord") if kind == "milvus" else lab.start_coordd("rootcoord")
            lab.start_cluster(rootcoord=rootcoord, nodes=())
            outcomes[kind] = recorded(lab, rootcoord)
    ours, theirs = outcomes["coordd"], outcomes["milvus"]
    for request, one, other in zip(REQUESTS, ours.imports, theirs.imports, strict=True):
        assert one == other, request
    for asked, one, other in zip(LISTS, ours.lists, theirs.lists, strict=True):
        assert named(one) == named(other), asked
    assert [named(one) for one in ours.states] == [named(one) for one in theirs.states]
    assert ours.reports == theirs.reports
    assert [named(one) for one in ours.records] == [named(one) for one in theirs.records]
    text = "collection not found[database=default][collection=nope]"
    assert theirs.unknown_collection == ["UNKNOWN", text]
    assert ours.unknown_collection == ["OK", text], "a proxy would repeat the other for long"


def named(answered: dict[str, Any]) -> dict[str, Any]:
    """Without the one difference: Milvus does not name the collection of a task that has no partition."""
    text = json.dumps(answered).replace('"collection_name": "partition_key", ', "")
    return json.loads(
        text.replace('{"key": "collection", "value": "partition_key"}', '{"key": "collection"}')
    )


# --- with all of Milvus' nodes ---


@dataclass
class Cluster:
    lab: MilvusLab
    client: PymilvusClient
    folder: Path
    rootcoords: list[Component]

    def json_file(self, name: str, count: int = ROWS, *, tenants: int = 0) -> str:
        path = self.folder / f"{name}.json"
        rows = [{"pk": key, "vec": vector(key)} for key in range(count)]
        for row in rows if tenants else ():
            row["tenant"] = row["pk"] % tenants
        path.write_text(json.dumps({"rows": rows}))
        return str(path)

    def ended(self, task_id: int) -> dict[str, Any]:
        """What the client is told of a task that has ended."""

        def probe() -> dict[str, Any] | None:
            state = self.client.call("bulk_state", task_id=task_id)
            return state if state["state"] in ("Completed", "Failed", "Failed and cleaned") else None

        proxy = self.lab.component("proxy").process
        return proxy.wait_until(probe, timeout_s=DONE_S, what=f"the end of import task {task_id}")


def vector(key: int) -> list[float]:
    return [float(key + place) for place in range(DIM)]


def write_npy(path: Path, kind: str, shape: tuple[int, ...], data: bytes) -> str:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    header = header.ljust(128 - 11) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data)
    return str(path)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Milvus' processes with a pair of coordd's rootcoords, the first of them active."""
    folder = tmp_path_factory.mktemp("bulk")
    with MilvusLab(folder / "lab") as lab, PymilvusClient(lab.files, folder) as client:
        active = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=active)
        standby = lab.start_coordd("rootcoord", name="standby")
        standby.wait_standby()
        connect(lab, client)
        yield Cluster(lab, client, folder, [active, standby])


def test_rows_of_a_json_file_are_found(cluster: Cluster) -> None:
    client = cluster.client
    client.call("create_collection", name="books")
    task_id = client.call("bulk_insert", name="books", files=[cluster.json_file("books")])
    state = cluster.ended(task_id)
    assert (state["state"], state["rows"]) == ("Completed", ROWS), state
    assert state["infos"]["progress_percent"] == "100"
    assert state["infos"]["collection"] == "books"
    client.call("index_and_load", name="books")
    assert client.call("count", name="books") == ROWS
    assert client.call("nearest", name="books", key=250) == [249, 250, 251]
    assert client.call("bulk_tasks", name="books") == [task_id]


def test_rows_of_numpy_files_go_into_their_partition(cluster: Cluster) -> None:
    client, folder = cluster.client, cluster.folder
    client.call("create_collection", name="columns")
    client.call("create_partition", name="columns", partition="p")
    keys = range(ROWS)
    vectors = [value for key in keys for value in vector(key)]
    files = [
        write_npy(folder / "pk.npy", "<i8", (ROWS,), struct.pack(f"<{ROWS}q", *keys)),
        write_npy(folder / "vec.npy", "<f4", (ROWS, DIM), struct.pack(f"<{len(vectors)}f", *vectors)),
    ]
    task_id = client.call("bulk_insert", name="columns", files=files, partition="p")
    state = cluster.ended(task_id)
    assert (state["state"], state["rows"]) == ("Completed", ROWS), state
    assert state["infos"]["partition"] == "p"
    client.call("index_and_load", name="columns")
    assert client.call("count", name="columns") == ROWS
    assert client.call("nearest", name="columns", key=7) == [6, 7, 8]


def test_rows_go_into_all_shards_and_where_their_partition_key_says(cluster: Cluster) -> None:
    client = cluster.client
    client.call("create_keyed", name="keyed")
    file = cluster.json_file("keyed", tenants=7)
    with pytest.raises(LabError, match="not allow to set partition name"):
        client.call("bulk_insert", name="keyed", files=[file], partition="_default_0")
    state = cluster.ended(client.call("bulk_insert", name="keyed", files=[file]))
    assert (state["state"], state["rows"]) == ("Completed", ROWS), state
    [task] = [
        ImportTaskInfo.FromString(value)
        for value in cluster.lab.etcd.dump(TASKS).values()
        if file.encode() in value
    ]
    assert len(task.state.segments) > 4, "of two shards and four partitions"
    client.call("index_and_load", name="keyed")
    assert client.call("count", name="keyed") == ROWS


def test_a_file_that_is_no_good_fails_and_says_why(cluster: Cluster) -> None:
    client = cluster.client
    client.call("create_collection", name="bad")
    path = cluster.folder / "bad.json"
    path.write_text(json.dumps({"rows": [{"pk": 1, "vec": [1.0]}]}))
    state = cluster.ended(client.call("bulk_insert", name="bad", files=[str(path)]))
    assert state["state"] == "Failed"
    assert "vec" in state["infos"]["failed_reason"], state
    with pytest.raises(LabError, match="collection not found"):
        client.call("bulk_insert", name=UNKNOWN, files=[str(path)])


def test_a_task_goes_on_when_the_rootcoord_is_killed(cluster: Cluster) -> None:
    """Killed when the data node is at it: nothing is lost, and no row is there twice."""
    client, (active, standby) = cluster.client, cluster.rootcoords
    client.call("create_collection", name="killed")
    file = cluster.json_file("killed", 20 * ROWS)
    task_id = client.call("bulk_insert", name="killed", files=[file])

    def state_in_etcd() -> int:
        return ImportTaskInfo.FromString(
            cluster.lab.etcd.dump(f"{TASKS}{task_id}")[f"{TASKS}{task_id}"]
        ).state.stateCode

    begun = (ImportState.ImportStarted, ImportState.ImportPersisted)
    active.process.wait_until(lambda: state_in_etcd() in begun, timeout_s=20, what="a task under way")
    active.process.signal(signal.SIGKILL)
    standby.wait_state("Healthy")
    state = cluster.ended(task_id)
    assert (state["state"], state["rows"]) == ("Completed", 20 * ROWS), state
    client.call("index_and_load", name="killed")
    assert client.call("count", name="killed") == 20 * ROWS
