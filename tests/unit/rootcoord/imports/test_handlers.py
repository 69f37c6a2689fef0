"""The four calls as a proxy or a data node makes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from coordd.pb.common_pb2 import ErrorCode, ImportState, KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo, ImportTaskState
from coordd.pb.milvus_pb2 import GetImportStateRequest, ImportRequest, ListImportTasksRequest
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.imports.driver import Imports
from coordd.rootcoord.imports.records import ImportRecords
from coordd.rpc.failure import RpcCode, RpcFailure
from tests.unit.rootcoord.imports.cluster import Cluster
from tests.unit.rootcoord.recorded import LAYOUT, World, etcd_values, no_config, world
from tests.unit.rootcoord.term import begin_term, start_oracle
from tests.unit.rootcoord.test_handlers import ask

TASK = LAYOUT.import_task(17)
LATER_TASK = LAYOUT.import_task(18)


def stored(task_id: int, **rest: Any) -> bytes:
    state = ImportTaskState(stateCode=ImportState.ImportPersisted, segments=[4])
    return ImportTaskInfo(id=task_id, collection_id=3, state=state, **rest).SerializeToString()


async def holding(values: dict[str, bytes]) -> World:
    return await world({**etcd_values(), **values})


async def state_of(place: World, task_id: int) -> Any:
    return await ask(place, "GetImportState", GetImportStateRequest(task=task_id))


async def test_states_and_lists_come_from_the_table() -> None:
    place = await holding({TASK: stored(17, files=["a"]), LATER_TASK: stored(18)})
    state = await state_of(place, 17)
    assert (state.status.code, state.id, list(state.segment_ids)) == (0, 17, [4])
    listed = await ask(place, "ListImportTasks", ListImportTasksRequest(limit=1))
    assert [one.id for one in listed.tasks] == [18]
    assert len((await ask(place, "ListImportTasks", ListImportTasksRequest())).tasks) == 2
    of_another = ListImportTasksRequest(collection_name="partitioned")
    assert len((await ask(place, "ListImportTasks", of_another)).tasks) == 0


async def test_what_is_not_there() -> None:
    place = await world()
    for task_id in (5, 0, -1):
        state = await state_of(place, task_id)
        assert (state.status.code, state.status.error_code) == (1000, ErrorCode.UnexpectedError)
        assert state.status.detail == f"key not found[key=by-dev/meta/importtask/{task_id}]"
    unknown = await ask(place, "ListImportTasks", ListImportTasksRequest(collection_name="nope"))
    assert unknown.status.code == 100
    text = "failed to find collection ID from its name: 'nope', error: collection not found[database=default]"
    assert unknown.status.detail.startswith(text)


async def test_a_damaged_record_is_not_an_unknown_one() -> None:
    place = await holding({TASK: b"\xff", LATER_TASK: stored(19)})
    for task_id in (17, 18):
        assert "is damaged" in (await state_of(place, task_id)).status.reason
    assert len((await ask(place, "ListImportTasks", ListImportTasksRequest())).tasks) == 0


@pytest.mark.parametrize(
    ("method", "request_"),
    [("Import", ImportRequest(collection_name="partitioned")), ("ReportImport", ImportResult(state=2))],
)
async def test_changes_need_a_term(method: str, request_: Any) -> None:
    with pytest.raises(RpcFailure) as raised:
        await ask(await world(), method, request_)
    assert raised.value.code is RpcCode.UNAVAILABLE


@asynccontextmanager
async def serving(place: World) -> AsyncIterator[None]:
    """Within a new term."""
    term = begin_term(place)
    async with start_oracle(place, term) as oracle:
        ddl = Ddl(term.committer, oracle, place.tables.import_mark)
        records = ImportRecords(place.tables, LAYOUT, no_config, ddl)
        place.imports = Imports(records, Cluster(None), lambda: None, lambda: 0.0)  # type: ignore[arg-type]
        yield


async def taken(place: World, *files: str, **rest: Any) -> int:
    """The task of an import."""
    request = ImportRequest(collection_name="partitioned", files=files, **rest)
    [task_id] = (await ask(place, "Import", request)).tasks
    return int(task_id)


def pairs(values: dict[str, str]) -> list[KeyValuePair]:
    return [KeyValuePair(key=key, value=value) for key, value in values.items()]


def task_of(place: World, task_id: int) -> ImportTaskInfo:
    task = place.tables.import_tasks.get(task_id)
    assert task is not None
    return task


async def test_an_import_of_an_earlier_term_is_known_when_it_is_repeated() -> None:
    place = await world()
    async with serving(place):
        first = await taken(place, "a.json", partition_name="p_2020")
        await taken(place, "a.json", partition_name="p_2021")
    async with serving(place):
        assert await taken(place, "a.json", partition_name="p_2020") == first
        await taken(place, "b.json")
        assert len(place.tables.import_tasks) == 3
        await taken(place, "b.json")
    assert len(place.tables.import_tasks) == 4, "whoever was answered means another one"


@pytest.mark.parametrize("asked_for", [{}, {"progress_percent": "1", "backup": "false", "persist_cost": "x"}])
async def test_an_import_is_known_by_what_it_asked_for_whatever_was_reported_of_it(
    asked_for: dict[str, str],
) -> None:
    place = await world()
    async with serving(place):
        first = await taken(place, "a.json", options=pairs(asked_for))
    async with serving(place):
        for state, told in (
            (ImportState.ImportStarted, {"progress_percent": "40"}),
            (ImportState.ImportPersisted, {"progress_percent": "90", "persist_cost": "1.5"}),
        ):
            report = ImportResult(task_id=first, datanode_id=7, state=state, segments=[4], infos=pairs(told))
            assert (await ask(place, "ReportImport", report)).code == 0
            assert {pair.key for pair in pairs(told)} <= {pair.key for pair in task_of(place, first).infos}
            assert await taken(place, "a.json", options=pairs(asked_for)) == first


async def test_an_import_that_has_failed_is_taken_anew() -> None:
    place = await world()
    async with serving(place):
        first = await taken(place, "a.json")
        failure = ImportResult(task_id=first, datanode_id=7, state=ImportState.ImportFailed)
        assert (await ask(place, "ReportImport", failure)).code == 0
    async with serving(place):
        assert await taken(place, "a.json") != first


async def test_changes_within_a_term() -> None:
    place = await world()
    async with serving(place):
        asked = ImportRequest(collection_name="partitioned", files=["a.json"])
        taken = await ask(place, "Import", asked)
        assert taken.status.code == 0
        [task_id] = taken.tasks
        assert (await state_of(place, task_id)).state == ImportState.ImportPending
        report = ImportResult(task_id=task_id, datanode_id=7, state=ImportState.ImportPersisted, segments=[4])
        assert (await ask(place, "ReportImport", report)).code == 0
        assert (await state_of(place, task_id)).state == ImportState.ImportPersisted
        unknown = await ask(place, "ReportImport", ImportResult(task_id=5, state=ImportState.ImportStarted))
        assert (unknown.code, unknown.reason) == (65535, "failed to update import task, ID not found: 5")
        missing = await ask(place, "Import", ImportRequest(collection_name="nope", files=["a.json"]))
        assert (missing.status.code, list(missing.tasks)) == (100, [])
