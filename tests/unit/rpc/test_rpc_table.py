"""Dispatch tables from descriptors."""

import pytest

from coordd.pb import common_pb2, data_coord_pb2, query_coord_pb2, root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.stats import BUCKETS_MS, MethodStats
from coordd.rpc.table import DispatchTable, Policy, UnknownHandler, snake_case
from tests.support.rpc import PREFIX, ROOT_COORD, Role

SERVICES = [
    ROOT_COORD,
    data_coord_pb2.DESCRIPTOR.services_by_name["DataCoord"],
    query_coord_pb2.DESCRIPTOR.services_by_name["QueryCoord"],
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DescribeCollectionInternal", "describe_collection_internal"),
        ("AllocID", "alloc_id"),
        ("ShowCollectionIDs", "show_collection_ids"),
        ("RestoreRBAC", "restore_rbac"),
        ("GetPChannelInfo", "get_p_channel_info"),
        ("BackupRBAC", "backup_rbac"),
        ("GetRecoveryInfoV2", "get_recovery_info_v2"),
        ("Import", "import_"),
        ("ReportImport", "report_import"),
    ],
)
def test_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


def test_snake_case_is_unique_within_each_service() -> None:
    for service in SERVICES:
        names = [snake_case(method.name) for method in service.methods]
        assert len(names) == len(set(names))


def test_every_method_is_there_with_its_types_and_policy() -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role())
    assert len(table) == len(ROOT_COORD.methods)
    alloc = table.get(f"{PREFIX}AllocTimestamp")
    assert alloc is not None
    assert alloc.request_type is root_coord_pb2.AllocTimestampRequest
    assert alloc.response_type is root_coord_pb2.AllocTimestampResponse
    assert (alloc.is_async, alloc.policy, alloc.implemented) == (False, Policy.GUARDED, True)
    alloc_id = table.get(f"{PREFIX}AllocID")
    assert alloc_id is not None
    assert alloc_id.is_async
    states = table.get(f"{PREFIX}GetComponentStates")
    assert states is not None
    assert states.policy is Policy.ALWAYS
    metrics = table.get(f"{PREFIX}GetMetrics")
    assert metrics is not None
    assert metrics.policy is Policy.HEALTHY_OR_STANDBY
    assert table.get(f"{PREFIX}NoSuchMethod") is None


def test_a_method_without_handler_is_guarded_whatever_its_name() -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, object())
    states = table.get(f"{PREFIX}GetComponentStates")
    assert states is not None
    assert (states.policy, states.implemented) == (Policy.GUARDED, False)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: str(service.name))
def test_every_response_type_of_every_coordinator_can_carry_a_status(service: object) -> None:
    table = DispatchTable()
    table.add_service(service, object())  # type: ignore[arg-type] - parametrized
    failure = common_pb2.Status(code=10, reason="no")
    for method in table:
        response = method.error_response(failure)
        assert type(response) is method.response_type
        assert method.status_code(response) == 10


def test_status_code_of_answers() -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role())
    alloc = table.get(f"{PREFIX}AllocTimestamp")
    assert alloc is not None
    assert alloc.status_code(root_coord_pb2.AllocTimestampResponse()) == 0
    legacy_only = root_coord_pb2.AllocTimestampResponse(status=common_pb2.Status(error_code=1))
    assert alloc.status_code(legacy_only) == 65535


def test_policies_can_be_chosen_but_not_for_methods_that_do_not_exist() -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role(), policies={"AllocTimestamp": Policy.ALWAYS})
    alloc = table.get(f"{PREFIX}AllocTimestamp")
    assert alloc is not None
    assert alloc.policy is Policy.ALWAYS
    with pytest.raises(UnknownHandler, match="AllocTimestmap"):
        DispatchTable().add_service(ROOT_COORD, Role(), policies={"AllocTimestmap": Policy.ALWAYS})


def test_a_service_is_added_once() -> None:
    table = DispatchTable()
    table.add_service(ROOT_COORD, Role())
    with pytest.raises(UnknownHandler, match="already served"):
        table.add_service(ROOT_COORD, Role())


def test_a_name_that_looks_like_a_handler_is_one() -> None:
    class Handlers:
        def describe_database(
            self, _request: root_coord_pb2.DescribeDatabaseRequest, _call: Call
        ) -> root_coord_pb2.DescribeDatabaseResponse:
            return root_coord_pb2.DescribeDatabaseResponse()

    table = DispatchTable()
    table.add_service(ROOT_COORD, Handlers())
    assert [method.name for method in table if method.implemented] == ["DescribeDatabase"]


def test_latency_buckets_hold_those_of_milvus() -> None:
    assert set(BUCKETS_MS) >= {float(2**power) for power in range(18)}
    assert list(BUCKETS_MS) == sorted(BUCKETS_MS)


def test_stats_count_answers_by_code_and_time_only_the_successful() -> None:
    stats = MethodStats()
    stats.answer(0, 0.003)
    stats.answer(0, 1000.0)
    stats.answer(100, 0.5)
    stats.fail(14)
    assert stats.answered == {0: 2, 100: 1}
    assert stats.failed == {14: 1}
    assert stats.total_s == pytest.approx(1000.003)
    assert stats.buckets[BUCKETS_MS.index(4.0)] == 1
    assert stats.buckets[-1] == 1
    assert sum(stats.buckets) == 2
