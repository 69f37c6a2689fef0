"""The closed-loop client of bench.ddl against a server that answers all calls alike."""

from collections.abc import Iterator

import pytest

from bench import children
from bench.series import run

CALLS = 50


@pytest.fixture
def address() -> Iterator[str]:
    with children.started("bench.trivial_server") as server:
        assert server.stdout is not None
        yield f"127.0.0.1:{server.stdout.readline().strip()}"


@pytest.mark.parametrize("streams", [1, 3, 16, 2 * CALLS])
def test_each_call_is_made_once_and_timed(address: str, streams: int) -> None:
    found = run(address, "AllocID", 7, streams, [f"c{number}" for number in range(CALLS)])
    assert found["calls"] == CALLS
    assert found["failed"] == {}
    assert len(found["latencies_us"]) == CALLS
    assert 0 < min(found["latencies_us"]) <= max(found["latencies_us"]) <= found["wall_s"] * 1e6


def test_a_refusal_is_counted_with_its_reason(address: str) -> None:
    # The answer to every call is a reply of AllocID; read as a bare status, its count of 1 is a code.
    found = run(address, "DropCollection", 7, 2, ["a", "b", "c"])
    assert found["failed"] == {"1: ": 3}
