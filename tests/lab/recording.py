"""A recording on disk: requests, Milvus' replies and the etcd content they were answered from.

Made once by ``python -m tests.lab.recording FILE`` from a real cluster (some 5 s) and kept in the repository,
so that coordd's answers can be compared with Milvus' in a second, without Milvus. xz-compressed JSON.
"""

from __future__ import annotations

import base64
import json
import lzma
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from tests.lab.client import PymilvusClient
from tests.lab.cluster import MilvusLab
from tests.lab.probes import build_probes
from tests.lab.recorder import Probe, gather, open_rootcoord, record
from tests.lab.wire import SERVICES

# What coordd needs to answer: RootCoord's metadata with its history, and the allocators' marks.
KEPT = ("by-dev/meta/root-coord/", "by-dev/meta/snapshots/root-coord/", "by-dev/kv/gid/")


@dataclass(frozen=True, slots=True)
class Recording:
    """Probes, the replies by probe name, and etcd's keys."""

    probes: list[Probe]
    replies: dict[str, dict[str, Any]]
    etcd: dict[str, bytes]

    @property
    def methods(self) -> dict[str, str]:
        """Probe name -> method."""
        return {probe.name: probe.method for probe in self.probes}


def save(
    path: Path, probes: Sequence[Probe], replies: Mapping[str, dict[str, Any]], etcd: Mapping[str, bytes]
) -> None:
    """Write a recording."""
    document = {
        "probes": [
            {
                "name": probe.name,
                "method": probe.method,
                "request": json_format.MessageToDict(probe.request, preserving_proto_field_name=True),
                "metadata": probe.metadata,
            }
            for probe in probes
        ],
        "replies": replies,
        "etcd": {key: base64.b64encode(value).decode() for key, value in etcd.items()},
    }
    path.write_bytes(lzma.compress(json.dumps(document, ensure_ascii=False).encode()))


def load(path: Path) -> Recording:
    """Read a recording."""
    document = json.loads(lzma.decompress(path.read_bytes()))
    service = SERVICES["rootcoord"]
    probes = []
    for kept in document["probes"]:
        request = GetMessageClass(service.methods_by_name[kept["method"]].input_type)()
        json_format.ParseDict(kept["request"], request)
        metadata = tuple((str(key), str(value)) for key, value in kept["metadata"])
        probes.append(Probe(kept["name"], kept["method"], request, metadata))
    etcd = {key: base64.b64decode(value) for key, value in document["etcd"].items()}
    return Recording(probes, document["replies"], etcd)


def main(path: Path) -> None:
    """Run a cluster, make the data set, record."""
    with tempfile.TemporaryDirectory() as folder, MilvusLab(Path(folder)) as lab:
        lab.start_cluster()
        with PymilvusClient(lab.files, lab.work) as client:
            client.call("connect", host="127.0.0.1", port=lab.component("proxy").ports.rpc)
            dropped = client.call("dataset")
            with open_rootcoord(lab.component("rootcoord").address) as stub:
                probes = build_probes(gather(stub, dropped))
                replies = record(stub, probes)
            kept = {k: v for k, v in lab.etcd.dump().items() if k.startswith(KEPT)}
    save(path, probes, replies, kept)
    print(f"{path}: {len(probes)} probes, {len(kept)} keys, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
