"""Health answers, without HTTP."""

import pytest

from coordd.management.health import health, is_leader, is_ready, is_standby, verdict
from coordd.pb.common_pb2 import StateCode
from tests.support.management import FakeView, standby


def test_active_and_standby_are_well_as_in_milvus() -> None:
    found = health([FakeView(), standby("datacoord")])
    assert (found.state, found.http_status) == ("OK", 200)
    assert (
        found.json()
        == '{"state":"OK","detail":[{"name":"rootcoord","code":1},{"name":"datacoord","code":3}]}'
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (StateCode.Abnormal, "Abnormal"),
        (StateCode.Initializing, "Initializing"),
        (StateCode.Stopping, "Stopping"),
    ],
)
def test_other_states_are_not(code: int, name: str) -> None:
    found = health([FakeView(state_code=code)])
    assert (found.state, found.http_status) == (f"component rootcoord state is {name}", 500)
    assert found.json() == f'{{"state":"{found.state}","detail":[{{"name":"rootcoord","code":{code}}}]}}'


def test_a_passed_guard_is_no_illness_but_no_leadership_either() -> None:
    held = FakeView(serving=False)
    assert health([held]).state == "OK"
    assert not is_leader(held)
    assert not is_ready(held)


def test_a_standby_that_does_not_follow_is_not_ready() -> None:
    cold = standby()
    assert is_standby(cold)
    assert is_ready(cold)
    cold.following = False
    assert not is_standby(cold)
    assert not is_ready(cold)


def test_the_active_one_is_no_standby() -> None:
    assert is_leader(FakeView())
    assert not is_standby(FakeView())
    assert not is_leader(standby())


def test_a_verdict_needs_every_replica() -> None:
    assert verdict([FakeView()], is_leader) == (200, "rootcoord 4 is active\n")
    mixed = [FakeView(), standby("datacoord")]
    assert verdict(mixed, is_leader) == (503, "rootcoord 4 is active\ndatacoord 4 is standby\n")
    assert verdict(mixed, is_ready)[0] == 200
    assert verdict([], is_ready)[0] == 503
