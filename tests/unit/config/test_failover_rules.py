"""The timers of leadership are safe together, and the message shows the sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coordd.config import Settings
from coordd.config.own import FailoverSettings
from tests.unit.config.support import Directory


def test_the_defaults_leave_room() -> None:
    failover = FailoverSettings()
    silence_ms = failover.serve_guard_ms + failover.margin_ms
    assert silence_ms <= 3_500, "a silent replica must be replaced within 3.5 s"
    assert failover.margin_ms >= 10 * failover.clock_rate_error * silence_ms
    assert Settings().common.session_ttl_s * 1000 > silence_ms


@pytest.mark.parametrize(
    ("timers", "sum_"),
    [
        (
            "{serveGuard: 1499}",
            "coordd.failover.serveGuard must be at least 3 x coordd.failover.heartbeatInterval,"
            " but 1499 ms < 3 x 500 ms = 1500 ms",
        ),
        (
            "{heartbeatInterval: 700}",
            "but 2000 ms < 3 x 700 ms = 2100 ms",
        ),
        (
            "{margin: 20, clockRateError: 0.01}",
            "coordd.failover.margin must be at least coordd.failover.clockRateError x"
            " (coordd.failover.serveGuard + coordd.failover.margin),"
            " but 20 ms < 0.01 x (2000 ms + 20 ms) = 20.2 ms",
        ),
    ],
)
def test_unsafe_timers_are_refused_with_the_inequality(directory: Directory, timers: str, sum_: str) -> None:
    (problem,) = directory.refused(f"coordd:\n  failover: {timers}\n")
    assert problem.startswith(f"{directory.configs}/milvus.yaml:2: ")
    assert sum_ in problem
    assert "by default" in problem


def test_each_broken_rule_is_named(directory: Directory) -> None:
    text = "coordd: {failover: {serveGuard: 1000, margin: 10, clockRateError: 0.1}}"
    assert len(directory.refused(text)) == 2


def test_rules_are_not_judged_by_the_default_of_a_value_that_cannot_be_read(directory: Directory) -> None:
    (problem,) = directory.refused("coordd: {failover: {serveGuard: 1000, heartbeatInterval: slow}}")
    assert "heartbeatInterval must be a whole number" in problem


@given(
    st.integers(10, 60_000),
    st.integers(30, 600_000),
    st.integers(10, 600_000),
    st.floats(0, 0.1, allow_nan=False),
)
def test_whatever_is_accepted_keeps_two_replicas_apart(
    heartbeat: int, guard: int, margin: int, error: float
) -> None:
    """The observer's clock may be fast and the active's slow, by `error` in all: the guard ends first."""
    try:
        failover = FailoverSettings(
            heartbeat_interval_ms=heartbeat, serve_guard_ms=guard, margin_ms=margin, clock_rate_error=error
        )
    except ValidationError:
        assert guard < 3 * heartbeat or margin < error * (guard + margin)
        return
    waited_by_observer = failover.serve_guard_ms + failover.margin_ms
    least_passed_at_active = waited_by_observer * (1 - failover.clock_rate_error)
    assert least_passed_at_active >= failover.serve_guard_ms * (1 - 1e-12)
    assert failover.serve_guard_ms >= 2 * failover.heartbeat_interval_ms
