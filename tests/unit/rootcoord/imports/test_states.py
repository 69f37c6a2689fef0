"""Every state of an import task with every event."""

import itertools

import pytest

from coordd.pb.common_pb2 import KeyValuePair
from coordd.pb.data_coord_pb2 import ImportTaskInfo, ImportTaskState
from coordd.pb.root_coord_pb2 import ImportResult
from coordd.rootcoord.imports import states
from coordd.rootcoord.imports.states import (
    CLEANED,
    COMPLETED,
    FAILED,
    FLUSHED,
    PENDING,
    PERSISTED,
    REPORTED,
    STARTED,
    TRANSITIONS,
    Answer,
    Event,
    IllegalTransition,
    Kind,
    Outcome,
    advance,
    reported,
)
from coordd.rpc.status import MilvusError

NOW_S, EARLIER_S = 1_700_000_900, 1_700_000_000
NODE, OTHER_NODE = 7, 8
SEGMENTS = [11, 12]
NAMES = {
    "Pending": PENDING,
    "Started": STARTED,
    "Persisted": PERSISTED,
    "Flushed": FLUSHED,
    "Completed": COMPLETED,
    "Failed": FAILED,
    "FailedAndCleaned": CLEANED,
}
KINDS = {kind: state for state, kind in REPORTED.items()}


def task(
    state: int, *, node: int = NODE, segments: list[int] | None = None, error: str = ""
) -> ImportTaskInfo:
    given = state != PENDING
    return ImportTaskInfo(
        id=5,
        datanode_id=node if given else 0,
        collection_id=3,
        partition_id=4,
        channel_names=["a_3v0"],
        files=["rows.json"],
        create_ts=EARLIER_S,
        start_ts=EARLIER_S if given else 0,
        database_name="music",
        collection_name="books",
        infos=[KeyValuePair(key="k", value="v")],
        state=ImportTaskState(
            stateCode=state,  # type: ignore[arg-type]
            segments=SEGMENTS if segments is None else segments,
            error_message=error,
        ),
    )


def report(
    kind: Kind, *segments: int, node: int = NODE, infos: dict[str, str] | None = None, rows: int = 0
) -> Event:
    result = ImportResult(
        task_id=5,
        datanode_id=node,
        state=KINDS[kind],  # type: ignore[arg-type]
        segments=segments,
        row_count=rows,
        auto_ids=[100, 200],
        infos=[KeyValuePair(key=key, value=value) for key, value in (infos or {}).items()],
    )
    return reported(result, NOW_S)


def event(kind: Kind) -> Event:
    return report(kind, *SEGMENTS) if kind in KINDS else Event(kind, NOW_S, NODE)


def changed(outcome: Outcome) -> ImportTaskInfo:
    assert outcome.task is not None
    assert outcome.refusal is None
    return outcome.task


