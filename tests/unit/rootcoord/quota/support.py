"""Measures and settings for the tests of the quota centre."""

import json
from collections.abc import Generator
from typing import Any, TypeVar

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.rootcoord.quota.measures import DataSide, Measures, Node, ProxyLoad, QueryNode

T = TypeVar("T")

NOW_MS = 1_700_000_000_000
MIB = 1_048_576


def whole(work: Generator[None, None, T]) -> T:
    """What work that pauses in between comes to."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result


def settings(**sections: Any) -> QuotaAndLimitsSettings:
    """The defaults, but for what is given; sections as dictionaries by the model's names."""
    return QuotaAndLimitsSettings.model_validate(sections)


def measures(
    *data_nodes: Node,
    query_nodes: tuple[QueryNode, ...] = (),
    proxies: tuple[ProxyLoad, ...] = (),
    total: int = 0,
    sizes: dict[int, int] | None = None,
) -> Measures:
    return Measures(DataSide(data_nodes, total, sizes), query_nodes, proxies)


def stamp(age_s: float) -> int:
    """A hybrid timestamp of so long before `NOW_MS`."""
    return int(NOW_MS - age_s * 1000) << 18


def quota_of_node(
    collections: list[int] | None, *, age_s: float | None = None, **rest: Any
) -> dict[str, Any]:
    """The quota metrics of a data node, as Milvus writes them."""
    flow_graph = {"MinFlowGraphChannel": "", "MinFlowGraphTt": 2**64 - 1, "NumFlowGraph": 0}
    if age_s is not None:
        channel = "by-dev-rootcoord-dml_0_445v0"
        flow_graph = {"MinFlowGraphChannel": channel, "MinFlowGraphTt": stamp(age_s), "NumFlowGraph": 1}
    return {
        "Hms": {
            "ip": "",
            "cpu_core_count": 2,
            "cpu_core_usage": 3.5,
            "memory": 1000,
            "memory_usage": 250,
            "disk": 10,
            "disk_usage": 2,
        },
        "Rms": [{"Label": "InsertConsumeThroughput", "Rate": 0}],
        "Fgm": flow_graph,
        "Effect": {"NodeID": 7, "CollectionIDs": collections},
        **rest,
    }


def quota_of_query_node(collections: list[int] | None, **rest: Any) -> dict[str, Any]:
    """The quota metrics of a query node, as Milvus writes them."""
    queue = {"UnsolvedQueue": 0, "ReadyQueue": 0, "ReceiveChan": 0, "ExecuteChan": 0, "AvgQueueDuration": 0}
    more = {"SearchQueue": queue, "QueryQueue": queue, "GrowingSegmentsSize": 0, **rest}
    return quota_of_node(collections, **more)


def data_coord_text(*nodes: tuple[int, dict[str, Any] | None], disk: dict[str, Any] | None = None) -> str:
    """DataCoord's GetMetrics."""
    connected = [{"has_error": False, "id": one, "quota_metrics": said} for one, said in nodes]
    cluster = {
        "self": {"name": "datacoord2", "quota_metrics": disk},
        "connected_data_nodes": connected,
        "connected_index_nodes": [],
    }
    return json.dumps({"cluster": cluster, "connections": {"name": "datacoord2"}})


def query_coord_text(*nodes: tuple[int, dict[str, Any] | None]) -> str:
    """QueryCoord's GetMetrics."""
    connected = [{"has_error": said is None, "id": one, "quota_metrics": said} for one, said in nodes]
    return json.dumps({"cluster": {"self": {"name": "querycoord3"}, "connected_nodes": connected}})


def proxy_text(**rates: float) -> str:
    """A proxy's GetProxyMetrics."""
    labels = [{"Label": label, "Rate": rate} for label, rate in rates.items()]
    return json.dumps({"name": "proxy9", "id": 9, "quota_metrics": {"Hms": {}, "Rms": labels}})
