"""coordd on metadata that Milvus wrote, against the replies that Milvus gave: a recording, without Milvus."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.scenario import METADATA, Answers, metadata
from tests.lab.cluster import Component, MilvusLab
from tests.lab.probes import no_base_probes
from tests.lab.recorder import open_rootcoord, record
from tests.lab.recording import Recording, load

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

RECORDING = Path(__file__).parent / "recorded" / "milvus-2.3.5.json.xz"
# Answers about the process and its configuration file, which are another's here.
ABOUT_THE_PROCESS = ("GetMetrics", "ShowConfigurations")
# Requests without a base end a real 2.3.5 process (a nil dereference); the type then reads as Undefined.
NEEDS_A_BASE = {
    "DescribeCollection": "DescribeCollection",
    "DescribeCollectionInternal": "DescribeCollection",
    "ShowCollections": "ShowCollections",
    "HasCollection": "HasCollection",
    "ShowPartitions": "ShowPartitions",
    "ShowPartitionsInternal": "ShowPartitions",
    "HasPartition": "HasPartition",
}


@pytest.fixture(scope="module")
def recording() -> Recording:
    """What Milvus answered, and from what."""
    return load(RECORDING)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, recording: Recording) -> Iterator[MilvusLab]:
    """An etcd with the recorded metadata."""
    with MilvusLab(tmp_path_factory.mktemp("lab"), milvus=False) as lab:
        lab.etcd.load(recording.etcd)
        yield lab


@pytest.fixture(scope="module")
def coordd(lab: MilvusLab) -> Component:
    """An active coordd on it."""
    component = lab.start_coordd("rootcoord")
    component.wait_state("Healthy", timeout_s=30)
    return component


def test_coordd_answers_as_milvus_did(lab: MilvusLab, coordd: Component, recording: Recording) -> None:
    probes = [probe for probe in recording.probes if probe.method not in ABOUT_THE_PROCESS]
    expected = {probe.name: recording.replies[probe.name] for probe in probes}
    with open_rootcoord(coordd.address) as stub:
        replies = record(stub, probes)

    Answers(probes, expected).assert_same(Answers(probes, replies))
    assert metadata(lab) == {k: v for k, v in recording.etcd.items() if k.startswith(METADATA)}
    assert len(probes) > 1000


def test_coordd_survives_requests_without_a_base(coordd: Component) -> None:
    with open_rootcoord(coordd.address) as stub:
        replies = record(stub, no_base_probes())
    for name, kept in replies.items():
        status = kept["reply"]["status"]
        wanted = NEEDS_A_BASE.get(name.removesuffix(" no base"))
        if wanted:
            assert status["code"] == 65535
            assert status["reason"] == f"invalid msg type, expect {wanted}, but got Undefined"
        else:
            assert status == {}, name
    assert coordd.state() == "Healthy"
