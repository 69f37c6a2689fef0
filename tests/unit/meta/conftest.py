"""Log lines of these tests are collected, not printed."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """The lines logged so far, as dicts."""
    with capture_logs() as lines:
        yield lines
