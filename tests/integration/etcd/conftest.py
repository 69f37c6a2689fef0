"""Fixtures of the etcd client's tests."""

import pytest

from tests.support.etcd import unique_root


@pytest.fixture
def root() -> str:
    """A prefix of keys that only this test uses."""
    return f"{unique_root()}/"
