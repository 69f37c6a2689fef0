"""Metrics from state, as Prometheus would parse them."""

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordd.ha.election_events import TermCause
from coordd.ha.history import TermEnd, TermRecord
from coordd.management.metrics import Metrics
from coordd.pb import root_coord_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcFailure
from coordd.rpc.stats import MethodStats, QueueStats
from coordd.rpc.status import CollectionNotFound
from tests.support.management import FakeView, standby
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role


class Figures:
    """RootCoord with known numbers, and one that it does not know."""

    def collection_num(self) -> int:
        return 12

    def partition_num(self) -> int:
        return 34

    def credential_num(self) -> int:
        return 2

    def role_num(self) -> int:
        return 5

    def proxy_num(self) -> int | None:
        return None

    def last_timestamp(self) -> int:
        return 447_000_000_000_000_001

    def saved_timestamp_s(self) -> float:
        return 1_700_000_003.5

    def ids_allocated(self) -> int:
        return 200_000

    def dml_channel_num(self) -> int:
        return 16

    def queue_waits(self) -> dict[str, QueueStats]:
        waits = QueueStats()
        waits.turn(0.0)
        waits.turn(0.0021)
        return {"DropCollection": waits}

    def tick_lags_ms(self) -> dict[str, float]:
        return {"by-dev-rootcoord-dml_0": 207.0}

    def tick_latency(self) -> MethodStats:
        latency = MethodStats()
        latency.answer(0, 0.0031)
        return latency

    def quota_states(self) -> dict[str, bool]:
        return {"MemoryQuotaExhausted": True, "DiskQuotaExhausted": False}

    def rate_limit_ratios(self) -> dict[int, float]:
        return {445: 0.25}

    def node_tick_delays_s(self) -> dict[tuple[str, int], float]:
        return {("datanode", 7): 1.5}

    def snapshots_deleted(self) -> int:
        return 70

    def keys_forgotten(self) -> int:
        return 6

    def snapshot_rounds(self) -> dict[str, int]:
        return {"done": 3, "failed": 1}


class Etcd:
    """An etcd client that has done something."""

    def requests(self) -> dict[str, int]:
        return {"txn": 7, "range": 3}

    def failures(self) -> dict[str, int]:
        return {"txn": 1}

    def connected_endpoint(self) -> str | None:
        return "127.0.0.1:2379"


