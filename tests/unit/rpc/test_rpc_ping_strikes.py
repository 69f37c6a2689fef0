"""How often a client may ping."""

from coordd.rpc.ping_strikes import PingStrikes

INTERVAL_S = 5.0


def pings(strikes: PingStrikes, *times: float) -> list[bool]:
    return [strikes.one_too_many(now) for now in times]


def test_pings_at_the_agreed_rate_are_no_strikes() -> None:
    assert not any(pings(PingStrikes(INTERVAL_S), *(number * INTERVAL_S for number in range(100))))


def test_the_first_ping_may_come_at_any_time_and_the_third_that_is_too_early_is_out() -> None:
    assert pings(PingStrikes(INTERVAL_S), 0.0, 0.1, 0.2, 0.3, 0.4) == [False, False, False, True, True]


def test_the_interval_counts_from_the_ping_before_though_it_came_too_early() -> None:
    assert pings(PingStrikes(INTERVAL_S), 0.0, 4.0, 8.0, 12.0)[-1]


def test_strikes_do_not_go_by_themselves() -> None:
    assert pings(PingStrikes(INTERVAL_S), 0.0, 1.0, 2.0, 100.0, 101.0)[-1]


def test_an_answer_wipes_the_slate_clean() -> None:
    strikes = PingStrikes(INTERVAL_S)
    for number in range(20):
        assert not strikes.one_too_many(number * 0.1)
        strikes.answered()
    assert pings(strikes, 3.0, 3.1, 3.2) == [False, False, False]
    assert strikes.one_too_many(3.3)
