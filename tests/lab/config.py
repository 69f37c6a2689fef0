"""The milvus.yaml of one lab process, as a mapping.

Only what differs from the built-in defaults of 2.3.5; no ``pulsar`` section, or Milvus would choose Pulsar.
All processes share the file's content but for their own ports, as in a real deployment. coordd reads the
same file plus its own keys under ``coordd:``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Section of milvus.yaml per role, in the order in which a cluster is started.
SECTIONS = {
    "rootcoord": "rootCoord",
    "datacoord": "dataCoord",
    "querycoord": "queryCoord",
    "proxy": "proxy",
    "datanode": "dataNode",
    "querynode": "queryNode",
    "indexnode": "indexNode",
}
# As in the milvus.yaml that Milvus ships: these names have no default in the code.
MSG_CHANNEL = {
    "chanNamePrefix": {
        "cluster": "by-dev",
        "rootCoordTimeTick": "rootcoord-timetick",
        "rootCoordStatistics": "rootcoord-statistics",
        "rootCoordDml": "rootcoord-dml",
        "replicateMsg": "replicate-msg",
        "rootCoordDelta": "rootcoord-delta",
        "search": "search",
        "searchResult": "searchResult",
        "queryTimeTick": "queryTimeTick",
        "dataCoordStatistic": "datacoord-statistics-channel",
        "dataCoordTimeTick": "datacoord-timetick-channel",
        "dataCoordSegmentInfo": "segment-info-channel",
    },
    "subNamePrefix": {
        "proxySubNamePrefix": "proxy",
        "rootCoordSubNamePrefix": "rootCoord",
        "queryNodeSubNamePrefix": "queryNode",
        "dataCoordSubNamePrefix": "dataCoord",
        "dataNodeSubNamePrefix": "dataNode",
    },
}
COORDINATORS = ("rootcoord", "datacoord", "querycoord")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """What all processes of a cluster share."""

    etcd_endpoint: str
    kafka_brokers: str
    storage: Path
    root_path: str = "by-dev"
    session_ttl_s: int = 3
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessPorts:
    """Ports of one process on 127.0.0.1; ``internal`` is used by a proxy only."""

    rpc: int
    metrics: int
    internal: int


def milvus_yaml(cluster: ClusterConfig, role: str, ports: ProcessPorts) -> dict[str, Any]:
    """Configuration of one process."""
    document: dict[str, Any] = {
        "etcd": {"endpoints": cluster.etcd_endpoint, "rootPath": cluster.root_path},
        "metastore": {"type": "etcd"},
        "mq": {"type": "kafka"},
        "kafka": {"brokerList": cluster.kafka_brokers},
        "localStorage": {"path": str(cluster.storage)},
        "common": {"storageType": "local", "session": {"ttl": cluster.session_ttl_s}},
        "log": {"level": "info"},
        "msgChannel": MSG_CHANNEL,
    }
    for name, section in SECTIONS.items():
        document[section] = {"ip": "127.0.0.1"}
        if name in COORDINATORS:
            document[section]["enableActiveStandby"] = True
    document[SECTIONS[role]]["port"] = ports.rpc
    if role == "proxy":
        document["proxy"]["internalPort"] = ports.internal
    _merge(document, cluster.extra)
    return document


def coordd_yaml(cluster: ClusterConfig, role: str, ports: ProcessPorts) -> dict[str, Any]:
    """The same configuration with coordd's own keys: loopback only."""
    document = milvus_yaml(cluster, role, ports)
    own = {"rpc": {"listenHost": "127.0.0.1"}, "management": {"listenHost": "127.0.0.1"}}
    _merge(document, {"coordd": own})
    return document


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
