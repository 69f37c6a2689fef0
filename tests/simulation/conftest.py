"""All cores for the simulation's seeds."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.support.ahead import CORES


@pytest.fixture(scope="package")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Processes that run seeds; what has not begun when the tests end is not begun any more."""
    pool = ProcessPoolExecutor(CORES, mp_context=get_context("spawn"))
    yield pool
    pool.shutdown(cancel_futures=True)
