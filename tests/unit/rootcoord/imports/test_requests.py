"""Import requests: the task that each makes, or why it is refused."""

from typing import Any

import pytest

from coordd.meta.tables import CollectionView, RootCoordTables
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo, ImportTaskState
from coordd.pb.milvus_pb2 import ImportRequest
from coordd.rootcoord.imports.answers import describe, listed
from coordd.rootcoord.imports.requests import extension_of, is_backup, made_before, plan_task
from coordd.rootcoord.imports.states import COMPLETED, FLUSHED, PENDING, PERSISTED
from coordd.rpc.status import MilvusError
from tests.unit.rootcoord.recorded import world

NOW_S = 1_700_000_000


@pytest.fixture
async def tables() -> RootCoordTables:
    return (await world()).tables


def view(tables: RootCoordTables, name: str) -> CollectionView:
    row = tables.collections.find(1, name)
    assert row is not None
    found = tables.collections.whole(row.collection_id)
    assert found is not None
    return found


def planned(
    tables: RootCoordTables,
    name: str,
    *files: str,
    partition: str = "",
    options: dict[str, str] | None = None,
    pending: int = 0,
    limit: int = 32,
) -> ImportTaskInfo:
    request = ImportRequest(
        db_name="default",
        collection_name=name,
        partition_name=partition,
        channel_names=["not asked"],
        files=files,
        options=[KeyValuePair(key=key, value=value) for key, value in (options or {}).items()],
    )
    return plan_task(
        request,
        view(tables, name),
        task_id=5,
        now_s=NOW_S,
        default_partition="_default",
        pending=pending,
        limit=limit,
    )


def refusal(tables: RootCoordTables, name: str, *files: str, **rest: Any) -> tuple[int, str]:
    with pytest.raises(MilvusError) as raised:
        planned(tables, name, *files, **rest)
    status = raised.value.to_status()
    return status.code, status.detail


async def test_a_row_based_file(tables: RootCoordTables) -> None:
    task = planned(tables, "partitioned", "a/rows.json", partition="p_2020", options={"start_ts": "1"})
    books = view(tables, "partitioned")
    [partition] = [one for one in books.partitions if one.name == "p_2020"]
    assert (task.id, task.collection_id, task.partition_id) == (5, books.id, partition.id)
    assert list(task.channel_names) == list(books.info.virtual_channel_names)
    assert (list(task.files), task.create_ts, task.start_ts) == (["a/rows.json"], NOW_S, 0)
    assert (task.state.stateCode, task.database_name) == (PENDING, "default")
    assert (task.collection_name, task.partition_name) == ("partitioned", "p_2020")
    assert [(info.key, info.value) for info in task.infos] == [("start_ts", "1")]


async def test_without_a_partition_it_is_the_default_one(tables: RootCoordTables) -> None:
    assert planned(tables, "partitioned", "rows.json").partition_name == "_default"


async def test_files_of_columns_are_one_task(tables: RootCoordTables) -> None:
    assert list(planned(tables, "partitioned", "pk.npy", "vec.npy").files) == ["pk.npy", "vec.npy"]


async def test_a_partition_key_says_where_rows_go(tables: RootCoordTables) -> None:
    task = planned(tables, "partition_key", "rows.json")
    assert (task.partition_id, task.partition_name, task.collection_name) == (0, "", "partition_key")
    text = "not allow to set partition name for collection with partition key: invalid parameter"
    assert refusal(tables, "partition_key", "rows.json", partition="_default_0") == (1100, text)


async def test_a_backup_names_its_partition(tables: RootCoordTables) -> None:
    options = {"backup": "True"}
    text = "partition not specified: invalid parameter"
    for name in ("partition_key", "partitioned"):
        assert refusal(tables, name, "insert/", "delta/", options=options) == (1100, text)
    task = planned(tables, "partition_key", "insert/", "delta/", partition="_default_1", options=options)
    assert (task.partition_name, list(task.files)) == ("_default_1", ["insert/", "delta/"])
    assert task.partition_id


