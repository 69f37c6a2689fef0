"""What the other processes say of their nodes in GetMetrics, as far as limits follow from it.

Pure. The texts are JSON with Go's names; what is not needed is passed over. Those of the coordinators are
long where there are many collections, so they are read bit by bit: other work may be done whenever such a
reading yields.

Source of truth: Milvus 2.3.5 pkg/util/metricsinfo/{quota_metric,metrics_info,topology}.go.
"""

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from coordd.errors import CoorddError
from coordd.rootcoord.quota.bit_by_bit import cut, parse
from coordd.rootcoord.tso import physical_of

T = TypeVar("T")

NS_PER_S = 1_000_000_000

_IDS = "CollectionIDs"
_SIZES = "CollectionBinlogSize"
_LONG = (_IDS, _SIZES)


class UnreadableMetrics(CoorddError):
    """The answer to GetMetrics is not what it should be."""


@dataclass(frozen=True, slots=True)
class Node:
    """A data node, or what a query node has in common with one.

    `collections`: those it works for. `tick_delay_s`: how old the oldest of its newest consumed time ticks
    was when the answer came; None if it consumes no channel.
    """

    node_id: int
    collections: tuple[int, ...] = ()
    memory_bytes: int = 0
    used_bytes: int = 0
    tick_delay_s: float | None = None

    @property
    def used_share(self) -> float:
        """Of its memory, 0 if that is not known."""
        return self.used_bytes / self.memory_bytes if self.memory_bytes > 0 else 0.0


@dataclass(frozen=True, slots=True)
class QueryNode(Node):
    """A query node.

    `growing_bytes`: memory in growing segments. `queued`: vectors that wait or are being worked on.
    `waited_s`: average time in its queue, of searches or of queries, whichever is longer.
    """

    growing_bytes: int = 0
    queued: int = 0
    waited_s: float = 0.0

    @property
    def growing_share(self) -> float:
        """Share of its memory in growing segments, 0 if that is not known."""
        return self.growing_bytes / self.memory_bytes if self.memory_bytes > 0 else 0.0


@dataclass(frozen=True, slots=True)
class DataSide:
    """What DataCoord says: its nodes, and the bytes of binlogs in all and by collection, if it says so."""

    nodes: tuple[Node, ...] = ()
    binlog_bytes: int = 0
    collection_binlog_bytes: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class ProxyLoad:
    """What passes a proxy at present: vectors searched for, queries, bytes of results, each per second."""

    searches: float = 0.0
    queries: float = 0.0
    result_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Measures:
    """All of it."""

    data: DataSide
    query_nodes: tuple[QueryNode, ...] = ()
    proxies: tuple[ProxyLoad, ...] = ()

    def collections(self) -> Generator[None, None, set[int]]:
        """Collections that a node works for, bit by bit."""
        found: set[int] = set()
        for node in (*self.data.nodes, *self.query_nodes):
            for some in cut(node.collections):
                found.update(some)
                yield
        return found


def read_data_coord(text: str, now_ms: int) -> Generator[None, None, DataSide]:
    """DataCoord's answer. `now_ms`: Unix milliseconds by the clock of timestamps.

    Raises:
        UnreadableMetrics: it is something else.
    """
    with _readable("datacoord"):
        cluster = (yield from parse(text, _LONG))["cluster"]
        disk = cluster["self"].get("quota_metrics") or {}
        return DataSide(
            nodes=tuple(
                Node(**_common(node_id, said, now_ms))
                for node_id, said in _nodes(cluster["connected_data_nodes"])
            ),
            binlog_bytes=int(disk.get("TotalBinlogSize") or 0),
            collection_binlog_bytes=_if_any(disk.get(_SIZES), dict),
        )


def read_query_coord(text: str, now_ms: int) -> Generator[None, None, tuple[QueryNode, ...]]:
    """QueryCoord's answer. `now_ms`: Unix milliseconds by the clock of timestamps.

    Raises:
        UnreadableMetrics: it is something else.
    """
    with _readable("querycoord"):
        cluster = (yield from parse(text, _LONG))["cluster"]
        nodes = _nodes(cluster["connected_nodes"])
        return tuple(_query_node(node_id, said, now_ms) for node_id, said in nodes)


def read_proxy(text: str) -> ProxyLoad:
    """A proxy's answer to GetProxyMetrics.

    Raises:
        UnreadableMetrics: it is something else.
    """
    with _readable("a proxy"):
        said = json.loads(text).get("quota_metrics") or {}
        rates: dict[str, float] = {}
        for rate in said.get("Rms") or ():
            rates[rate["Label"]] = rates.get(rate["Label"], 0.0) + float(rate["Rate"])
        return ProxyLoad(
            searches=rates.get("DQLSearch", 0.0),
            queries=rates.get("DQLQuery", 0.0),
            result_bytes=rates.get("ReadResultThroughput", 0.0),
        )


@contextmanager
def _readable(whose: str) -> Iterator[None]:
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UnreadableMetrics(f"the metrics of {whose} cannot be read: {reason}") from error


def _nodes(entries: Any) -> Iterator[tuple[int, Any]]:
    """Server ID and quota metrics of each node that gave some: one that did not answer has none."""
    for entry in entries or ():
        said = entry.get("quota_metrics")
        if said is not None:
            yield int(entry["id"]), said


def _if_any(value: Any, kind: type[T]) -> T | None:
    """A value that may be left out."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _common(node_id: int, said: Any, now_ms: int) -> dict[str, Any]:
    """The fields of a `Node`."""
    memory, ticks = said["Hms"], said["Fgm"]
    delay_s = None
    if ticks["NumFlowGraph"] > 0 and ticks["MinFlowGraphChannel"]:
        delay_s = max(0.0, (now_ms - physical_of(int(ticks["MinFlowGraphTt"]))) / 1000)
    return {
        "node_id": node_id,
        "collections": tuple(_if_any(said["Effect"][_IDS], list) or ()),
        "memory_bytes": int(memory["memory"]),
        "used_bytes": int(memory["memory_usage"]),
        "tick_delay_s": delay_s,
    }


def _query_node(node_id: int, said: Any, now_ms: int) -> QueryNode:
    search, query = said["SearchQueue"], said["QueryQueue"]
    return QueryNode(
        **_common(node_id, said, now_ms),
        growing_bytes=int(said.get("GrowingSegmentsSize") or 0),
        # Queries pass the same queue, whose length is told with the searches.
        queued=sum(
            int(search[part]) for part in ("UnsolvedQueue", "ReadyQueue", "ReceiveChan", "ExecuteChan")
        ),
        waited_s=max(int(search["AvgQueueDuration"]), int(query["AvgQueueDuration"])) / NS_PER_S,
    )
