"""The yardstick measured with itself: two Milvus RootCoords pass the comparison that the others must pass."""

import signal
from pathlib import Path

import pytest

from tests.interop.scenario import Allocating, ask, ask_again, assert_allocates_above, connect, metadata
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


def test_milvus_agrees_with_itself_before_and_after_a_takeover(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        active = lab.start("rootcoord")
        lab.start_cluster(rootcoord=active)
        connect(lab, client)
        dropped = client.call("dataset")
        standby = lab.start("rootcoord", name="milvus-standby")
        standby.wait_standby()

        before = ask(active, dropped)
        before.assert_same(ask_again(active, before))
        kept = metadata(lab)
        allocating = Allocating(active)
        seen = client.call("observe")
        active.process.signal(signal.SIGKILL)
        allocating.stop()

        standby.wait_state("Healthy", timeout_s=30)
        assert_allocates_above(standby, allocating)
        after = ask_again(standby, before)
        before.assert_same(after, reloaded=True)
        assert before.differences(after), "a reload is known to change the order of fields"
        assert metadata(lab) == kept
        assert client.call("observe") == seen