def test_the_table_in_the_docstring_is_the_table() -> None:
    lines = [line for line in (states.__doc__ or "").splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    kinds = [Kind(name) for name in rows[0][1:]]
    assert kinds == list(Kind)
    answers = {answer.value: answer for answer in Answer}
    written = {
        NAMES[row[0]]: {
            kind: answers.get(cell, NAMES.get(cell))
            for kind, cell in zip(kinds, row[1:], strict=True)
            if cell
        }
        for row in rows[1:]
    }
    assert written == TRANSITIONS


@pytest.mark.parametrize(
    ("state", "kind"),
    list(itertools.product(NAMES.values(), Kind)),
    ids=lambda one: getattr(one, "name", one),
)
def test_each_event_in_each_state(state: int, kind: Kind) -> None:
    before = task(state)
    original = before.SerializeToString()
    cell = TRANSITIONS[state].get(kind)
    if cell is None:
        with pytest.raises(IllegalTransition, match="import task 5"):
            advance(before, event(kind))
    else:
        outcome = advance(before, event(kind))
        if isinstance(cell, Answer):
            assert outcome.task is None
            assert (outcome.refusal is not None) == (cell is Answer.REFUSED)
        else:
            after = before if outcome.task is None else outcome.task
            assert after.state.stateCode == cell
            assert after.database_name == "music"
    assert before.SerializeToString() == original


def test_a_task_is_given_to_a_node_once() -> None:
    given = changed(advance(task(PENDING), Event(Kind.GIVEN, NOW_S, NODE)))
    assert (given.datanode_id, given.start_ts) == (NODE, NOW_S)
    assert advance(given, Event(Kind.GIVEN, NOW_S + 1, OTHER_NODE)) == Outcome()


def test_a_report_is_as_good_as_the_answer_that_names_the_node() -> None:
    begun = changed(advance(task(PENDING, segments=[]), report(Kind.PROGRESS, 11)))
    assert (begun.datanode_id, begun.start_ts, list(begun.state.segments)) == (NODE, NOW_S, [11])
    assert advance(begun, Event(Kind.GIVEN, NOW_S + 1, NODE)) == Outcome()
    done = changed(advance(task(PENDING, segments=[]), report(Kind.PERSISTED, 11, rows=9)))
    assert (done.datanode_id, done.start_ts, done.state.row_count) == (NODE, NOW_S, 9)


def test_progress_adds_segments_and_infos() -> None:
    infos = {"progress_percent": "40", "persist_cost": "0.25", "other": "x"}
    after = changed(advance(task(STARTED), report(Kind.PROGRESS, 12, 13, infos=infos, rows=40)))
    assert list(after.state.segments) == [11, 12, 13]
    assert (after.state.row_count, list(after.state.row_ids), after.start_ts) == (40, [100, 200], EARLIER_S)
    kept = [(info.key, info.value) for info in after.infos]
    assert kept == [("k", "v"), ("progress_percent", "40"), ("persist_cost", "0.25")]
    again = report(Kind.PROGRESS, 12, 13, infos={"progress_percent": "60"}, rows=40)
    later = changed(advance(after, again))
    assert [info.value for info in later.infos] == ["v", "60", "0.25"]
    assert advance(later, again) == Outcome(), "the same once more"


def test_only_the_segments_of_the_first_persisted_report_count() -> None:
    outcome = advance(task(STARTED, segments=[11, 12, 99]), report(Kind.PERSISTED, 11, 12, rows=10))
    after = changed(outcome)
    assert list(after.state.segments) == [11, 12]
    assert outcome.dropped == (99,)
    assert advance(after, report(Kind.PERSISTED, 11, 12, rows=10)) == Outcome(), "the same once more"
    for state in (PERSISTED, FLUSHED, COMPLETED):
        for kind in KINDS:
            late = advance(task(state), report(kind, 21, 11, 21, node=OTHER_NODE))
            assert late == Outcome(dropped=(21,))


def test_a_failure_says_why() -> None:
    infos = {"progress_percent": "10", "failed_reason": "no such file", "persist_cost": "1"}
    after = changed(advance(task(STARTED, error="old"), report(Kind.FAILED, infos=infos)))
    assert after.state.error_message == "no such file"
    assert [info.key for info in after.infos] == ["k", "progress_percent"], "as Milvus: nothing after it"
    assert list(after.state.segments) == SEGMENTS


def test_a_failure_of_another_run_does_not_count() -> None:
    outcome = advance(task(STARTED), report(Kind.FAILED, 11, 21, node=OTHER_NODE))
    assert outcome == Outcome(dropped=(21,))
    assert changed(advance(task(STARTED, node=0), report(Kind.FAILED))).state.stateCode == FAILED


@pytest.mark.parametrize("state", [FAILED, CLEANED])
def test_a_task_that_has_failed_stays_so(state: int) -> None:
    outcome = advance(task(state), report(Kind.PERSISTED, 11, 21))
    assert outcome.task is None
    assert outcome.dropped == (21,)
    assert str(outcome.refusal) == "trying to update an already failed task 5"


@pytest.mark.parametrize(
    ("state", "kind", "text"),
    [
        (STARTED, Kind.NODE_LOST, "the data node that had the import task is gone"),
        (STARTED, Kind.TIMED_OUT, "the import task has timed out"),
        (PERSISTED, Kind.TIMED_OUT, "the import task has timed out"),
        (PERSISTED, Kind.SEGMENTS_LOST, "the import task failed"),
    ],
)
def test_failures_that_no_node_reports(state: int, kind: Kind, text: str) -> None:
    assert changed(advance(task(state), Event(kind, NOW_S))).state.error_message == text
    after = changed(advance(task(state, error="slow"), Event(kind, NOW_S)))
    assert after.state.error_message == f"slow; {text}"


def test_a_task_is_done_at_a_hundred_percent() -> None:
    before = task(FLUSHED)
    before.infos.add(key="progress_percent", value="90")
    assert [info.value for info in changed(advance(before, Event(Kind.SHOWN, NOW_S))).infos] == ["v", "100"]


@pytest.mark.parametrize("state", [PENDING, COMPLETED, CLEANED, 99])
def test_what_no_data_node_can_know(state: int) -> None:
    with pytest.raises(MilvusError, match="import task 5 cannot be reported"):
        reported(ImportResult(task_id=5, state=state), NOW_S)  # type: ignore[arg-type]


def test_a_state_of_another_version_is_left_alone() -> None:
    for kind in Kind:
        with pytest.raises(IllegalTransition):
            advance(task(99, node=0), event(kind))
