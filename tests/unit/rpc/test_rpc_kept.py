"""What a server keeps for a client: bytes and seconds."""

from coordd.rpc.kept import ARRIVAL_LIMIT_S, Kept, Standstill

MB = 1 << 20


def test_the_largest_request_fits_and_some_more() -> None:
    kept = Kept(512 * MB)
    assert kept.add(1, 512 * MB)
    assert kept.add(3, 60 * MB)
    assert kept.add(3, 4 * MB)
    assert not kept.add(5, 1)
    assert kept.total == 576 * MB
    kept.drop(3)
    assert kept.add(5, 64 * MB)


def test_what_is_dropped_counts_no_more() -> None:
    kept = Kept(1)
    kept.add(1, 10)
    kept.add(1, 10)
    kept.add(3, 5)
    kept.drop(1)
    kept.drop(1)
    kept.drop(7)
    assert kept.total == 5


def test_what_does_not_fit_is_not_kept() -> None:
    kept = Kept(1)
    assert not kept.add(1, 65 * MB)
    assert kept.total == 0


def test_deadlines_are_those_of_the_callers() -> None:
    kept = Kept(1)
    deadlines = [(1, 100.0), (3, 101.0), (5, None)]
    assert kept.overdue(99.9, deadlines) == []
    assert kept.overdue(100.0, deadlines) == [1]
    assert kept.overdue(102.0, deadlines) == [1, 3]


def test_a_request_without_a_deadline_may_not_take_for_ever() -> None:
    kept = Kept(1)
    assert kept.overdue(1000.0, [(1, None)]) == []
    assert kept.overdue(1000.0 + ARRIVAL_LIMIT_S - 1, [(1, None), (3, None)]) == []
    assert kept.overdue(1000.0 + ARRIVAL_LIMIT_S, [(1, None), (3, None)]) == [1]
    assert kept.overdue(1000.0 + ARRIVAL_LIMIT_S, [(3, None)]) == []
    assert kept.overdue(1000.0 + 2 * ARRIVAL_LIMIT_S, [(3, None)]) == [3]


def test_a_standstill_begins_anew_with_each_change() -> None:
    standstill = Standstill()
    assert standstill.seconds((1, 1), 10.0) == 0
    assert standstill.seconds((1, 1), 15.0) == 5
    assert standstill.seconds((1, 2), 20.0) == 0
    assert standstill.seconds((1, 2), 25.0) == 5


def test_what_is_as_it_should_be_does_not_stand_still() -> None:
    standstill = Standstill()
    for now in (10.0, 20.0):
        assert standstill.seconds(None, now) == 0
    assert standstill.seconds((0, 0), 30.0) == 0
    assert standstill.seconds(None, 40.0) == 0
    assert standstill.seconds((0, 0), 50.0) == 0


def test_nothing_is_kept_of_nothing() -> None:
    kept = Kept(100)
    assert kept.add(1, 0)
    assert not kept._sizes