def scraped(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scraped(metrics).get((name, frozenset(labels.items())))


def names(metrics: Metrics) -> set[str]:
    return {name for name, _ in scraped(metrics)}


class Scene:
    """A replica, its role and what is counted of them."""

    def __init__(self, view: FakeView) -> None:
        self.view = view
        self.gate = FakeGate()
        self.role = Role()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        self.dispatcher = Dispatcher(table, self.gate, cluster="by-dev")
        self.metrics = Metrics(version="0.1.0", milvus_version="2.3.5")
        self.metrics.add_replica(view, self.dispatcher, Figures())

    async def call(self, name: str, body: bytes = b"") -> None:
        await self.dispatcher.dispatch(PREFIX + name, body, Call(PREFIX + name, {}))


@pytest.fixture
async def scene() -> Scene:
    return Scene(FakeView())


async def test_replica_gauges(scene: Scene) -> None:
    metrics = scene.metrics
    assert value(metrics, "coordd_state", role="rootcoord", state="active") == 1
    assert value(metrics, "coordd_state", role="rootcoord", state="standby") == 0
    assert value(metrics, "coordd_epoch", role="rootcoord") == 77
    assert value(metrics, "coordd_server_id", role="rootcoord") == 4
    assert value(metrics, "coordd_guard_remaining_seconds", role="rootcoord") == 1.5
    assert value(metrics, "coordd_follower_revision", role="rootcoord") == 1000
    assert value(metrics, "coordd_follower_revision_lag", role="rootcoord") == 2
    assert value(metrics, "coordd_follower_synced", role="rootcoord") == 1
    assert value(metrics, "coordd_quarantined_keys", role="rootcoord") == 1
    assert value(metrics, "coordd_quarantined_values_total", role="rootcoord") == 3
    assert value(metrics, "coordd_takeover_phase_seconds", role="rootcoord", phase="fence") == 0.004
    assert value(metrics, "coordd_build_info", version="0.1.0", milvus_version="2.3.5") == 1


async def test_deleted_history_is_counted_for_a_standby_too() -> None:
    for view in (FakeView(), standby()):
        metrics = Scene(view).metrics
        assert value(metrics, "coordd_snapshots_deleted_total", role="rootcoord") == 70
        assert value(metrics, "coordd_keys_forgotten_total", role="rootcoord") == 6
        assert value(metrics, "coordd_snapshot_rounds_total", role="rootcoord", outcome="done") == 3
        assert value(metrics, "coordd_snapshot_rounds_total", role="rootcoord", outcome="failed") == 1


async def test_terms_are_counted_from_zero_by_cause_and_by_end(scene: Scene) -> None:
    metrics, log = scene.metrics, scene.view.term_log
    assert value(metrics, "coordd_terms_total", role="rootcoord", cause="crash") == 0
    assert value(metrics, "coordd_term_ends_total", role="rootcoord", end="handed over") == 0
    lengths = {"detect": 0.4, "fence": 3.0}
    record = TermRecord("rootcoord", 77, 4, "a:1", "h", TermCause.CRASH, 3, 1000, lengths)
    log.began(record)
    log.ended(record.ended(TermEnd.HANDED_OVER, 2000))
    assert value(metrics, "coordd_terms_total", role="rootcoord", cause="crash") == 1
    assert value(metrics, "coordd_terms_total", role="rootcoord", cause="silence") == 0
    assert value(metrics, "coordd_term_ends_total", role="rootcoord", end="handed over") == 1


async def test_phases_of_take_overs_are_a_histogram(scene: Scene) -> None:
    metrics, log = scene.metrics, scene.view.term_log
    for epoch, fence_ms in ((77, 3.0), (90, 2000.0)):
        lengths = {"detect": 0.4, "fence": fence_ms}
        log.began(TermRecord("rootcoord", epoch, 4, "a:1", "h", TermCause.CRASH, 3, 1000, lengths))
    name, labels = "coordd_term_phase_seconds", {"role": "rootcoord", "phase": "fence"}
    assert value(metrics, f"{name}_bucket", le="0.0025", **labels) == 0
    assert value(metrics, f"{name}_bucket", le="0.005", **labels) == 1
    assert value(metrics, f"{name}_bucket", le="+Inf", **labels) == 2
    assert value(metrics, f"{name}_sum", **labels) == 2.003
    assert value(metrics, f"{name}_bucket", role="rootcoord", phase="detect", le="0.001") == 2
    assert value(metrics, f"{name}_count", role="rootcoord", phase="serve") is None


async def test_gauges_are_read_at_the_scrape(scene: Scene) -> None:
    scene.view.epoch = 78
    scene.view.state = "standby"
    assert value(scene.metrics, "coordd_epoch", role="rootcoord") == 78
    assert value(scene.metrics, "coordd_state", role="rootcoord", state="standby") == 1
    assert value(scene.metrics, "coordd_state", role="rootcoord", state="active") == 0


async def test_an_unknown_lag_is_not_shown_as_none(scene: Scene) -> None:
    scene.view.revision_lag = None
    assert "coordd_follower_revision_lag" not in names(scene.metrics)


async def test_milvus_gauges_of_the_active_replica(scene: Scene) -> None:
    metrics = scene.metrics
    assert value(metrics, "milvus_rootcoord_collection_num") == 12
    assert value(metrics, "milvus_rootcoord_partition_num") == 34
    assert value(metrics, "milvus_rootcoord_credential_num") == 2
    assert value(metrics, "milvus_rootcoord_num_of_roles") == 5
    assert value(metrics, "milvus_rootcoord_timestamp") == float(447_000_000_000_000_001)
    assert value(metrics, "milvus_rootcoord_timestamp_saved") == 1_700_000_003.5
    assert value(metrics, "milvus_rootcoord_id_alloc_count") == 200_000
    assert value(metrics, "milvus_rootcoord_dml_channel_num") == 16
    assert value(metrics, "milvus_rootcoord_msgstream_obj_num") == 16
    queued = "milvus_rootcoord_ddl_req_latency_in_queue"
    bounds = [
        value(metrics, f"{queued}_bucket", function_name="DropCollection", le=bound)
        for bound in ("0.005", "1", "2.5", "10", "+Inf")
    ]
    assert bounds == [1, 1, 2, 2, 2]
    assert value(metrics, f"{queued}_sum", function_name="DropCollection") == pytest.approx(2.1)
    lag = value(metrics, "milvus_rootcoord_produce_tt_lag_ms", channel_name="by-dev-rootcoord-dml_0")
    assert lag == 207
    latency = "milvus_rootcoord_sync_timetick_latency"
    assert [value(metrics, f"{latency}_bucket", le=bound) for bound in ("2", "4", "+Inf")] == [0, 1, 1]
    assert value(metrics, f"{latency}_sum") == pytest.approx(3.1)
    states = ("MemoryQuotaExhausted", "DiskQuotaExhausted")
    assert [value(metrics, "milvus_rootcoord_quota_states", quota_states=one) for one in states] == [1, 0]
    assert value(metrics, "milvus_rootcoord_rate_limit_ratio", collection_id="445") == 0.25
    delay = value(metrics, "milvus_rootcoord_time_tick_delay", role_name="datanode", node_id="7")
    assert delay == 1500
    assert value(metrics, "milvus_num_node", node_id="4", role_name="rootcoord") == 1
    assert "milvus_rootcoord_proxy_num" not in names(metrics)


async def test_a_standby_shows_no_milvus_numbers() -> None:
    scene = Scene(standby())
    await scene.call("AllocTimestamp")
    assert not [name for name in names(scene.metrics) if name.startswith("milvus_")]


async def test_ddl_metrics_count_as_milvus_does(scene: Scene) -> None:
    async def counted(function: str, status: str) -> float | None:
        return value(scene.metrics, "milvus_rootcoord_ddl_req_count", function_name=function, status=status)

    await scene.call("CreateCollection")  # not implemented: a failure
    await scene.call("AllocTimestamp")
    for status, expected in (("total", 1), ("success", 0), ("fail", 1)):
        assert await counted("CreateCollection", status) == expected
    assert await counted("DropCollection", "total") is None
    assert await counted("AllocTimestamp", "total") is None


async def test_internal_variants_count_under_the_name_that_milvus_uses(scene: Scene) -> None:
    await scene.call("ShowPartitions")
    await scene.call("ShowPartitionsInternal")
    await scene.call("ListPolicy")
    count = "milvus_rootcoord_ddl_req_count"
    assert value(scene.metrics, count, function_name="ShowPartitions", status="total") == 2
    assert value(scene.metrics, count, function_name="PolicyList", status="total") == 1


async def test_not_ready_answers_are_no_ddl(scene: Scene) -> None:
    scene.gate.change(state_code=StateCode.Initializing)
    await scene.call("CreateCollection")
    count = "milvus_rootcoord_ddl_req_count"
    assert value(scene.metrics, count, function_name="CreateCollection", status="total") == 0


async def test_ddl_latency_has_the_buckets_of_milvus(scene: Scene) -> None:
    method = scene.dispatcher.table.get(f"{PREFIX}DescribeCollection")
    assert method is not None
    method.stats.answer(0, 0.0002)
    method.stats.answer(0, 0.003)
    method.stats.answer(0, 500.0)
    found = {
        dict(labels)["le"]: count
        for (name, labels), count in scraped(scene.metrics).items()
        if name == "milvus_rootcoord_ddl_req_latency_bucket"
    }
    assert [float(bound) for bound in found] == [*(2.0**power for power in range(18)), float("inf")]
    assert (found["1"], found["2"], found["4"], found["131072"], found["+Inf"]) == (1, 1, 2, 2, 3)
    latency = "milvus_rootcoord_ddl_req_latency"
    assert value(scene.metrics, f"{latency}_count", function_name="DescribeCollection") == 3
    total = value(scene.metrics, f"{latency}_sum", function_name="DescribeCollection")
    assert total == pytest.approx(500_003.2)


async def test_rpc_metrics(scene: Scene) -> None:
    await scene.call("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1).SerializeToString())
    scene.role.error = CollectionNotFound(collection="x")
    await scene.call("AllocTimestamp")
    scene.role.error = ValueError("bug")
    await scene.call("AllocTimestamp")
    with pytest.raises(RpcFailure):
        await scene.call("AllocTimestamp", b"\xff")
    where = {"role": "rootcoord", "service": "RootCoord", "method": "AllocTimestamp"}
    calls = "coordd_rpc_calls_total"
    assert value(scene.metrics, calls, **where, grpc_code="OK", status_code="0") == 1
    assert value(scene.metrics, calls, **where, grpc_code="OK", status_code="100") == 1
    assert value(scene.metrics, calls, **where, grpc_code="OK", status_code="65535") == 1
    assert value(scene.metrics, calls, **where, grpc_code="INTERNAL", status_code="") == 1
    assert value(scene.metrics, "coordd_rpc_bugs_total", **where) == 1
    assert value(scene.metrics, "coordd_rpc_seconds_count", **where) == 1
    assert value(scene.metrics, "coordd_rpc_seconds_bucket", **where, le="+Inf") == 1
    assert value(scene.metrics, "coordd_rpc_in_flight", role="rootcoord") == 0


async def test_methods_never_called_take_no_room(scene: Scene) -> None:
    assert "coordd_rpc_calls_total" not in names(scene.metrics)
    assert "coordd_rpc_seconds_bucket" not in names(scene.metrics)


async def test_etcd_metrics(scene: Scene) -> None:
    scene.metrics.set_etcd(Etcd())
    assert value(scene.metrics, "coordd_etcd_requests_total", operation="txn") == 7
    assert value(scene.metrics, "coordd_etcd_failures_total", operation="txn") == 1
    assert value(scene.metrics, "coordd_etcd_connected", endpoint="127.0.0.1:2379") == 1


async def test_several_roles_in_one_process(scene: Scene) -> None:
    other = Scene(standby("datacoord"))
    scene.metrics.add_replica(other.view, other.dispatcher)
    assert value(scene.metrics, "coordd_state", role="datacoord", state="standby") == 1
    assert value(scene.metrics, "coordd_state", role="rootcoord", state="active") == 1


def every_line(text: bytes) -> Iterator[Any]:
    return (sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples)


def test_default_metrics_are_of_the_process() -> None:
    text = Metrics(version="0.1.0", milvus_version="2.3.5").default_text()
    found = {sample.name for sample in every_line(text)}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "python_info"} <= found
    assert not [name for name in found if name.startswith("coordd_")]


def test_two_processes_in_one_interpreter_share_nothing() -> None:
    first = Metrics(version="a", milvus_version="x")
    second = Metrics(version="b", milvus_version="x")
    assert b'version="a"' in first.text()
    assert b'version="a"' not in second.text()
