"""The serve guard's arithmetic."""

import math

from hypothesis import given
from hypothesis import strategies as st

from coordd.ha.guard import ServeGuard

TIMES = st.floats(min_value=-1e6, max_value=1e9, allow_nan=False)
ACKS = st.lists(st.tuples(st.booleans(), TIMES, st.floats(min_value=0, max_value=100)), max_size=30)


def guard_after(*, heartbeat_sent_at: float, keepalive_sent_at: float, ttl_s: float = 30.0) -> ServeGuard:
    guard = ServeGuard(2.0)
    guard.heartbeat_acked(heartbeat_sent_at)
    guard.keepalive_acked(keepalive_sent_at, ttl_s)
    return guard


def test_nothing_may_be_answered_before_both_acknowledgements() -> None:
    guard = ServeGuard(2.0)
    assert not guard.valid(-1e9)
    assert guard.remaining_s(0.0) == 0.0

    guard.heartbeat_acked(100.0)
    assert not guard.valid(100.0)
    assert guard.remaining_s(100.0) == 0.0

    guard.keepalive_acked(100.0, 30.0)
    assert guard.valid(100.0)
    assert guard.remaining_s(100.0) == 2.0


def test_a_keepalive_alone_is_not_enough() -> None:
    guard = ServeGuard(2.0)
    guard.keepalive_acked(100.0, 30.0)

    assert not guard.valid(100.0)


def test_the_guard_ends_at_the_instant_after_which_others_may_serve() -> None:
    guard = guard_after(heartbeat_sent_at=100.0, keepalive_sent_at=95.0)

    assert guard.valid(math.nextafter(102.0, 0.0))
    assert not guard.valid(102.0)
    assert guard.remaining_s(101.5) == 0.5
    assert guard.remaining_s(103.0) == 0.0


def test_the_lease_limits_it_too() -> None:
    guard = guard_after(heartbeat_sent_at=100.0, keepalive_sent_at=71.0)

    assert guard.valid(100.9)
    assert not guard.valid(101.0)
    assert guard.remaining_s(100.5) == 0.5


def test_an_acknowledgement_that_comes_late_or_out_of_order_takes_nothing_back() -> None:
    guard = guard_after(heartbeat_sent_at=100.0, keepalive_sent_at=100.0)

    guard.heartbeat_acked(99.0)
    guard.keepalive_acked(50.0, 30.0)

    assert guard.remaining_s(100.0) == 2.0


def test_a_passed_guard_is_valid_again_after_a_heartbeat() -> None:
    guard = guard_after(heartbeat_sent_at=100.0, keepalive_sent_at=100.0)
    assert not guard.valid(110.0)

    guard.heartbeat_acked(110.0)

    assert guard.valid(111.9)


def test_a_closed_guard_stays_closed_whatever_is_acknowledged() -> None:
    guard = guard_after(heartbeat_sent_at=100.0, keepalive_sent_at=100.0)

    guard.close()
    guard.heartbeat_acked(101.0)
    guard.keepalive_acked(101.0, 30.0)

    assert not guard.valid(101.0)
    assert guard.remaining_s(101.0) == 0.0


@given(acks=ACKS, now=TIMES, guard_s=st.floats(min_value=0.001, max_value=100))
def test_it_is_valid_exactly_before_both_deadlines_of_the_latest_sends(
    acks: list[tuple[bool, float, float]], now: float, guard_s: float
) -> None:
    guard = ServeGuard(guard_s)
    for is_heartbeat, sent_at, ttl_s in acks:
        if is_heartbeat:
            guard.heartbeat_acked(sent_at)
        else:
            guard.keepalive_acked(sent_at, ttl_s)

    heartbeats = [sent_at for is_heartbeat, sent_at, _ in acks if is_heartbeat]
    leases = [sent_at + ttl_s for is_heartbeat, sent_at, ttl_s in acks if not is_heartbeat]
    expected = bool(heartbeats and leases) and now < max(heartbeats) + guard_s and now < max(leases)
    assert guard.valid(now) == expected
    assert (guard.remaining_s(now) > 0) == expected
