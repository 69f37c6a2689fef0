"""The active rootcoord is killed again and again, and pymilvus notices nothing but slow answers.

Here under load. The same with all that pymilvus can do: `tests.interop.test_surface`. With the time that
answers take: ``python -m bench.search_gap``.
"""

import time
from pathlib import Path

import pytest

from tests.interop.killing import kill_active
from tests.lab.cluster import MilvusLab
from tests.lab.load import Load, LoadPlan

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

KILLS = 5
PAUSE_S = 2.0
"""Between a kill and the next, once there is a standby: the clients are to work in between."""


def test_no_error_and_no_wrong_result(tmp_path: Path) -> None:
    """Searches, inserts and DDL go on all the time; in the end every row is there, and once."""
    with MilvusLab(tmp_path / "lab", session_ttl_s=30) as lab:
        first = lab.start_coordd("rootcoord")
        first.wait_state("Healthy")
        lab.start_cluster(rootcoord=first)
        lab.start_coordd("rootcoord", name="coordd-standby").wait_standby()
        port = lab.component("proxy").ports.rpc
        with Load(lab.files, tmp_path, port, LoadPlan(ddl=True)) as load:
            for _ in range(KILLS):
                time.sleep(PAUSE_S)
                kill_active(lab)
            time.sleep(PAUSE_S)
            notes = load.stop()
    assert notes.wrong() == []
    assert notes.errors() == {}
    assert notes.rows["unsure"] == 0
    assert min(notes.answered(name) for name in ("search, bounded", "search, strong", "insert")) > 20 * KILLS
    assert notes.answered("DDL") >= 6 * KILLS
