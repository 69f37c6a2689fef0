"""What bench.search_gap makes of its clients' notes."""

from typing import Any

import pytest

from bench.outage import NoAnswersError
from bench.search_gap_report import markdown, summary


def answers(*moments: float, after: float = 0.01) -> list[list[Any]]:
    return [[moment, moment + after, 0, None] for moment in moments]


def kind(requests: list[list[Any]], *wrong: str) -> dict[str, Any]:
    return {"requests": requests, "wrong": list(wrong)}


def test_a_gap_lasts_until_answers_come_again_however_late_that_is() -> None:
    requests = answers(*(10 + tick / 10 for tick in range(20)))  # up to 11.9
    requests += [[12.0, 12.65, 0, None], *answers(12.7, 12.8, 14.0)]
    [found] = summary([11.95, 13.0], 14.5, {"search": kind(requests)}, 100).values()
    assert [run["outage_ms"] for run in found["runs"]] == pytest.approx([740, 1200])
    assert found["gap_ms"] == pytest.approx({"median": 970, "p99": 1200, "max": 1200})
    assert found["slowest_answer_ms"] == pytest.approx(650)
    assert found["quiet_ms"] == pytest.approx(740)  # the gap before lies in the second before the next kill


def test_errors_and_wrong_answers_are_kept_by_kind() -> None:
    failed = [[12.0, 12.1, 0, "MilvusException"], [12.2, 12.3, 0, "MilvusException"]]
    notes = {
        "search": kind(answers(11.0, 11.1, 12.5, 12.6), "search for 5: [4]"),
        "insert": kind([*answers(11.0, 11.1), *failed, *answers(12.5)]),
    }
    found = summary([11.5], 13.0, notes, 100)
    assert (found["search"]["failed"], found["search"]["wrong"]) == (0, ["search for 5: [4]"])
    assert (found["insert"]["failed"], found["insert"]["wrong"]) == (2, [])
    assert found["insert"]["errors"] == {"MilvusException": 2}
    assert found["insert"]["requests"] == 5


def test_a_kind_that_is_not_answered_again_has_no_gap_to_tell() -> None:
    with pytest.raises(NoAnswersError):
        summary([11.5], 13.0, {"search": kind(answers(11.0, 11.1))}, 100)


def test_the_table_has_a_line_for_each_kind_and_product() -> None:
    kinds = summary([11.15], 12.0, {"search": kind(answers(11.0, 11.1, 11.7))}, 100)
    rows = {"acknowledged": 7, "unsure": 1, "counted": 8, "missing": [], "strangers": [], "wrong": ["lost"]}
    one = {"when": "now", "machine": "here", "period_ms": 100, "load": 1.0, "kinds": kinds, "rows": rows}
    text = markdown([{**one, "product": "coordd", "ttl_s": 60}, {**one, "product": "milvus", "ttl_s": 30}])
    assert "| search  | coordd, TTL 60 s       |     1 |              600 |" in text
    assert "| search  | Milvus 2.3.5, TTL 30 s |     1 |              600 |" in text
    assert "7 acknowledged, 8 there, 1 of unknown outcome; lost" in text
