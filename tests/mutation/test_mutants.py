"""The suite must fail without what it is there to guard."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.run import LONGEST_S, Failure, trial
from tests.support.ahead import CORES, parameters

pytestmark = pytest.mark.timeout(LONGEST_S + 20)


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> Iterator[dict[Mutant, Future[Failure]]]:
    """What comes of the trial of each mutant, as many at a time as there are cores."""
    pool = ThreadPoolExecutor(CORES)
    yield {mutant: pool.submit(trial, mutant) for mutant in parameters(request, "mutant")}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_suite_notices_when_it_is_missing(mutant: Mutant, trials: dict[Mutant, Future[Failure]]) -> None:
    """Raises `Unnoticed` if it does not."""
    assert trials[mutant].result().test
