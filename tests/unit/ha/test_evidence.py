"""What proves that a process is gone, and what does not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.ha.evidence import (
    PROBATION_S,
    RECHECK_S,
    RETRY_MAX_S,
    RETRY_MIN_S,
    Connect,
    ConnectionWitness,
    Evidence,
    Hold,
    Step,
    pid_was_reused,
    same_machine,
)
from coordd.ha.session import LocalIdentity, Safety, SessionRecord

US = LocalIdentity("host-a", "boot-1", "pid:[1]")
SAFETY = Safety(2000, boot_id="boot-1", pid_namespace="pid:[1]", pid=7)
RECORD = SessionRecord(12, "rootcoord", "10.0.0.5:53100", "2.3.5", host_name="host-a", safety=SAFETY)
HELD_UNTIL = 100.0


def test_the_same_machine() -> None:
    assert same_machine(RECORD, US)


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, safety=None),
        replace(RECORD, host_name="host-b"),
        replace(RECORD, safety=replace(SAFETY, boot_id="boot-2")),
        replace(RECORD, safety=replace(SAFETY, pid_namespace="pid:[2]")),
    ],
)
def test_another_machine_or_namespace(record: SessionRecord) -> None:
    assert not same_machine(record, US)


@pytest.mark.parametrize("unknown", ["host_name", "boot_id", "pid_namespace"])
def test_what_neither_knows_is_not_the_same(unknown: str) -> None:
    safety = SAFETY if unknown == "host_name" else replace(SAFETY, **{unknown: ""})
    record = replace(RECORD, host_name="" if unknown == "host_name" else "host-a", safety=safety)
    assert not same_machine(record, replace(US, **{unknown: ""}))


@pytest.mark.parametrize(
    ("recorded", "found", "reused"),
    [(50, 50, False), (50, 51, True), (50, 49, False), (0, 51, False), (50, 0, False)],
)
def test_only_a_later_start_is_another_process(recorded: int, found: int, reused: bool) -> None:
    assert pid_was_reused(recorded, found) is reused


def held() -> ConnectionWitness:
    """A connection that was held for a long time, and has ended at `HELD_UNTIL`."""
    witness = ConnectionWitness()
    assert witness.connected(1.0) == Hold(None)
    assert witness.ended(HELD_UNTIL) == Connect(0.0)
    return witness


def test_an_end_and_two_refusals_are_evidence() -> None:
    witness = held()
    assert witness.refused(100.001) == Connect(RECHECK_S)
    assert witness.refused(100.004) == Evidence(
        "connection refused", noticed_at=HELD_UNTIL, confirmed_at=100.004
    )


def test_refusals_without_a_connection_before_are_none() -> None:
    witness = ConnectionWitness()
    pauses = [witness.refused(float(second)) for second in range(6)]
    assert pauses == [Connect(0.1), Connect(0.2), Connect(0.4), Connect(0.8), Connect(1.0), Connect(1.0)]


def test_failures_are_none_and_are_retried_ever_more_slowly() -> None:
    witness = held()
    pauses = [witness.failed() for _ in range(6)]
    assert pauses == [Connect(0.1), Connect(0.2), Connect(0.4), Connect(0.8), Connect(1.0), Connect(1.0)]


def test_after_failures_two_refusals_are_evidence_again() -> None:
    witness = held()
    witness.failed()
    assert witness.refused(130.0) == Connect(RECHECK_S)
    assert witness.failed() == Connect(0.2)
    assert witness.refused(160.0) == Connect(RECHECK_S)
    assert witness.refused(160.1) == Evidence("connection refused", noticed_at=HELD_UNTIL, confirmed_at=160.1)


def test_one_success_right_after_the_end_is_checked() -> None:
    witness = held()
    assert witness.connected(100.001) == Hold(RECHECK_S)
    assert witness.lasted(100.003) == Connect(0.0)
    assert witness.refused(100.004) == Connect(RECHECK_S)
    assert isinstance(witness.refused(100.006), Evidence)


def test_a_success_between_two_refusals_begins_the_count_anew() -> None:
    witness = held()
    witness.refused(100.001)
    witness.connected(100.004)
    assert witness.refused(100.007) == Connect(RECHECK_S)


def test_a_success_that_is_reset_at_once_is_checked_just_as_soon() -> None:
    witness = held()
    assert witness.connected(100.0005) == Hold(RECHECK_S)
    assert witness.ended(100.0006) == Connect(RECHECK_S)
    assert witness.refused(100.003) == Connect(RECHECK_S)
    assert witness.refused(100.006) == Evidence(
        "connection refused", noticed_at=HELD_UNTIL, confirmed_at=100.006
    )


def test_successes_are_checked_for_a_while_and_then_the_last_is_held() -> None:
    witness = held()
    now, connects = HELD_UNTIL, 0
    step: Step = Connect(0.0)
    while step != Hold(None):
        if isinstance(step, Connect):
            connects += 1
            assert connects < 20
            step = witness.connected(now)
        else:
            assert isinstance(step, Hold)
            assert step.for_s is not None
            now += step.for_s
            step = witness.lasted(now)
    assert now == pytest.approx(HELD_UNTIL + PROBATION_S)
    assert connects > 3

    assert witness.ended(220.0) == Connect(0.0)
    assert witness.connected(220.0) == Hold(RECHECK_S)


def test_a_first_success_is_held() -> None:
    witness = ConnectionWitness()
    witness.failed()
    assert witness.connected(5.0) == Hold(None)
    assert witness.lasted(9.0) == Hold(None)


def test_a_server_that_ends_every_connection_is_not_dialled_without_pause() -> None:
    witness = held()
    now, pauses = HELD_UNTIL, []
    for _ in range(14):
        witness.connected(now)
        step = witness.ended(now + 0.0001)
        assert isinstance(step, Connect)
        pauses.append(step.after_s)
        now += step.after_s
    assert pauses == sorted(pauses)
    assert pauses[0] == RECHECK_S
    assert pauses[-1] == RETRY_MAX_S


EVENTS = st.lists(
    st.tuples(st.sampled_from(["works", "fails", "refused"]), st.floats(0.0, 5.0)), min_size=1, max_size=60
)


@given(EVENTS)
def test_evidence_is_nothing_but_an_end_and_then_two_refusals_in_a_row(
    world: list[tuple[str, float]],
) -> None:
    """`world`: what each connect meets, and how long it takes, or how long the connection lasts then."""
    witness, step, now = ConnectionWitness(), Connect(0.0), 10.0
    ends: list[float] = []
    connects: list[str] = []
    for outcome, lasts_s in world:
        assert 0.0 <= step.after_s <= RETRY_MAX_S
        now += step.after_s
        connects.append(outcome)
        after: Step
        if outcome == "works":
            after = witness.connected(now)
            if isinstance(after, Hold) and after.for_s is not None and after.for_s < lasts_s:
                now += after.for_s
                after = witness.lasted(now)
            if isinstance(after, Hold):
                now += lasts_s
                ends.append(now)
                after = witness.ended(now)
        else:
            now += lasts_s
            after = witness.refused(now) if outcome == "refused" else witness.failed()
            if outcome == "fails":
                assert isinstance(after, Connect)
                assert after.after_s >= RETRY_MIN_S
        proven = bool(ends) and connects[-2:] == ["refused", "refused"]
        assert isinstance(after, Evidence) is proven
        if isinstance(after, Evidence):
            assert after.noticed_at in ends
            assert after.confirmed_at == now
            return
        assert isinstance(after, Connect)
        step = after
