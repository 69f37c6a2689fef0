"""After coordd has deleted all old history, Milvus' own rootcoord loads the same as before."""

import asyncio
from pathlib import Path

import pytest

from coordd.config import load_config
from coordd.etcd import EtcdClient
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.layout import MetaLayout
from coordd.rootcoord import RootCoord
from coordd.rootcoord.snapshots import SnapshotFigures
from tests.integration.rootcoord.test_terms import term
from tests.interop.scenario import Answers, ask_again, metadata
from tests.interop.test_recorded import ABOUT_THE_PROCESS, RECORDING
from tests.lab.cluster import MilvusLab
from tests.lab.recording import load

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

LAYOUT = MetaLayout("by-dev", "meta", "kv")


async def delete_history(lab: MilvusLab) -> SnapshotFigures:
    """A term of coordd that keeps nothing but the present."""
    loaded = load_config(
        env={
            "ETCD_ENDPOINTS": lab.etcd.endpoint,
            "METASTORE_SNAPSHOT_TTL": "0",
            "METASTORE_SNAPSHOT_RESERVETIME": "0",
        }
    )
    async with EtcdClient(loaded.settings.etcd) as client:
        coordinator = RootCoord(lambda: loaded, LAYOUT, client)
        async with term(client, LAYOUT, coordinator) as begun:
            await coordinator._snapshot_collector(begun, coordinator.parts.oracle).collect()
        await client.delete(LAYOUT.session("rootcoord"))
    return coordinator._snapshots


def of_the_present(answers: Answers, newest: int) -> Answers:
    """Those to questions about metadata as it is, or was at a time when nothing was to change any more."""
    probes = [
        probe
        for probe in answers.probes
        if probe.method not in ABOUT_THE_PROCESS and not 0 < getattr(probe.request, "time_stamp", 0) < newest
    ]
    return Answers(probes, {probe.name: answers.replies[probe.name] for probe in probes})


def test_milvus_answers_as_before(tmp_path: Path) -> None:
    recording = load(RECORDING)
    newest = max(parsed[1] for key in recording.etcd if (parsed := LAYOUT.parse_snapshot(key)))
    before = of_the_present(Answers(recording.probes, recording.replies), newest)
    assert len(before.probes) > 500
    with MilvusLab(tmp_path / "lab") as lab:
        lab.etcd.load(recording.etcd)
        kept = metadata(lab)

        figures = asyncio.run(delete_history(lab))

        left = metadata(lab)
        assert left.items() <= kept.items()
        assert len(kept) - len(left) >= figures.snapshots > 0
        assert figures.keys > 0
        assert TOMBSTONE not in left.values()
        milvus = lab.start("rootcoord")
        milvus.wait_state("Healthy")
        before.assert_same(ask_again(milvus, before), reloaded=True)
