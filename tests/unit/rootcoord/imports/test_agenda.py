"""What is due, by the records alone."""

from coordd.pb.data_coord_pb2 import ImportTaskInfo, ImportTaskState
from coordd.rootcoord.imports.agenda import Agenda, agenda
from coordd.rootcoord.imports.states import (
    CLEANED,
    COMPLETED,
    FAILED,
    FLUSHED,
    PENDING,
    PERSISTED,
    STARTED,
)

NOW_S = 10_000.0


def task(
    task_id: int, state: int, *, node: int = 0, created: int = 9_000, started: int = 9_500
) -> ImportTaskInfo:
    return ImportTaskInfo(
        id=task_id,
        datanode_id=node,
        create_ts=created,
        start_ts=started,
        state=ImportTaskState(stateCode=state),  # type: ignore[arg-type]
    )


def due(*tasks: ImportTaskInfo, data_nodes: set[int] | None = None) -> Agenda:
    return agenda(tasks, now_s=NOW_S, expiration_s=900, retention_s=5_000, data_nodes=data_nodes)


def test_nothing() -> None:
    assert due() == Agenda()


def test_each_task_is_in_its_part() -> None:
    tasks = {
        state: task(number, state, node=number)
        for number, state in enumerate(
            (PENDING, STARTED, PERSISTED, FLUSHED, COMPLETED, FAILED, CLEANED), start=1
        )
    }
    assert due(*tasks.values()) == Agenda(
        waiting=(tasks[PENDING],),
        started=(tasks[STARTED],),
        persisted=(tasks[PERSISTED],),
        flushed=(tasks[FLUSHED],),
        failed=(tasks[FAILED],),
        busy_nodes=(2, 3),
    )


def test_time_runs_from_when_a_node_has_it() -> None:
    late, in_time = task(1, STARTED, node=1, started=9_100), task(2, STARTED, node=2, started=9_101)
    stuck = task(3, PERSISTED, node=3, started=1)
    flushed = task(5, FLUSHED, node=5, started=1)
    waits = task(4, PENDING, created=1, started=0)
    assert due(late, in_time, stuck, waits, flushed) == Agenda(
        waiting=(waits,), started=(in_time,), expired=(late, stuck), flushed=(flushed,), busy_nodes=(2,)
    )


def test_a_task_whose_node_is_gone() -> None:
    gone, here = task(1, STARTED, node=7, started=9_990), task(2, STARTED, node=8, started=9_990)
    new = task(3, STARTED, node=9, started=9_991)
    unnamed = task(4, STARTED, started=9_500)
    persisted = task(5, PERSISTED, node=7)
    found = due(gone, here, new, unnamed, persisted, data_nodes={8})
    assert found.deserted == (gone,)
    assert found.started == (here, new, unnamed)
    assert found.persisted == (persisted,)
    assert found.busy_nodes == (7, 8, 9)
    assert due(gone, data_nodes=None).deserted == ()
    assert due(gone, data_nodes=set()) == Agenda(deserted=(gone,))


def test_records_are_kept_for_a_while_once_a_task_has_ended() -> None:
    done, cleaned = task(1, COMPLETED, created=5_000), task(2, CLEANED, created=5_000)
    assert due(done, cleaned, task(3, COMPLETED, created=5_001)).old == (done, cleaned)
    unfinished = task(4, FAILED, created=1)
    assert due(unfinished) == Agenda(failed=(unfinished,)), "its segments are still there"


def test_a_node_is_busy_once_whatever_it_has() -> None:
    found = due(
        task(1, STARTED, node=7), task(2, PERSISTED, node=7), task(3, STARTED), task(4, STARTED, node=5)
    )
    assert found.busy_nodes == (5, 7)


def test_a_state_of_another_version_is_left_alone() -> None:
    assert due(task(1, 99, created=1)) == Agenda()
