"""The suite must fail without what it is there to guard."""

import pytest

from tests.mutation.mutants import MUTANTS, Mutant
from tests.mutation.run import caught_by

pytestmark = pytest.mark.timeout(320)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_suite_notices_when_it_is_missing(mutant: Mutant) -> None:
    assert caught_by(mutant)
