"""The chain under test."""

import pytest

from tests.support.chain import Chain


@pytest.fixture
async def chain() -> Chain:
    return Chain()
