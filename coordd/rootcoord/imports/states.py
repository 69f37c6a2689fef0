"""What may become of an import task: a table of states and events, and what each event writes.

| | Given | Progress | Persisted | Failed | NodeLost | TimedOut | SegmentsLost | Flushed | Shown | Cleaned |
|---|---|---|---|---|---|---|---|---|---|---|
| Pending | Started | Started | Persisted | Failed | | | | | | |
| Started | Started | Started | Persisted | Failed | Failed | Failed | | | | |
| Persisted | as it is | late | late | late | | Failed | Failed | Flushed | | |
| Flushed | as it is | late | late | late | | | | | Completed | |
| Completed | as it is | late | late | late | | | | | | |
| Failed | as it is | refused | refused | refused | | | | | | FailedAndCleaned |
| FailedAndCleaned | as it is | refused | refused | refused | | | | | | |

An empty cell raises `IllegalTransition`. Progress, Persisted and Failed are what a data node reports.

A task may be carried out more than once: DataCoord is asked again when its answer is lost, or by a next term
that knows nothing of the first call. Its rows must not be there twice. So

* only the segments that the *first* Persisted report lists belong to the task, and segments are shown only
  after that is written; what other runs have made is to be dropped (`Outcome.dropped`);
* after it no report changes the task (*late*): the data node is told that all is well, so that it stops;
* a failure counts only if it comes from the node that has the task, if that is known.

From Flushed on the task cannot fail any more: its segments may be seen, and then be compacted, before it is
written that they are. Clients are told Persisted.

A report may come before DataCoord's answer that names the node, even for a task that a former term was about
to give away: it is as good as that answer.

Not Milvus': there a later run's report overwrites an earlier one's, so that the rows of both are shown; a
task that was under way fails when RootCoord restarts, and one whose data node died only when its time is up;
`database_name` is lost at the first change.

Source of truth: Milvus 2.3.5 internal/rootcoord/import_manager.go, root_coord.go (ReportImport); texts
recorded from a running 2.3.5.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from coordd.errors import CoorddError
from coordd.pb.common_pb2 import ImportState
from coordd.pb.data_coord_pb2 import ImportTaskInfo
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rpc.status import MilvusError

PENDING: Final = ImportState.ImportPending
FAILED: Final = ImportState.ImportFailed
STARTED: Final = ImportState.ImportStarted
PERSISTED: Final = ImportState.ImportPersisted
FLUSHED: Final = ImportState.ImportFlushed
COMPLETED: Final = ImportState.ImportCompleted
CLEANED: Final = ImportState.ImportFailedAndCleaned

FAILED_REASON: Final = "failed_reason"
PROGRESS_PERCENT: Final = "progress_percent"
KEPT_INFOS: Final = (PROGRESS_PERCENT, "persist_cost")
"""What of a report's infos goes into the task's; a reason of failure goes into its state."""


class IllegalTransition(CoorddError):
    """The event cannot happen to a task in this state. Nothing was changed."""


class Kind(Enum):
    """What happened; see the module."""

    GIVEN = "Given"
    PROGRESS = "Progress"
    PERSISTED = "Persisted"
    FAILED = "Failed"
    NODE_LOST = "NodeLost"
    TIMED_OUT = "TimedOut"
    SEGMENTS_LOST = "SegmentsLost"
    FLUSHED = "Flushed"
    SHOWN = "Shown"
    CLEANED = "Cleaned"


class Answer(Enum):
    """Cells that lead to no other state."""

    AS_IT_IS = "as it is"
    LATE = "late"
    REFUSED = "refused"


REPORTED: Final[Mapping[int, Kind]] = {
    STARTED: Kind.PROGRESS,
    PERSISTED: Kind.PERSISTED,
    FAILED: Kind.FAILED,
}
"""The states that a data node reports."""

_LATE: Final = dict.fromkeys(REPORTED.values(), Answer.LATE)
_REFUSED: Final = dict.fromkeys(REPORTED.values(), Answer.REFUSED)
_RUNNING: Final = {Kind.PROGRESS: STARTED, Kind.PERSISTED: PERSISTED, Kind.FAILED: FAILED}

TRANSITIONS: Final["Mapping[int, Mapping[Kind, ImportState | Answer]]"] = {
    PENDING: {Kind.GIVEN: STARTED, **_RUNNING},
    STARTED: {Kind.GIVEN: STARTED, **_RUNNING, Kind.NODE_LOST: FAILED, Kind.TIMED_OUT: FAILED},
    PERSISTED: {
        Kind.GIVEN: Answer.AS_IT_IS,
        **_LATE,
        Kind.TIMED_OUT: FAILED,
        Kind.SEGMENTS_LOST: FAILED,
        Kind.FLUSHED: FLUSHED,
    },
    FLUSHED: {Kind.GIVEN: Answer.AS_IT_IS, **_LATE, Kind.SHOWN: COMPLETED},
    COMPLETED: {Kind.GIVEN: Answer.AS_IT_IS, **_LATE},
    FAILED: {Kind.GIVEN: Answer.AS_IT_IS, **_REFUSED, Kind.CLEANED: CLEANED},
    CLEANED: {Kind.GIVEN: Answer.AS_IT_IS, **_REFUSED},
}

WHY_FAILED: Final[Mapping[Kind, str]] = {
    Kind.NODE_LOST: "the data node that had the import task is gone",
    Kind.TIMED_OUT: "the import task has timed out",
    Kind.SEGMENTS_LOST: "the import task failed",
}


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` has happened at `now_s` (Unix seconds). `node_id`: the data node that has the task, of Given;
    `report`: what it said, of the three kinds that it reports."""

    kind: Kind
    now_s: int = 0
    node_id: int = 0
    report: ImportResult = field(default_factory=ImportResult)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`task`: what to write, None for nothing. `dropped`: segments that no task has any more. `refusal`: what
    the data node is told instead of success."""

    task: ImportTaskInfo | None = None
    dropped: tuple[int, ...] = ()
    refusal: MilvusError | None = None


def reported(report: ImportResult, now_s: int) -> Event:
    """The event that a data node's report is.

    Raises:
        MilvusError: a state that no data node can know. (Milvus takes any.)
    """
    kind = REPORTED.get(report.state)
    if kind is None:
        raise MilvusError(f"import task {report.task_id} cannot be reported to be in state {report.state}")
    return Event(kind, now_s, report.datanode_id, report)


def unknown_task(task_id: int) -> MilvusError:
    """A report names a task that is not there."""
    return MilvusError(f"failed to update import task, ID not found: {task_id}")


def advance(task: ImportTaskInfo, event: Event) -> Outcome:
    """What an event makes of a task. `task` itself is not modified.

    Raises:
        IllegalTransition: the table has no such cell.
    """
    kind = event.kind
    if kind is Kind.FAILED and task.state.stateCode in (PENDING, STARTED) and not _is_of(task, event.node_id):
        return _late(task, event)
    cell = TRANSITIONS.get(task.state.stateCode, {}).get(kind)
    if cell is None:
        raise IllegalTransition(
            f"import task {task.id} in state {task.state.stateCode} cannot be {kind.value}"
        )
    if cell is Answer.AS_IT_IS:
        return Outcome()
    if cell is Answer.LATE:
        return _late(task, event)
    if cell is Answer.REFUSED:
        text = f"trying to update an already failed task {task.id}"
        return Outcome(dropped=_others(event.report.segments, task), refusal=MilvusError(text))
    return _changed(task, event, cell)


def _is_of(task: ImportTaskInfo, node_id: int) -> bool:
    return task.datanode_id in (0, node_id)


def _late(task: ImportTaskInfo, event: Event) -> Outcome:
    return Outcome(dropped=_others(event.report.segments, task))


def _others(segments: Iterable[int], task: ImportTaskInfo) -> tuple[int, ...]:
    """Those of `segments` that do not belong to the task."""
    return tuple(dict.fromkeys(one for one in segments if one not in task.state.segments))


def _changed(before: ImportTaskInfo, event: Event, state: ImportState) -> Outcome:
    task = ImportTaskInfo()
    task.CopyFrom(before)
    task.state.stateCode = state
    dropped: tuple[int, ...] = ()
    if event.kind in _RUNNING:
        dropped = _take_report(task, event)
    if event.node_id and not task.datanode_id:
        task.datanode_id = event.node_id
    if before.state.stateCode == PENDING:
        task.start_ts = event.now_s
    if event.kind is Kind.SHOWN:
        _set_info(task, PROGRESS_PERCENT, "100")
    why = WHY_FAILED.get(event.kind)
    if why is not None:
        task.state.error_message = f"{task.state.error_message}; {why}" if task.state.error_message else why
    return Outcome(None if task == before else task, dropped)


def _take_report(task: ImportTaskInfo, event: Event) -> tuple[int, ...]:
    """Take over what a report says; returns the segments that are the task's no more."""
    report, known = event.report, list(task.state.segments)
    if event.kind is Kind.PERSISTED:
        segments = list(dict.fromkeys(report.segments))
    else:
        segments = list(dict.fromkeys([*known, *report.segments]))
    task.state.segments[:] = segments
    task.state.row_count = report.row_count
    task.state.row_ids[:] = report.auto_ids
    for info in report.infos:
        if info.key == FAILED_REASON:
            task.state.error_message = info.value
            break
        if info.key in KEPT_INFOS:
            _set_info(task, info.key, info.value)
    return tuple(one for one in known if one not in segments)


def _set_info(task: ImportTaskInfo, key: str, value: str) -> None:
    found = [info for info in task.infos if info.key == key]
    for info in found:
        info.value = value
    if not found:
        task.infos.add(key=key, value=value)
