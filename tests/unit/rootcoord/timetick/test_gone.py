"""Which silent proxies are judged to be gone, and which are waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.timetick.gone import (
    ASK_AFTER_S,
    REFUSED_S,
    REFUSED_UNHEARD_S,
    SILENT_S,
    Answer,
    Suspects,
)


def judged(
    answers: list[tuple[float, Answer]], *, heard: bool = True, silent_at_first_s: float = ASK_AFTER_S
) -> list[bool]:
    """The verdicts on proxy 7; each answer with its time. It is asked when it is due."""
    suspects, verdicts = Suspects(), []
    for now, answer in answers:
        assert suspects.due([7], now) == [7], now
        verdicts.append(suspects.answered(7, answer, now, silent_at_first_s + now, heard=heard))
    return verdicts


def refusals(until: float) -> list[tuple[float, Answer]]:
    return [(n * 0.25, Answer.REFUSED) for n in range(int(until / 0.25) + 1)]


def test_refused_for_long_enough_it_is_gone() -> None:
    assert judged(refusals(0.75)) == [False, False, True, True]


def test_one_that_never_reported_is_given_the_time_that_stopping_takes() -> None:
    verdicts = judged(refusals(13), heard=False)
    assert verdicts.index(True) * 0.25 == REFUSED_UNHEARD_S
    assert all(verdicts[verdicts.index(True) :])


def test_another_process_at_the_address_has_replaced_it() -> None:
    assert judged([(0.0, Answer.ANOTHER)]) == [False]  # not silent for long enough
    assert judged([(0.0, Answer.ANOTHER), (0.6, Answer.ANOTHER)]) == [False, True]
    assert judged([(0.0, Answer.ANOTHER)], heard=False, silent_at_first_s=SILENT_S) == [True]


@pytest.mark.parametrize("answer", [Answer.ITSELF, Answer.NOTHING])
def test_any_other_answer_begins_the_count_anew(answer: Answer) -> None:
    answers = [*refusals(0.25), (0.5, answer), *((2.0 + now, what) for now, what in refusals(0.5))]
    assert judged(answers) == [False, False, False, False, False, True]


def test_two_refusals_are_not_enough_however_far_apart() -> None:
    assert judged([(0.0, Answer.REFUSED), (100.0, Answer.REFUSED)]) == [False, False]


def test_a_report_clears_the_suspicion() -> None:
    suspects = Suspects()
    assert suspects.due([7], 0.0) == [7]
    assert suspects.due([], 0.1) == []
    assert not suspects.answered(7, Answer.ANOTHER, 0.2, 5.0, heard=True)
    assert suspects.due([7], 0.3) == [7]


def test_nobody_is_asked_twice_at_once_or_too_often() -> None:
    suspects = Suspects()
    assert suspects.due([7, 8], 0.0) == [7, 8]
    assert suspects.due([7, 8], 5.0) == []
    suspects.answered(7, Answer.NOTHING, 5.0, 5.0, heard=True)
    assert suspects.due([7, 8], 5.9) == []
    assert suspects.due([7, 8], 6.0) == [7]


@given(
    answers=st.lists(st.tuples(st.floats(0.0, 5.0), st.sampled_from(Answer)), max_size=40),
    heard=st.booleans(),
)
def test_only_proof_counts(answers: list[tuple[float, Answer]], heard: bool) -> None:
    """A verdict follows from the unbroken run of like answers before it."""
    suspects, now, run = Suspects(), 0.0, []
    for pause, answer in answers:
        now += 1.0 + pause
        assert suspects.due([7], now) == [7]
        gone = suspects.answered(7, answer, now, now, heard=heard)
        run = [*run, now] if answer is Answer.REFUSED else []
        needed = REFUSED_S if heard else REFUSED_UNHEARD_S
        refused = len(run) >= 3 and run[-1] - run[0] >= needed
        assert gone == (answer is Answer.ANOTHER or refused)
