"""Import tasks as clients see them. One whose segments are flushed is Persisted to them, until it is done.

Source of truth: Milvus 2.3.5 internal/rootcoord/import_manager.go (copyTaskInfo, listAllTasks).
"""

from collections.abc import Iterable

from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.pb.milvus_pb2 import GetImportStateResponse
from coordd.rootcoord.imports.states import FAILED_REASON, FLUSHED, PERSISTED
from coordd.rpc.status import success


def describe(task: ImportTaskInfo) -> GetImportStateResponse:
    """One task."""
    facts = {
        "files": ",".join(task.files),
        "collection": task.collection_name,
        "partition": task.partition_name,
        FAILED_REASON: task.state.error_message,
    }
    return GetImportStateResponse(
        status=success(),
        state=PERSISTED if task.state.stateCode == FLUSHED else task.state.stateCode,
        row_count=task.state.row_count,
        id_list=task.state.row_ids,
        infos=[*(KeyValuePair(key=key, value=value) for key, value in facts.items()), *task.infos],
        id=task.id,
        collection_id=task.collection_id,
        segment_ids=task.state.segments,
        create_ts=task.create_ts,
    )


def listed(
    tasks: Iterable[ImportTaskInfo], *, collection_id: int | None, limit: int
) -> list[GetImportStateResponse]:
    """The tasks of one collection (None: of all), oldest first; with `limit` above 0 only the newest."""
    wanted = [task for task in tasks if collection_id is None or task.collection_id == collection_id]
    return [describe(task) for task in (wanted[-limit:] if limit > 0 else wanted)]
