"""What is made of the notes of bench.open_loop."""

import pytest

from bench.outage import NoAnswersError, Notes, longest, quantile

OLD, NEW = 1, 2


def answered(sent: float, *, after: float = 0.001, server: int = OLD) -> list[object]:
    return [sent, sent + after, server, None]


def client(requests: list[list[object]], backwards: int = 0) -> dict[str, object]:
    return {"requests": requests, "backwards": backwards}


def test_the_outage_is_the_time_between_the_good_answers_around_the_event() -> None:
    requests = [answered(1.000), answered(1.005), [1.010, 1.011, OLD, "connection lost"]]
    requests += [[1.015, 1.016, OLD, "ConnectionRefusedError"], answered(1.020, server=NEW), answered(1.025)]
    found = Notes([client(requests)]).judge(1.007, 1.1)
    assert found["outage_ms"] == pytest.approx(15)
    assert found["failed"] == 2
    assert found["errors"] == {"connection lost": 1, "ConnectionRefusedError": 1}
    assert found["late_ms"] == pytest.approx(5)


def test_a_held_request_ends_the_outage_and_counts_as_slow() -> None:
    requests = [answered(1.000), answered(1.005), answered(1.010, after=0.030), answered(1.045)]
    found = Notes([client(requests)]).judge(1.007, 1.1)
    assert found["outage_ms"] == pytest.approx(34)
    assert found["slowest_answer_ms"] == pytest.approx(30)
    assert found["failed"] == 0


def test_pauses_outside_the_event_are_not_its_own() -> None:
    requests = [answered(at) for at in (0.0, 0.5, 1.000, 1.005, 1.010, 2.0, 2.005)]
    notes = Notes([client(requests)])
    assert notes.judge(1.002, 1.012)["outage_ms"] == pytest.approx(5)
    assert notes.judge(1.002, 2.002)["outage_ms"] == pytest.approx(990)


def test_failures_before_the_event_are_not_its_own() -> None:
    requests = [[0.9, 0.95, OLD, "early"], [0.99, 1.2, OLD, "late"], answered(0.98), answered(1.01)]
    requests.sort(key=lambda request: request[0])
    found = Notes([client(requests)]).judge(1.0, 1.1)
    assert found["errors"] == {"late": 1}


def test_of_several_clients_the_worst_counts_and_failures_add_up() -> None:
    quick = [answered(1.000), [1.005, 1.006, OLD, "lost"], answered(1.010), answered(1.015)]
    slow = [answered(1.000), [1.005, 1.006, OLD, "lost"], [1.010, 1.011, OLD, "refused"], answered(1.025)]
    notes = Notes([client(quick, backwards=1), client(slow, backwards=2)])
    found = notes.judge(1.002, 1.1)
    assert found["outage_ms"] == pytest.approx(25)
    assert found["errors"] == {"lost": 2, "refused": 1}
    assert notes.errors() == {"lost": 2, "refused": 1}
    assert (notes.total, notes.backwards) == (8, 3)


@pytest.mark.parametrize(
    ("at", "until"), [(0.5, 2.0), (1.5, 2.0)], ids=["none before the event", "none after it"]
)
def test_without_answers_on_both_sides_there_is_no_outage_to_tell(at: float, until: float) -> None:
    with pytest.raises(NoAnswersError):
        Notes([client([answered(1.0), answered(1.005)])]).judge(at, until)


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert quantile(values, 0.99) == 99
    assert quantile(values, 0.5) == 50
    assert quantile(values, 1.0) == 100
    assert quantile([7.0], 0.99) == 7
    assert longest([1.0, 1.5, 3.0]) == 1.5
