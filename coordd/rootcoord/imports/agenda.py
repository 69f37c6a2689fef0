"""What is to be done about import tasks now, from their records alone.

A data node carries out one task at a time: it is busy from the moment a task is given to it until the
segments of that are flushed, or it failed. Tasks are given away in the order in which they came.

Not Milvus': a task that never got a data node is not forgotten, however old it is.

Source of truth: Milvus 2.3.5 internal/rootcoord/import_manager.go.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.rootcoord.imports.states import (
    CLEANED,
    COMPLETED,
    FAILED,
    FLUSHED,
    PENDING,
    PERSISTED,
    STARTED,
)

NODE_GRACE_S: Final = 10
"""How long after it was given a task a data node need not be known: the watch tells of it in less."""


@dataclass(frozen=True, slots=True)
class Agenda:
    """Tasks by what is due; each is in at most one part.

    `waiting`: to be given to data nodes. `started`: a node is at it. `deserted`: that node is gone.
    `persisted`: to be flushed. `flushed`: to be shown. `expired`: took too long since they were given away.
    `failed`: their segments are to be removed. `old`: finished, and their records kept for long enough.
    `busy_nodes`: server IDs.
    """

    waiting: tuple[ImportTaskInfo, ...] = ()
    started: tuple[ImportTaskInfo, ...] = ()
    deserted: tuple[ImportTaskInfo, ...] = ()
    persisted: tuple[ImportTaskInfo, ...] = ()
    flushed: tuple[ImportTaskInfo, ...] = ()
    expired: tuple[ImportTaskInfo, ...] = ()
    failed: tuple[ImportTaskInfo, ...] = ()
    old: tuple[ImportTaskInfo, ...] = ()
    busy_nodes: tuple[int, ...] = ()


def agenda(
    tasks: Iterable[ImportTaskInfo],
    *,
    now_s: float,
    expiration_s: float,
    retention_s: float,
    data_nodes: Collection[int] | None,
) -> Agenda:
    """`now_s`: Unix seconds; `expiration_s`, `retention_s`: rootCoord.importTaskExpiration and -Retention.

    `data_nodes`: the IDs of those that live; None: that is not known now.
    """
    parts: dict[str, list[ImportTaskInfo]] = {}
    busy: set[int] = set()
    for task in tasks:
        state = task.state.stateCode
        if state in (STARTED, PERSISTED) and now_s - task.start_ts >= expiration_s:
            part = "expired"
        elif state in (COMPLETED, CLEANED) and now_s - task.create_ts >= retention_s:
            part = "old"
        elif state == STARTED and _is_deserted(task, now_s, data_nodes):
            part = "deserted"
        else:
            part = _PARTS.get(state, "")
        if part in ("started", "persisted") and task.datanode_id:
            busy.add(task.datanode_id)
        if part:
            parts.setdefault(part, []).append(task)
    named = {part: tuple(found) for part, found in parts.items()}
    return Agenda(**named, busy_nodes=tuple(sorted(busy)))


def _is_deserted(task: ImportTaskInfo, now_s: float, data_nodes: Collection[int] | None) -> bool:
    if data_nodes is None or not task.datanode_id or task.datanode_id in data_nodes:
        return False
    return now_s - task.start_ts >= NODE_GRACE_S


_PARTS = {
    PENDING: "waiting",
    STARTED: "started",
    PERSISTED: "persisted",
    FLUSHED: "flushed",
    FAILED: "failed",
}
