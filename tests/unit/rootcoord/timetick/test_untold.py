"""Which barred proxies have to start anew, and which are waited for."""

from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.timetick.untold import END_AFTER_S, Untold


def test_one_that_reports_and_stays_barred_is_due_and_stays_so() -> None:
    untold = Untold()
    assert untold.due([7], [], 100.0) == []
    assert untold.due([7], [], 99.9 + END_AFTER_S) == []
    assert untold.due([7], [], 100.0 + END_AFTER_S) == [7]
    assert untold.due([7], [], 101.0 + END_AFTER_S) == [7]


def test_one_that_was_told_in_time_is_not() -> None:
    untold = Untold()
    untold.due([7, 8], [], 100.0)
    assert untold.due([8], [], 109.0) == []
    assert untold.due([7, 8], [], 111.0) == [8]


def test_one_that_hangs_is_waited_for_and_has_all_the_time_when_it_wakes() -> None:
    untold = Untold()
    untold.due([7], [], 100.0)
    assert untold.due([7], [7], 200.0) == []
    assert untold.due([7], [], 200.1) == []
    assert untold.due([7], [], 200.1 + END_AFTER_S) == [7]


def test_one_that_is_silent_but_not_barred_is_none_of_them() -> None:
    untold = Untold()
    assert untold.due([], [7], 0.0) == untold.due([], [7], 1000.0) == []


@given(st.lists(st.tuples(st.floats(0.01, 4.0), st.booleans(), st.booleans()), max_size=60))
def test_whoever_is_due_was_barred_and_heard_at_every_look_for_so_long(
    looks: list[tuple[float, bool, bool]],
) -> None:
    untold, now, since = Untold(), 0.0, None
    for step, barred, silent in looks:
        now += step
        since = (now if since is None else since) if barred and not silent else None
        due = untold.due([7] if barred else [], [7] if silent else [], now)
        assert due == ([7] if since is not None and now - since >= END_AFTER_S else [])
