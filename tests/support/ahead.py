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


def parameters(request: pytest.FixtureRequest, name: str) -> list[Any]:
    """The values that the fixture's module will see of a parameter, in the order of the tests, each once.

    Tests that were not selected count for nothing: who wants one answer does not wait for all.
    """
    specs = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    return list(dict.fromkeys(spec.params[name] for spec in specs if spec and name in spec.params))
