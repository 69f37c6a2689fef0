"""Fixtures of the etcd client's tests, and the loops on which they run."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.support.etcd import unique_root


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Loops by name; pytest-asyncio asks for each test. Names are resolved in a way of the loop's own."""
    if "resolver" in item.fixturenames:
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def root() -> str:
    """A prefix of keys that only this test uses."""
    return f"{unique_root()}/"
