"""Prometheus metrics of one process, read from state at the moment of the scrape.

Names that start with `milvus_` are Milvus 2.3.5's (pkg/metrics), with its labels and units, so that its
dashboards work; they are given only while this replica is the active one, because dashboards add them up over
all processes, and only where there is a true number. Names that start with `coordd_` are ours.

Milvus' counters lack the suffix `_total`, which the client library gives to every counter: they are exposed
as untyped.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from coordd.ha.election_events import TermCause
from coordd.ha.history import PHASE_BUCKETS_S, TermEnd
from coordd.management.view import STATES, ReplicaView
from coordd.pb.common_pb2 import StateCode
from coordd.rpc.dispatch import Dispatcher
from coordd.rpc.failure import RpcCode
from coordd.rpc.stats import BUCKETS_MS, QUEUE_BOUNDS_MS, MethodStats, QueueStats
from coordd.rpc.table import Method

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_NOT_READY = 1

_DDL_NAMES: Mapping[str, str] = {
    "DescribeCollectionInternal": "DescribeCollection",
    "ShowPartitionsInternal": "ShowPartitions",
    "ListPolicy": "PolicyList",
}
"""Where Milvus counts a method under another function_name than its own."""

_NOT_DDL = frozenset(
    {
        "AllocID",
        "AllocTimestamp",
        "CheckHealth",
        "GetComponentStates",
        "GetMetrics",
        "GetPChannelInfo",
        "GetStatisticsChannel",
        "GetTimeTickChannel",
        "InvalidateCollectionMetaCache",
        "OperateUserRole",
        "ShowConfigurations",
        "ShowSegments",
        "UpdateChannelTimeTick",
    }
)
"""Methods of RootCoord that Milvus leaves out of its ddl metrics (it counts OperateUserRole by its type)."""


_REPLICA_GAUGES: Sequence[tuple[str, str, Callable[[ReplicaView], float | None]]] = (
    ("coordd_server_id", "own server id", lambda r: r.server_id),
    ("coordd_epoch", "term led, 0 outside one", lambda r: r.epoch),
    (
        "coordd_guard_remaining_seconds",
        "how long answers may leave without another heartbeat",
        lambda r: r.guard_remaining_s,
    ),
    ("coordd_follower_synced", "1 while etcd's watch is followed", lambda r: float(r.following)),
    ("coordd_follower_revision", "etcd revision that the tables contain", lambda r: r.followed_revision),
    (
        "coordd_follower_revision_lag",
        "revisions that etcd is known to be ahead of the tables",
        lambda r: r.revision_lag,
    ),
    ("coordd_quarantined_keys", "keys with a value that does not decode", lambda r: r.quarantined_keys),
)


class RootCoordFigures(Protocol):
    """What RootCoord can tell of itself. None: not known, so not exposed."""

    def collection_num(self) -> int | None:
        """Collections that exist, in all databases."""

    def partition_num(self) -> int | None:
        """Partitions of those collections."""

    def credential_num(self) -> int | None:
        """Users."""

    def role_num(self) -> int | None:
        """Roles."""

    def proxy_num(self) -> int | None:
        """Proxies that are registered."""

    def last_timestamp(self) -> int | None:
        """The hybrid timestamp handed out last."""

    def saved_timestamp_s(self) -> float | None:
        """End of the saved window of timestamps, Unix seconds."""

    def ids_allocated(self) -> int | None:
        """IDs handed out by this process."""

    def dml_channel_num(self) -> int | None:
        """Physical channels for inserts and deletes."""

    def queue_waits(self) -> Mapping[str, QueueStats]:
        """By method, how long changes waited for their turn."""

    def tick_lags_ms(self) -> Mapping[str, float]:
        """By channel, how old the newest time tick was when it had been sent."""

    def tick_latency(self) -> MethodStats | None:
        """How long time ticks took to be sent to all channels."""

    def quota_states(self) -> Mapping[str, bool]:
        """By name of a reason, whether writing is denied somewhere because of it."""

    def rate_limit_ratios(self) -> Mapping[int, float]:
        """By collection, the share of its rates that is taken away."""

    def node_tick_delays_s(self) -> Mapping[tuple[str, int], float]:
        """By role and server ID of a node, how old the newest time ticks are that it has consumed."""

    def snapshots_deleted(self) -> int:
        """Snapshots of metadata deleted by this process."""

    def keys_forgotten(self) -> int:
        """Deleted metadata keys of which this process has left nothing."""

    def snapshot_rounds(self) -> Mapping[str, int]:
        """Rounds of such deletions by their outcome (`done`, `failed`)."""


class EtcdFigures(Protocol):
    """What the etcd client can tell of itself; one number per kind of operation (`range`, `txn`, …)."""

    def requests(self) -> Mapping[str, int]:
        """Requests answered, by operation."""

    def failures(self) -> Mapping[str, int]:
        """Requests that failed, by operation."""

    def connected_endpoint(self) -> str | None:
        """The endpoint in use, None while there is none."""


@dataclass(frozen=True, slots=True)
class _Served:
    replica: ReplicaView
    dispatcher: Dispatcher
    rootcoord: RootCoordFigures | None


class Metrics:
    """All metrics of a process. Replicas are added once, before the first scrape."""

    def __init__(self, *, version: str, milvus_version: str) -> None:
        self._served: list[_Served] = []
        self._etcd: EtcdFigures | None = None
        self._version = version
        self._milvus_version = milvus_version
        self._registry = CollectorRegistry()
        self._registry.register(_Reader(self._collect))
        self._defaults = CollectorRegistry()
        ProcessCollector(registry=self._defaults)
        PlatformCollector(registry=self._defaults)
        GCCollector(registry=self._defaults)

    def add_replica(
        self, replica: ReplicaView, dispatcher: Dispatcher, rootcoord: RootCoordFigures | None = None
    ) -> None:
        """Show `replica` and the calls that `dispatcher` answers for it."""
        self._served.append(_Served(replica, dispatcher, rootcoord))

    def set_etcd(self, etcd: EtcdFigures) -> None:
        """Show the etcd client of the process."""
        self._etcd = etcd

    def text(self) -> bytes:
        """`/metrics`, in the text format `CONTENT_TYPE`."""
        return generate_latest(self._registry)

    def default_text(self) -> bytes:
        """`/metrics_default`: the process and its runtime."""
        return generate_latest(self._defaults)

    def _collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(
            "coordd_build_info", "versions; always 1", labels=["version", "milvus_version"]
        )
        build.add_metric([self._version, self._milvus_version], 1)
        yield build
        yield from _replica_metrics([served.replica for served in self._served])
        yield from _term_metrics([served.replica for served in self._served])
        yield from _rpc_metrics(self._served)
        yield from _snapshot_metrics(self._served)
        yield from _milvus_metrics(self._served)
        if self._etcd is not None:
            yield from _etcd_metrics(self._etcd)


class _Reader(Collector):
    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return self._read()

    def describe(self) -> Iterable[Metric]:
        return ()


def _replica_metrics(replicas: Sequence[ReplicaView]) -> Iterator[Metric]:
    state = GaugeMetricFamily("coordd_state", "1 for the state a replica is in", labels=["role", "state"])
    phases = GaugeMetricFamily(
        "coordd_takeover_phase_seconds",
        "how long each phase of the latest take-over took",
        labels=["role", "phase"],
    )
    for replica in replicas:
        for name in STATES:
            state.add_metric([replica.role, name], float(name == replica.state))
        for phase, seconds in replica.takeover_phases_s.items():
            phases.add_metric([replica.role, phase], seconds)
    yield state
    yield phases
    for name, text, read in _REPLICA_GAUGES:
        family = GaugeMetricFamily(name, text, labels=["role"])
        for replica in replicas:
            value = read(replica)
            if value is not None:
                family.add_metric([replica.role], value)
        yield family
    quarantined = CounterMetricFamily(
        "coordd_quarantined_values", "values that did not decode", labels=["role"]
    )
    for replica in replicas:
        quarantined.add_metric([replica.role], replica.quarantined_total)
    yield quarantined


def _term_metrics(replicas: Sequence[ReplicaView]) -> Iterator[Metric]:
    """Every cause and every end is there from the start, so that the first one is seen as an increase."""
    begun = CounterMetricFamily(
        "coordd_terms", "terms of leadership begun, by what made them possible", labels=["role", "cause"]
    )
    ended = CounterMetricFamily(
        "coordd_term_ends", "terms of leadership ended, as the leader saw it", labels=["role", "end"]
    )
    phases = HistogramMetricFamily(
        "coordd_term_phase_seconds", "how long the phases of take-overs took", labels=["role", "phase"]
    )
    bounds = [f"{bound:g}" for bound in PHASE_BUCKETS_S]
    for replica in replicas:
        terms = replica.term_log
        for cause in TermCause:
            begun.add_metric([replica.role, cause.value], terms.begun.get(cause, 0))
        for end in TermEnd:
            ended.add_metric([replica.role, end.value], terms.finished.get(end, 0))
        for phase, stats in terms.phases.items():
            phases.add_metric([replica.role, phase], _cumulated(bounds, stats.buckets), stats.total_s)
    yield from (begun, ended, phases)


def _rpc_metrics(served: Sequence[_Served]) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily(
        "coordd_rpc_in_flight", "calls that wait for something, held ones included", labels=["role"]
    )
    calls = CounterMetricFamily(
        "coordd_rpc_calls",
        "calls ended, by gRPC code and by code of the status answered",
        labels=["role", "service", "method", "grpc_code", "status_code"],
    )
    held = CounterMetricFamily(
        "coordd_rpc_held", "calls that waited for the serve guard", labels=["role", "service", "method"]
    )
    bugs = CounterMetricFamily(
        "coordd_rpc_bugs", "unexpected errors in handlers", labels=["role", "service", "method"]
    )
    seconds = HistogramMetricFamily(
        "coordd_rpc_seconds", "time to a successful answer", labels=["role", "service", "method"]
    )
    for one in served:
        role = one.replica.role
        in_flight.add_metric([role], one.dispatcher.in_flight)
        for method in one.dispatcher.table:
            labels, stats = [role, method.service, method.name], method.stats
            for code, count in sorted(stats.answered.items()):
                calls.add_metric([*labels, RpcCode.OK.name, str(code)], count)
            for code, count in sorted(stats.failed.items()):
                calls.add_metric([*labels, RpcCode(code).name, ""], count)
            if stats.held:
                held.add_metric(labels, stats.held)
            if stats.bugs:
                bugs.add_metric(labels, stats.bugs)
            if stats.answered.get(0):
                bounds = [f"{bound / 1000:g}" for bound in BUCKETS_MS]
                seconds.add_metric(labels, _cumulated(bounds, stats.buckets), stats.total_s)
    yield from (in_flight, calls, held, bugs, seconds)


def _snapshot_metrics(served: Sequence[_Served]) -> Iterator[Metric]:
    deleted = CounterMetricFamily(
        "coordd_snapshots_deleted", "old snapshots of metadata deleted", labels=["role"]
    )
    forgotten = CounterMetricFamily(
        "coordd_keys_forgotten", "deleted metadata keys of which nothing is left", labels=["role"]
    )
    rounds = CounterMetricFamily(
        "coordd_snapshot_rounds", "looks through all snapshots, by outcome", labels=["role", "outcome"]
    )
    for one in served:
        if one.rootcoord is not None:
            role = one.replica.role
            deleted.add_metric([role], one.rootcoord.snapshots_deleted())
            forgotten.add_metric([role], one.rootcoord.keys_forgotten())
            for outcome, count in one.rootcoord.snapshot_rounds().items():
                rounds.add_metric([role, outcome], count)
    yield from (deleted, forgotten, rounds)


def _cumulated(bounds: Sequence[str], counts: Sequence[int]) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*bounds, "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


# --- Milvus' names ---


def _milvus_metrics(served: Sequence[_Served]) -> Iterator[Metric]:
    nodes = GaugeMetricFamily(
        "milvus_num_node", "number of nodes and coordinates", labels=["node_id", "role_name"]
    )
    for one in served:
        if one.replica.state_code != StateCode.Healthy:
            continue
        nodes.add_metric([str(one.replica.server_id), one.replica.role], 1)
        if one.rootcoord is not None:
            yield from _rootcoord_metrics(one.rootcoord)
            yield from _ddl_metrics(one.dispatcher)
    yield nodes


def _rootcoord_metrics(figures: RootCoordFigures) -> Iterator[Metric]:
    prefix = "milvus_rootcoord_"
    gauges: list[tuple[str, str, float | None]] = [
        ("collection_num", "number of collections", figures.collection_num()),
        ("partition_num", "number of partitions", figures.partition_num()),
        ("credential_num", "number of credentials", figures.credential_num()),
        ("num_of_roles", "The number of roles", figures.role_num()),
        ("proxy_num", "number of proxy nodes managed by rootcoord", figures.proxy_num()),
        ("dml_channel_num", "number of DML channels", figures.dml_channel_num()),
        ("msgstream_obj_num", "number of message streams", figures.dml_channel_num()),  # one for each
        ("timestamp", "latest timestamp allocated in memory", figures.last_timestamp()),
        ("timestamp_saved", "timestamp saved in meta storage", figures.saved_timestamp_s()),
    ]
    for name, text, value in gauges:
        if value is not None:
            yield GaugeMetricFamily(prefix + name, text, value=value)
    allocated = figures.ids_allocated()
    if allocated is not None:
        yield _plain_counter(f"{prefix}id_alloc_count", "count of ID allocated", {(): allocated}, ())
    lags = GaugeMetricFamily(
        f"{prefix}produce_tt_lag_ms", "now time minus tt per physical channel", labels=["channel_name"]
    )
    for channel, lag_ms in sorted(figures.tick_lags_ms().items()):
        lags.add_metric([channel], lag_ms)
    yield lags
    latency = figures.tick_latency()
    if latency is not None:
        yield HistogramMetricFamily(
            f"{prefix}sync_timetick_latency",
            "latency of synchronizing timetick message",
            buckets=_in_milvus_buckets([latency]),
            sum_value=latency.total_s * 1000,
        )
    yield _queue_metric(figures.queue_waits())
    yield from _quota_metrics(figures)


def _queue_metric(waits: Mapping[str, QueueStats]) -> Metric:
    """Of methods that wait for others; those that only look never do."""
    family = HistogramMetricFamily(
        "milvus_rootcoord_ddl_req_latency_in_queue",
        "latency of each DDL operations in queue",
        labels=["function_name"],
    )
    bounds = [f"{bound:g}" for bound in QUEUE_BOUNDS_MS]
    for name, stats in sorted(waits.items()):
        family.add_metric([name], _cumulated(bounds, stats.buckets), stats.total_s * 1000)
    return family


def _quota_metrics(figures: RootCoordFigures) -> Iterator[Metric]:
    prefix = "milvus_rootcoord_"
    states = GaugeMetricFamily(
        f"{prefix}quota_states", "The quota states of cluster", labels=["quota_states"]
    )
    for name, denied in figures.quota_states().items():
        states.add_metric([name], float(denied))
    ratios = GaugeMetricFamily(
        f"{prefix}rate_limit_ratio",
        "share of a collection's rates that is taken away",
        labels=["collection_id"],
    )
    for collection_id, ratio in figures.rate_limit_ratios().items():
        ratios.add_metric([str(collection_id)], ratio)
    delays = GaugeMetricFamily(
        f"{prefix}time_tick_delay", "The max time tick delay of flow graphs", labels=["role_name", "node_id"]
    )
    for (role, node_id), delay_s in figures.node_tick_delays_s().items():
        delays.add_metric([role, str(node_id)], delay_s * 1000)
    yield from (states, ratios, delays)


def _ddl_metrics(dispatcher: Dispatcher) -> Iterator[Metric]:
    functions: dict[str, list[MethodStats]] = {}
    for method in dispatcher.table:
        if _is_ddl(method):
            functions.setdefault(_DDL_NAMES.get(method.name, method.name), []).append(method.stats)
    counts: dict[tuple[str, ...], float] = {}
    latency = HistogramMetricFamily(
        "milvus_rootcoord_ddl_req_latency", "latency of each DDL operations", labels=["function_name"]
    )
    for name, stats in sorted(functions.items()):
        succeeded = sum(one.answered.get(0, 0) for one in stats)
        failed = sum(
            count for one in stats for code, count in one.answered.items() if code not in (0, _NOT_READY)
        )
        counts[name, "total"] = succeeded + failed
        counts[name, "success"] = succeeded
        counts[name, "fail"] = failed
        latency.add_metric([name], _in_milvus_buckets(stats), sum(one.total_s for one in stats) * 1000)
    yield _plain_counter(
        "milvus_rootcoord_ddl_req_count", "count of DDL operations", counts, ("function_name", "status")
    )
    yield latency


def _is_ddl(method: Method) -> bool:
    stats = method.stats
    return method.service == "RootCoord" and method.name not in _NOT_DDL and bool(stats.answered)


def _in_milvus_buckets(stats: Sequence[MethodStats]) -> list[tuple[str, float]]:
    """Milvus' buckets are 1, 2, 4 … ms; ours below 1 ms fall into its first."""
    counts = [sum(column) for column in zip(*(one.buckets for one in stats), strict=True)]
    every = _cumulated([f"{bound:g}" for bound in BUCKETS_MS], counts)
    return [bucket for bucket in every if float(bucket[0]) >= 1]


def _plain_counter(
    name: str, text: str, values: Mapping[tuple[str, ...], float], labels: Sequence[str]
) -> Metric:
    metric = Metric(name, text, "unknown")
    for key, value in values.items():
        metric.add_sample(name, dict(zip(labels, key, strict=True)), value)
    return metric


def _etcd_metrics(etcd: EtcdFigures) -> Iterator[Metric]:
    requests = CounterMetricFamily("coordd_etcd_requests", "requests answered by etcd", labels=["operation"])
    failures = CounterMetricFamily(
        "coordd_etcd_failures", "requests to etcd that failed", labels=["operation"]
    )
    for family, counts in ((requests, etcd.requests()), (failures, etcd.failures())):
        for operation, count in sorted(counts.items()):
            family.add_metric([operation], count)
        yield family
    endpoint = etcd.connected_endpoint()
    connected = GaugeMetricFamily(
        "coordd_etcd_connected", "1 while an endpoint is in use", labels=["endpoint"]
    )
    if endpoint is not None:
        connected.add_metric([endpoint], 1)
    yield connected
