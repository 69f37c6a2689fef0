"""When heartbeats follow each other quickly."""

from coordd.ha.pace import TROUBLE_INTERVAL_S, Pace


def test_one_each_interval_while_they_are_acknowledged() -> None:
    pace = Pace(0.5, 0.0)
    for number in range(1, 20):
        now = 0.5 * number
        assert pace.after_s(now) == 0.5
        pace.acked(now + 0.2)


def test_they_come_quickly_from_the_second_that_is_not_answered_until_one_is() -> None:
    pace = Pace(0.5, 10.0)
    assert pace.after_s(10.5) == 0.5
    assert pace.after_s(11.0) == TROUBLE_INTERVAL_S
    assert pace.after_s(100.0) == TROUBLE_INTERVAL_S
    pace.acked(100.02)
    assert pace.after_s(100.05) == 0.5


def test_a_slow_etcd_whose_answers_come_regularly_is_no_trouble() -> None:
    pace, now, pending = Pace(0.5, 0.0), 0.0, [0.5]
    while pending[0] < 30:
        now = pending.pop(0)
        if now > 5:
            assert pace.after_s(now) == 0.5
        if now >= 1.2:
            pace.acked(now)  # that of the heartbeat sent 1.2 s ago
        pending.append(now + 0.5)


def test_an_interval_that_is_short_is_not_made_longer() -> None:
    assert Pace(0.02, 0.0).after_s(60.0) == 0.02


def test_an_answer_that_overtakes_a_later_one_changes_nothing() -> None:
    pace = Pace(0.5, 0.0)
    pace.acked(7.0)
    pace.acked(6.0)
    assert pace.acked_at == 7.0