@pytest.mark.parametrize(
    ("files", "code", "text"),
    [
        ([], 1100, "import request is empty: invalid parameter"),
        (
            ["a.json", "b.json"],
            65535,
            "for JSON or parquet file, each task only accepts one file, not allowed",
        ),
        (
            ["a.npy", "b.json"],
            65535,
            "for JSON or parquet file, each task only accepts one file, not allowed",
        ),
        (["a.parquet", "b.npy"], 65535, "must be JSON or Parquet, file type '.npy' is not allowed"),
        (["a.json", "b"], 65535, "must be JSON or Parquet, file type '' is not allowed"),
    ],
)
async def test_files_that_make_no_task(
    tables: RootCoordTables, files: list[str], code: int, text: str
) -> None:
    found = refusal(tables, "partitioned", *files)
    assert found[0] == code
    assert text in found[1]


async def test_partitions_that_are_not_there(tables: RootCoordTables) -> None:
    for name in ("nope", "p_gone"):
        expected = (200, f"partition not found[partition={name}]")
        assert refusal(tables, "partitioned", "rows.json", partition=name) == expected


async def test_a_full_queue(tables: RootCoordTables) -> None:
    assert planned(tables, "partitioned", "rows.json", pending=1, limit=2).id == 5
    text = "import task queue max size is 2, currently there are 2 tasks is pending."
    text += " Not able to execute this request with 1 tasks"
    assert refusal(tables, "partitioned", "rows.json", pending=2, limit=2) == (65535, text)


async def test_what_was_asked_for_tells_tasks_apart(tables: RootCoordTables) -> None:
    asked = {"start_ts": "1", "end_ts": "2"}
    task = planned(tables, "partitioned", "rows.json", options=asked)
    task.infos.add(key="progress_percent", value="40")
    for options, is_it in (
        (asked, True),
        ({**asked, "progress_percent": "0"}, True),
        ({"start_ts": "1"}, False),
        ({"start_ts": "1", "end_ts": "3"}, False),
        ({**asked, "backup": "true"}, False),
    ):
        pairs = [KeyValuePair(key=key, value=value) for key, value in options.items()]
        request = ImportRequest(files=["rows.json"], options=pairs)
        assert (made_before(request, task.collection_id, [task]) is task) is is_it


@pytest.mark.parametrize(
    ("file", "extension"),
    [
        ("rows.json", ".json"), ("a.b/c", ""), ("a/b.tar.gz", ".gz"), (".json", ".json"),
        ("a/b.json/", ".json"), ("rows.JSON", ".JSON"), ("x.", "."), ("", ""),
    ],
)  # fmt: skip
def test_extensions(file: str, extension: str) -> None:
    assert extension_of(file) == extension


def test_the_first_backup_option_counts() -> None:
    def options(*values: str) -> list[KeyValuePair]:
        return [KeyValuePair(key="backup", value=value) for value in values]

    assert is_backup(options("TRUE"))
    assert not is_backup(options("no", "true"))
    assert not is_backup([KeyValuePair(key="Backup", value="true")])


async def test_tasks_as_clients_see_them(tables: RootCoordTables) -> None:
    task = planned(tables, "partitioned", "pk.npy", "vec.npy", options={"start_ts": "1"})
    task.state.segments.extend([1, 2])
    task.state.row_ids.extend([10, 20])
    task.state.row_count, task.state.error_message = 10, "slow"
    seen = describe(task)
    assert (seen.id, seen.collection_id, seen.state, seen.row_count) == (5, task.collection_id, PENDING, 10)
    assert (list(seen.id_list), list(seen.segment_ids), seen.create_ts) == ([10, 20], [1, 2], NOW_S)
    assert [(info.key, info.value) for info in seen.infos] == [
        ("files", "pk.npy,vec.npy"),
        ("collection", "partitioned"),
        ("partition", "_default"),
        ("failed_reason", "slow"),
        ("start_ts", "1"),
    ]


def test_flushed_is_persisted_to_clients() -> None:
    for state, shown in ((FLUSHED, PERSISTED), (PERSISTED, PERSISTED), (COMPLETED, COMPLETED)):
        assert describe(ImportTaskInfo(state=ImportTaskState(stateCode=state))).state == shown


def test_lists() -> None:
    tasks = [ImportTaskInfo(id=number, collection_id=number % 2) for number in range(1, 6)]

    def ids(collection_id: int | None, limit: int) -> list[int]:
        return [one.id for one in listed(tasks, collection_id=collection_id, limit=limit)]

    assert ids(None, 0) == ids(None, -1) == ids(None, 5) == ids(None, 9) == [1, 2, 3, 4, 5]
    assert ids(None, 2) == [4, 5]
    assert ids(1, 2) == [3, 5]
    assert ids(7, 0) == []
