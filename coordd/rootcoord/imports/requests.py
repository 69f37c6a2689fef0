"""An Import request becomes a task, or is refused.

A row-based file (JSON, Parquet) is a task of its own, and a request may name only one; the files of a
column-based insert (one per field), or of a backup, are one task together. So a request makes one task.

Rows of a collection with a partition key go where their keys say, so no partition may be named; else all rows
go into one partition, the default one if none is named. A backup restores partition by partition and has to
name one, whatever the collection.

Not Milvus': the task of a collection with a partition key knows the collection's name; and the request that a
proxy repeats, because a term ended before it was answered, means the task that it has made (`made_before`).

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go (Import), import_manager.go (importJob),
internal/util/importutil; texts recorded from a running 2.3.5.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final

from coordd.meta.tables import CollectionView
from coordd.meta.tables.collection_view import Partition
from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo, ImportTaskState
from coordd.pb.milvus_pb2 import ImportRequest
from coordd.rootcoord.imports.states import CLEANED, FAILED, KEPT_INFOS, PENDING
from coordd.rpc.status import MilvusError, ParameterInvalid, PartitionNotFound

BACKUP: Final = "backup"
"""The option of the backup tool; any spelling of `true` counts."""
ROW_BASED: Final = (".json", ".parquet")


def plan_task(
    request: ImportRequest,
    view: CollectionView,
    *,
    task_id: int,
    now_s: int,
    default_partition: str,
    pending: int,
    limit: int,
) -> ImportTaskInfo:
    """The task of a request. `view`: the collection that it names; `now_s`: Unix seconds.

    `pending`: how many tasks wait for a data node; `limit`: rootCoord.importMaxPendingTaskCount.

    Raises:
        MilvusError: refused.
    """
    partition = _partition(request, view, default_partition)
    if not request.files:
        raise ParameterInvalid().wrap("import request is empty")
    check_files(request.files)
    if limit - pending < 1:
        raise MilvusError(
            f"import task queue max size is {limit}, currently there are {pending} tasks is pending."
            " Not able to execute this request with 1 tasks"
        )
    return ImportTaskInfo(
        id=task_id,
        collection_id=view.id,
        partition_id=partition.id if partition else 0,
        channel_names=view.info.virtual_channel_names,
        files=request.files,
        create_ts=now_s,
        state=ImportTaskState(stateCode=PENDING),
        infos=request.options,
        database_name=request.db_name,
        collection_name=view.name,
        partition_name=partition.name if partition else "",
    )


def made_before(
    request: ImportRequest, collection_id: int, tasks: Iterable[ImportTaskInfo]
) -> ImportTaskInfo | None:
    """The newest of the tasks that may be the request's, if it was carried out: with all that it asks for.

    Not one that has failed: who asks once more then wants another. What data nodes have reported since, over
    an option of that name too, tells no tasks apart.
    """
    options = _asked_for(request.options)
    found = [
        task
        for task in tasks
        if task.collection_id == collection_id
        and list(task.files) == list(request.files)
        and _asked_for(task.infos) == options
        and request.partition_name in ("", task.partition_name)
        and task.state.stateCode not in (FAILED, CLEANED)
    ]
    return found[-1] if found else None


def _asked_for(infos: Iterable[KeyValuePair]) -> list[KeyValuePair]:
    """The infos that no report changes."""
    return [info for info in infos if info.key not in KEPT_INFOS]


def check_files(files: Sequence[str]) -> None:
    """Refuse what cannot be one task.

    Raises:
        MilvusError: a row-based file together with others.
    """
    row_based = False
    for file in files:
        extension = extension_of(file)
        if extension in ROW_BASED:
            row_based = True
        elif row_based:
            raise MilvusError(
                f"row-based data file type must be JSON or Parquet, file type '{extension}' is not allowed"
            )
    if row_based and len(files) > 1:
        raise MilvusError(
            "for JSON or parquet file, each task only accepts one file, not allowed to input multiple files"
        )


def extension_of(file: str) -> str:
    """What follows the last dot of a file's name, with the dot (of `.json` all of it); "" without a dot."""
    name = PurePosixPath(file).name
    return name[name.rindex(".") :] if "." in name else ""


def is_backup(options: Iterable[KeyValuePair]) -> bool:
    """Whether the backup tool asks; the first option of that name counts."""
    return next((option.value.lower() == "true" for option in options if option.key == BACKUP), False)


def _partition(request: ImportRequest, view: CollectionView, default_partition: str) -> Partition | None:
    """The partition that all rows go into; None: each goes where its key says."""
    name = request.partition_name
    if is_backup(request.options):
        if not name:
            raise ParameterInvalid().wrap("partition not specified")
    elif any(field.is_partition_key for field in view.fields):
        if name:
            raise ParameterInvalid().wrap("not allow to set partition name for collection with partition key")
        return None
    else:
        name = name or default_partition
    found = [partition for partition in view.available_partitions if partition.name == name]
    if not found:
        raise PartitionNotFound(partition=name)
    return found[0]
