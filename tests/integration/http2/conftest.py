"""On which loop these tests run: calls on the one that coordd runs on, the rest on asyncio's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_UVLOOP = ("test_attackers", "test_contract", "test_encrypted")


def pytest_asyncio_loop_factories(
    item: pytest.Function,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Loops by name; pytest-asyncio asks for each test."""
    if item.path.stem in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
