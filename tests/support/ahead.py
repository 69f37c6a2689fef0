"""What parametrised tests ask for, worked out on all cores before they ask: one waits, others compute.

@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[int]]]:
    pool = ThreadPoolExecutor(CORES)
    yield {name: pool.submit(work_out, name) for name in parameters(request, "name")}
    pool.shutdown(cancel_futures=True)
"""

import os
from typing import Any, Final

import pytest

CORES: Final = len(os.sched_getaffinity(0))


def of_this_module(request: pytest.FixtureRequest) -> list[pytest.Function]:
    """The tests of the fixture's module that are to be run, in their order."""
    return [
        item
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]


def parameters(request: pytest.FixtureRequest, name: str) -> list[Any]:
    """The values that the fixture's module will see of a parameter, in the order of the tests, each once.

    Tests that were not selected count for nothing: who wants one answer does not wait for all.
    """
    specs = [getattr(item, "callspec", None) for item in of_this_module(request)]
    return list(dict.fromkeys(spec.params[name] for spec in specs if spec and name in spec.params))
