"""The suite must fail without what it is there to guard."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.run import caught_by
from tests.support.ahead import CORES, parameters

pytestmark = pytest.mark.timeout(320)


@pytest.fixture(scope="module")
def catches(request: pytest.FixtureRequest) -> Iterator[dict[Mutant, Future[list[str]]]]:
    """What `caught_by` says of each mutant, as many at a time as there are cores."""
    pool = ThreadPoolExecutor(CORES)
    yield {mutant: pool.submit(caught_by, mutant) for mutant in parameters(request, "mutant")}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_suite_notices_when_it_is_missing(
    mutant: Mutant, catches: dict[Mutant, Future[list[str]]]
) -> None:
    assert catches[mutant].result()
