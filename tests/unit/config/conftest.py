from pathlib import Path

import pytest

from tests.unit.config.support import Directory


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path)
