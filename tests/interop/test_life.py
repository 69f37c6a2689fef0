"""Collections and partitions made and dropped on coordd, with Milvus' own processes around it."""

import signal
from pathlib import Path

import pytest

from tests.interop.scenario import connect
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

TAKEOVER_S = 30.0


def test_data_goes_in_and_is_found_before_and_after_a_kill(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        first = lab.start_coordd("rootcoord")
        first.wait_state("Healthy", timeout_s=TAKEOVER_S)
        lab.start_cluster(rootcoord=first)
        second = lab.start_coordd("rootcoord", name="coordd-second")
        second.wait_standby()
        connect(lab, client)
        client.call("create_collection", name="books")
        client.call("fill", name="books", first=0, count=100)
        client.call("index_and_load", name="books")
        assert client.call("nearest", name="books", key=50) == [49, 50, 51]

        first.process.signal(signal.SIGKILL)
        client.call("fill", name="books", first=100, count=50)
        assert client.call("nearest", name="books", key=120) == [119, 120, 121]
        client.call("delete", name="books", keys=[120])
        assert client.call("nearest", name="books", key=120) == [118, 119, 121]
        client.call("create_partition", name="books", partition="new")
        assert client.call("count", name="books") == 149
        client.call("create_collection", name="more")
        client.call("release", name="books")
        client.call("drop_partition", name="books", partition="new")
        client.call("drop_collection", name="books")
        assert client.call("list_collections") == ["more"]
        client.call("create_collection", name="books")
        client.call("index_and_load", name="books")
        assert client.call("count", name="books") == 0
