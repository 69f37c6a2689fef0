"""Collections and partitions made and dropped on coordd, with Milvus' own processes around it."""

import signal
from pathlib import Path

import pytest

from tests.interop.scenario import connect, metadata
from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

TAKEOVER_S = 30.0


def test_a_whole_data_set_made_on_coordd_is_what_milvus_goes_on_with(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        lab.start_cluster(rootcoord=coordd)
        connect(lab, client)
        client.call("dataset")
        seen = client.call("observe")
        milvus = lab.start("rootcoord")
        milvus.wait_standby()
        coordd.process.signal(signal.SIGTERM)
        milvus.wait_state("Healthy", timeout_s=TAKEOVER_S)
        assert client.call("observe") == seen
        assert metadata(lab)


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
