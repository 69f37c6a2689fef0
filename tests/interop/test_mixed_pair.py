"""coordd as one half of a pair whose other half is Milvus' own rootcoord, in a running 2.3.5 cluster."""

import signal
import time
from pathlib import Path

import pytest

from tests.interop.scenario import Allocating, ask, ask_again, assert_allocates_above, connect, metadata
from tests.lab.client import PymilvusClient
from tests.lab.cluster import Component, MilvusLab

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

# A takeover after the lease's end, on a busy machine with two cores.
TAKEOVER_S = 30.0


def _cluster_with_data(lab: MilvusLab, client: PymilvusClient) -> tuple[Component, dict[str, int]]:
    active = lab.start("rootcoord")
    lab.start_cluster(rootcoord=active)
    connect(lab, client)
    dropped: dict[str, int] = client.call("dataset")
    return active, dropped


def test_coordd_takes_over_from_a_killed_milvus(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        milvus, dropped = _cluster_with_data(lab, client)
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()

        before = ask(milvus, dropped)
        kept = metadata(lab)
        allocating = Allocating(milvus)
        seen = client.call("observe")
        milvus.process.signal(signal.SIGKILL)
        allocating.stop()

        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        assert_allocates_above(coordd, allocating)
        before.assert_same(ask_again(coordd, before))
        assert metadata(lab) == kept
        assert client.call("observe") == seen


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_milvus_takes_over_when_coordd_ends(tmp_path: Path, how: signal.Signals) -> None:
    # A stop must hand over long before the lease ends; a kill has to wait for it.
    ttl_s = 20 if how is signal.SIGTERM else 3
    with (
        MilvusLab(tmp_path / "lab", session_ttl_s=ttl_s) as lab,
        PymilvusClient(lab.files, tmp_path) as client,
    ):
        first, dropped = _cluster_with_data(lab, client)
        first.process.kill()
        lab.end_session("rootcoord")
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        milvus = lab.start("rootcoord", name="milvus-standby")
        milvus.wait_standby()

        before = ask(coordd, dropped)
        kept = metadata(lab)
        allocating = Allocating(coordd)
        seen = client.call("observe")
        told = time.monotonic()
        coordd.process.signal(how)
        milvus.wait_state("Healthy", timeout_s=TAKEOVER_S)
        took_s = time.monotonic() - told
        allocating.stop()

        assert_allocates_above(milvus, allocating)
        before.assert_same(ask_again(milvus, before), reloaded=True)
        assert metadata(lab) == kept
        assert client.call("observe") == seen
        status = coordd.process.wait(timeout_s=10)
        assert status == (0 if how is signal.SIGTERM else -signal.SIGKILL)
        if how is signal.SIGTERM:
            assert took_s < ttl_s / 2


def test_a_milvus_cluster_starts_on_coordd_and_moves_to_milvus(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        coordd = lab.start_coordd("rootcoord")
        lab.start_cluster(rootcoord=coordd)
        connect(lab, client)
        milvus = lab.start("rootcoord", name="milvus-standby")
        milvus.wait_standby()

        seen = client.call("observe")
        assert set(seen["databases"]) == {"default"}
        assert seen["users"] == ["root"]
        assert set(seen["roles"]) == {"admin", "public"}
        before = ask(coordd)
        allocating = Allocating(coordd)
        coordd.process.signal(signal.SIGKILL)
        milvus.wait_state("Healthy", timeout_s=TAKEOVER_S)
        allocating.stop()

        assert_allocates_above(milvus, allocating)
        before.assert_same(ask_again(milvus, before), reloaded=True)
        assert client.call("observe") == seen
        assert isinstance(client.call("create_collection", name="made_after_the_move"), int)


def test_a_deposed_coordd_lets_go_of_its_clients_and_stands_by_again(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        first, dropped = _cluster_with_data(lab, client)
        first.process.kill()
        lab.end_session("rootcoord")
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        milvus = lab.start("rootcoord", name="milvus-standby")
        milvus.wait_standby()
        before = ask(coordd, dropped)
        allocating = Allocating(coordd)
        seen = client.call("observe")

        # The session of a living process ends: Milvus takes the key while coordd's connections stay open.
        lab.end_session("rootcoord")
        milvus.wait_state("Healthy", timeout_s=TAKEOVER_S)
        assert client.call("observe") == seen
        coordd.wait_standby(timeout_s=TAKEOVER_S)
        allocating.stop()
        assert_allocates_above(milvus, allocating)

        allocating = Allocating(milvus)
        milvus.process.signal(signal.SIGKILL)
        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        allocating.stop()
        assert_allocates_above(coordd, allocating)
        before.assert_same(ask_again(coordd, before))
        assert client.call("observe") == seen


def test_a_paused_milvus_that_wakes_changes_nothing_after_coordd_took_over(tmp_path: Path) -> None:
    with MilvusLab(tmp_path / "lab") as lab, PymilvusClient(lab.files, tmp_path) as client:
        milvus, dropped = _cluster_with_data(lab, client)
        coordd = lab.start_coordd("rootcoord")
        coordd.wait_standby()
        before = ask(milvus, dropped)
        kept = metadata(lab)
        allocating = Allocating(milvus)
        time.sleep(0.5)
        milvus.process.signal(signal.SIGSTOP)

        coordd.wait_state("Healthy", timeout_s=TAKEOVER_S)
        mine = Allocating(coordd)
        milvus.process.signal(signal.SIGCONT)
        # It goes on answering, and saving its own allocation window over coordd's, for some 1.4 s: it has no
        # fence. Then it turns Abnormal, but its process stays.
        milvus.wait_state("Abnormal", timeout_s=TAKEOVER_S)
        allocating.stop()
        mine.stop()

        assert coordd.http("/leader")[0] == 200
        assert_allocates_above(coordd, mine)
        before.assert_same(ask_again(coordd, before))
        assert metadata(lab) == kept
