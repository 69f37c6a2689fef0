"""What may be sent again, and when."""

import pytest

from coordd.etcd import errors
from coordd.etcd.backoff import BACKOFF_FIRST_S, BACKOFF_MAX_S, Backoff
from coordd.etcd.translate import Failure, Verdict
from coordd.etcd.transport import _Attempts


def failure(verdict: Verdict) -> Failure:
    return Failure(verdict, errors.Unavailable("down"), from_server=False)


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.BROKEN, Verdict.REFUSED])
def test_a_write_that_may_have_been_applied_or_was_refused_is_never_sent_again(verdict: Verdict) -> None:
    assert _Attempts(3).plan(failure(verdict), writes=True) is None


def test_a_read_is_sent_again_after_an_unknown_outcome() -> None:
    assert _Attempts(3).plan(failure(Verdict.UNKNOWN), writes=False) == 0.0


@pytest.mark.parametrize("verdict", [Verdict.BROKEN, Verdict.REFUSED])
def test_a_read_that_would_fail_again_is_not(verdict: Verdict) -> None:
    assert _Attempts(3).plan(failure(verdict), writes=False) is None


def test_every_other_endpoint_is_tried_at_once_then_with_growing_pauses() -> None:
    attempts = _Attempts(3)
    pauses = [attempts.plan(failure(Verdict.NOT_TAKEN), writes=True) for _ in range(8)]
    assert pauses[:2] == [0.0, 0.0]
    assert all(pause is not None and pause >= BACKOFF_FIRST_S / 2 for pause in pauses[2:])


def test_a_refused_token_is_renewed_once() -> None:
    attempts = _Attempts(1)
    assert attempts.plan(failure(Verdict.REAUTHENTICATE), writes=True) == 0.0
    with pytest.raises(errors.AuthenticationFailed):
        attempts.plan(failure(Verdict.REAUTHENTICATE), writes=True)


def test_pauses_double_up_to_their_limit_and_start_over_after_success() -> None:
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(10)]
    for number, pause in enumerate(pauses):
        longest = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2**number)
        assert longest / 2 <= pause <= longest
    backoff.reset()
    assert backoff.pause_s() <= BACKOFF_FIRST_S
