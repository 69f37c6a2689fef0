"""What bench.ddl makes of its series."""

from typing import Any

import pytest

from bench import ddl
from bench.requests import about, call_of, parse, succeeded
from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import CreateCollectionRequest
from coordd.pb.schema_pb2 import CollectionSchema


def series(calls: int, wall_s: float, cpu_s: float, **rest: Any) -> dict[str, Any]:
    facts = {"client_cpu_s": 0.1 * wall_s, "failed": {}, "others_busy": 0.01}
    latencies = [1000.0 * number for number in range(1, calls + 1)]
    times = {"wall_s": wall_s, "server_cpu_s": cpu_s, "latencies_us": latencies}
    return {"calls": calls, **times, **facts, **rest}


def rounds(*of_all: dict[str, Any]) -> list[dict[str, Any]]:
    return [{method: {"1": one, "16": one} for method in ddl.METHODS} for one in of_all]


def test_rates_are_a_median_and_all_else_is_of_all_rounds_together() -> None:
    three = rounds(series(100, 1.0, 0.1), series(100, 2.0, 0.2), series(100, 4.0, 0.3))
    found = ddl.summary(three, "DropCollection", 1)
    assert found["rate_per_s"] == 50
    assert found["p50_ms"] == 50
    assert found["p99_ms"] == 99
    assert found["server_cpu_ms"] == pytest.approx(2)


def test_every_method_has_its_lines_for_each_number_of_streams() -> None:
    quick, slow = rounds(series(10, 1.0, 0.1)), rounds(series(10, 2.0, 0.1))
    lines = list(ddl.lines({"milvus": slow, "coordd": quick}, (1, 16)))
    assert len(lines) == 5 * 2 * 4
    verdicts = {line.what: line.verdict for line in lines}
    assert verdicts["CreatePartition, 16 at a time, rate"] == "better"
    assert verdicts["CreatePartition, 16 at a time, server CPU per call"] == "same"


def test_the_report_tells_what_failed_and_who_else_was_busy() -> None:
    bad = series(10, 1.0, 0.1, failed={"100: not there": 3}, others_busy=0.5)
    results = {
        "command": "python -m bench.ddl",
        "when": "today",
        "machine": "small",
        "seconds": 1.0,
        "options": {"rounds": 1, "changes": 10, "reads": 10, "streams": [1, 16]},
        "rounds": {"milvus": rounds(series(10, 1.0, 0.1)), "coordd": rounds(bad)},
    }
    text = ddl.report(results)
    assert "'CreatePartition of coordd: 100: not there': 6" in text
    assert "used up to 50% of one CPU. That is much" in text


def test_each_call_of_a_series_is_about_a_collection_of_its_own() -> None:
    assert ddl._names(16, 3, 3) == ["c16_0", "c16_1", "c16_2"]
    assert ddl._names(1, 2, 5) == ["c1_0", "c1_1", "c1_0", "c1_1", "c1_0"]


def test_the_requests_name_the_collection() -> None:
    create = about("CreateCollection", "books")
    assert isinstance(create, CreateCollectionRequest)
    schema = CollectionSchema.FromString(create.schema)
    assert (create.collection_name, schema.name) == ("books", "books")
    assert [field.name for field in schema.fields] == ["pk", "vector", "title"]
    for method in ddl.METHODS:
        assert call_of(method, 7, request=about(method, "books")).path.endswith(f"RootCoord/{method}")


def test_a_reply_that_is_a_status_is_judged_like_one_that_has_one() -> None:
    assert succeeded(parse("DropCollection", b""))
    assert not succeeded(parse("DropCollection", Status(code=100).SerializeToString()))
    assert not succeeded(parse("CreatePartition", Status(error_code=1).SerializeToString()))
