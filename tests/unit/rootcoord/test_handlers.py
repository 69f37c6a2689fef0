"""Answers that no recording has: damaged metadata, missing `base`, kept-back details, health, settings."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.config import load_config
from coordd.etcd import Event
from coordd.etcd.errors import Unavailable
from coordd.pb import common_pb2, internal_pb2, milvus_pb2, root_coord_pb2
from coordd.pb.common_pb2 import ErrorCode, MsgType, StateCode
from coordd.rootcoord import ids, tso
from coordd.rootcoord.configurations import listed
from coordd.rootcoord.handlers import serve
from coordd.rootcoord.hardware import Hardware, read_hardware
from coordd.rootcoord.proxies import ProxyAddress, ProxyUnreachableError
from coordd.rootcoord.system_info import Component, SystemInfo, check_metric_type, go_time
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError
from tests.unit.rootcoord.memory_etcd import Fault
from tests.unit.rootcoord.recorded import LAYOUT, World, etcd_values, world
from tests.unit.rootcoord.term import start_oracle

CALL = Call(method="", metadata={})
META = "by-dev/meta/"
SERVICE = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]


async def ask(place: World, method: str, request: Any, *, deadline: float | None = None) -> Any:
    table = DispatchTable()
    serve(table, place.handlers)
    path = f"/{SERVICE.full_name}/{method}"
    entry = table.get(path)
    assert entry is not None
    raw = await Dispatcher(table, place.gate, cluster="by-dev").dispatch(
        path, request.SerializeToString(), Call(method=path, metadata={}, deadline=deadline)
    )
    return entry.response_type.FromString(raw)


async def describe(place: World, name: str) -> milvus_pb2.DescribeCollectionResponse:
    base = common_pb2.MsgBase(msg_type=MsgType.DescribeCollection)
    request = milvus_pb2.DescribeCollectionRequest(base=base, collection_name=name)
    answer = await ask(place, "DescribeCollection", request)
    assert isinstance(answer, milvus_pb2.DescribeCollectionResponse)
    return answer


async def test_a_list_that_is_given_again_is_made_anew_after_a_change() -> None:
    place = await world()
    base = common_pb2.MsgBase(msg_type=MsgType.ShowCollections)
    lists = []
    for dropped in (False, False, True):
        if dropped:
            row = place.tables.collections.get(collection_id(place, "all_types"))
            assert row is not None
            event = Event(LAYOUT.collection(1, row.collection_id), None, place.fold.revision + 1, 0, 0, 0)
            place.fold.apply_commit(event.mod_revision, [event])
        answer = await ask(place, "ShowCollections", milvus_pb2.ShowCollectionsRequest(base=base))
        assert isinstance(answer, milvus_pb2.ShowCollectionsResponse)
        lists.append(list(answer.collection_names))
    assert lists[0] == lists[1]
    assert set(lists[1]) - set(lists[2]) == {"all_types"}


async def test_who_learns_of_a_collection_is_noted() -> None:
    """What a proxy keeps it has from these two."""
    place = await world()
    seen: list[bool] = []
    for method, request in (
        ("DescribeCollection", milvus_pb2.DescribeCollectionRequest(collection_name="all_types")),
        ("ShowPartitions", milvus_pb2.ShowPartitionsRequest(collection_name="all_types")),
    ):
        request.base.msg_type = MsgType.Value(method)
        look = place.looks.watch(collection_id(place, "all_types"))
        other = place.looks.watch(collection_id(place, "partitioned"))
        await ask(place, method, request)
        seen += [look.seen, other.seen]
        look.end()
        other.end()
        await ask(place, method, request)
    assert seen == [True, False] * 2


def collection_id(place: World, name: str) -> int:
    row = place.tables.collections.find(1, name)
    assert row is not None
    return row.collection_id


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        ("DescribeCollection", milvus_pb2.DescribeCollectionRequest(), "DescribeCollection"),
        ("DescribeCollectionInternal", milvus_pb2.DescribeCollectionRequest(), "DescribeCollection"),
        ("ShowCollections", milvus_pb2.ShowCollectionsRequest(), "ShowCollections"),
        ("HasCollection", milvus_pb2.HasCollectionRequest(), "HasCollection"),
        ("ShowPartitions", milvus_pb2.ShowPartitionsRequest(), "ShowPartitions"),
        ("ShowPartitionsInternal", milvus_pb2.ShowPartitionsRequest(), "ShowPartitions"),
        ("HasPartition", milvus_pb2.HasPartitionRequest(), "HasPartition"),
    ],
)
async def test_a_request_without_base_is_refused_not_fatal(method: str, request_: Any, expected: str) -> None:
    answer = await ask(await world(), method, request_)
    assert answer.status.reason == f"invalid msg type, expect {expected}, but got Undefined"
    assert (answer.status.code, answer.status.error_code) == (65535, ErrorCode.UnexpectedError)


async def test_an_unknown_message_type_is_named_by_its_number() -> None:
    request = milvus_pb2.HasCollectionRequest(base=common_pb2.MsgBase(msg_type=31_337))  # type: ignore[arg-type]
    answer = await ask(await world(), "HasCollection", request)
    assert answer.status.reason == "invalid msg type, expect HasCollection, but got 31337"


async def test_a_damaged_field_refuses_its_collection_and_no_other() -> None:
    place = await world()
    damaged = collection_id(place, "all_types")
    values = etcd_values()
    values[f"{META}root-coord/fields/{damaged}/100"] = b"\xff\xff\xff"
    place = await world(values)
    bad, good = await describe(place, "all_types"), await describe(place, "partitioned")
    assert bad.status.code == 65535
    assert f"root-coord/fields/{damaged}/100" in bad.status.reason
    assert not bad.HasField("schema")
    assert good.status.code == 0


async def test_a_damaged_user_cannot_log_in_and_is_not_unknown_either() -> None:
    values = etcd_values()
    values[f"{META}root-coord/credential/users/alice"] = b"{"
    place = await world(values)
    answer = await ask(place, "GetCredential", root_coord_pb2.GetCredentialRequest(username="alice"))
    assert (answer.status.code, answer.status.error_code) == (65535, ErrorCode.GetCredentialFailure)
    assert answer.password == ""
    selected = await ask(
        place, "SelectUser", milvus_pb2.SelectUserRequest(user=milvus_pb2.UserEntity(name="alice"))
    )
    assert selected.status.error_code == ErrorCode.SelectUserFailure


async def test_an_old_grant_without_a_database_counts_for_the_default_one() -> None:
    values = etcd_values()
    values[f"{META}root-coord/credential/grantee-privileges/reader/Collection/old_one"] = b"00ff00ff00ff00ff"
    values[f"{META}root-coord/credential/grantee-id/00ff00ff00ff00ff/PrivilegeQuery"] = b"root"
    place = await world(values)
    entity = milvus_pb2.GrantEntity(
        role=milvus_pb2.RoleEntity(name="reader"),
        object=milvus_pb2.ObjectEntity(name="Collection"),
        object_name="old_one",
    )
    answer = await ask(place, "SelectGrant", milvus_pb2.SelectGrantRequest(entity=entity))
    [found] = answer.entities
    assert (found.db_name, found.object_name, found.grantor.privilege.name) == ("default", "old_one", "Query")


async def test_legacy_metadata_is_shown_in_the_default_database() -> None:
    place = await world()
    modern = collection_id(place, "partitioned")
    values = etcd_values()
    values[f"{META}root-coord/collection/{modern}"] = values.pop(
        f"{META}root-coord/database/collection-info/1/{modern}"
    )
    place = await world(values)
    base = common_pb2.MsgBase(msg_type=MsgType.DescribeCollection)
    answer = await ask(
        place,
        "DescribeCollection",
        milvus_pb2.DescribeCollectionRequest(base=base, collection_name="partitioned"),
    )
    assert answer.collectionID == modern
    assert len(answer.schema.fields) >= 3


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=tso.MAX_COUNT + 1)),
        ("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=(1 << 32) - 1)),
    ],
)
async def test_a_block_beyond_the_logical_part_is_refused(method: str, request_: Any) -> None:
    place = await world({})
    async with start_oracle(place):
        answer = await ask(place, method, request_)
    assert answer.status.reason == "can not get timestamp"
    assert answer.timestamp == 0


async def test_the_largest_blocks_are_served() -> None:
    place = await world({})
    stamps = root_coord_pb2.AllocTimestampRequest(count=tso.MAX_COUNT)
    blocks = root_coord_pb2.AllocIDRequest(count=ids.MAX_COUNT)
    async with start_oracle(place):
        stamp = await ask(place, "AllocTimestamp", stamps, deadline=boottime() + 5)
        block = await ask(place, "AllocID", blocks, deadline=boottime() + 5)
    assert (stamp.status.code, stamp.count) == (0, tso.MAX_COUNT)
    assert (block.status.code, block.count) == (0, ids.MAX_COUNT)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AllocTimestamp", root_coord_pb2.AllocTimestampRequest(count=1)),
        ("AllocID", root_coord_pb2.AllocIDRequest(count=1)),
    ],
)
async def test_after_the_term_the_caller_is_sent_elsewhere(method: str, request_: Any) -> None:
    place = await world({})
    async with start_oracle(place) as oracle:
        oracle.close()
        with pytest.raises(RpcFailure) as refused:
            await ask(place, method, request_)
    assert refused.value.code is RpcCode.UNAVAILABLE


async def test_a_block_that_cannot_be_had_in_time_is_milvus_error() -> None:
    place = await world({})
    async with start_oracle(place):
        place.etcd.faults.extend(Fault(before=Unavailable("down")) for _ in range(10_000))
        request = root_coord_pb2.AllocIDRequest(count=ids.MAX_COUNT)
        answer = await ask(place, "AllocID", request, deadline=boottime() + 0.2)
    assert (answer.status.code, answer.status.reason) == (65535, "can not get timestamp")


class Proxies:
    """Proxy 6 is healthy, 7 abnormal, 8 does not answer, 9 hangs."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def component_states(self, proxy: ProxyAddress, timeout_s: float) -> milvus_pb2.ComponentStates:
        self.asked.append(proxy.server_id)
        if proxy.server_id == 8:
            raise ProxyUnreachableError("rpc error: code = UNAVAILABLE desc = refused")
        if proxy.server_id == 9:
            await asyncio.sleep(timeout_s)
            raise ProxyUnreachableError("rpc error: code = DEADLINE_EXCEEDED desc = late")
        state = StateCode.Healthy if proxy.server_id == 6 else StateCode.Abnormal
        info = milvus_pb2.ComponentInfo(nodeID=proxy.server_id, role="proxy", state_code=state)
        return milvus_pb2.ComponentStates(state=info, status=common_pb2.Status())


def session(server_id: int) -> bytes:
    return json.dumps(
        {
            "ServerID": server_id,
            "ServerName": "proxy",
            "Address": f"127.0.0.1:{server_id}",
            "Version": "2.3.5",
        }
    ).encode()


async def test_health_is_that_of_all_proxies() -> None:
    proxies = Proxies()
    values = {f"{META}session/proxy-{number}": session(number) for number in (6, 7, 8, 9)}
    values[f"{META}session/proxy-5"] = b"not a session"
    values[f"{META}session/querynode-4"] = session(4)
    place = await world(values, proxies=proxies)
    answer = await ask(place, "CheckHealth", milvus_pb2.CheckHealthRequest(), deadline=boottime() + 0.6)
    assert (answer.status.code, answer.isHealthy) == (0, False)
    assert list(answer.reasons) == [
        "service not ready[Proxy=7]: Abnormal",
        "rpc error: code = UNAVAILABLE desc = refused",
        "rpc error: code = DEADLINE_EXCEEDED desc = late",
    ]
    assert sorted(proxies.asked) == [6, 7, 8, 9]


async def test_a_cluster_without_proxies_is_healthy() -> None:
    answer = await ask(await world({}), "CheckHealth", milvus_pb2.CheckHealthRequest())
    assert answer.isHealthy
    assert list(answer.reasons) == []


async def test_not_ready_says_so_in_the_reasons_too() -> None:
    place = await world({})
    place.gate.change(state_code=StateCode.StandBy)
    answer = await ask(place, "CheckHealth", milvus_pb2.CheckHealthRequest())
    assert list(answer.reasons) == ["serverID=4: service not ready[rootcoord=4]: StandBy"]


async def test_a_standby_tells_its_state_channels_and_metrics() -> None:
    place = await world({})
    place.gate.change(state_code=StateCode.StandBy)
    states = await ask(place, "GetComponentStates", milvus_pb2.GetComponentStatesRequest())
    assert states.state.state_code == StateCode.StandBy
    metrics = await ask(
        place, "GetMetrics", milvus_pb2.GetMetricsRequest(request='{"metric_type":"system_info"}')
    )
    assert metrics.component_name == "rootcoord4"
    assert (await ask(place, "ShowSegments", milvus_pb2.ShowSegmentsRequest())).status.code == 0
    channel = await ask(place, "GetTimeTickChannel", internal_pb2.GetTimeTickChannelRequest())
    assert channel.value == "by-dev-rootcoord-timetick"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "failed to decode the request: not a JSON object but list"),
        ('{"metric_type"', "failed to decode the request: unexpected end of JSON input"),
        ('{"metric_type": nope}', "failed to decode the request: invalid JSON at offset 16: Expecting value"),
        ('{"metric_type": 7}', "metric not found[metric=7]"),
    ],
)
def test_bad_metric_requests(text: str, reason: str) -> None:
    with pytest.raises(MilvusError) as caught:
        check_metric_type(text)
    assert caught.value.message == reason


def test_the_machine_is_read_at_most_each_five_seconds() -> None:
    readings: list[Hardware] = []

    def read() -> Hardware:
        readings.append(Hardware(2, 0.5, 1000, 10))
        return readings[-1]

    info = SystemInfo(read)
    component = Component("rootcoord", 4, "127.0.0.1:53100", "0.1.0", "2.3.5", 0, 1024)
    first = info.json(component)
    assert info.json(component) == first
    assert len(readings) == 1
    other = Component("rootcoord", 5, "127.0.0.1:53100", "0.1.0", "2.3.5", 0, 1024)
    assert json.loads(info.json(other))["self"]["id"] == 5


def test_a_container_limit_is_the_memory(tmp_path: Path) -> None:
    unlimited = read_hardware(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert read_hardware(tmp_path).memory == unlimited.memory
    (tmp_path / "memory.max").write_text("1048576\n")
    assert read_hardware(tmp_path).memory == 1048576
    assert unlimited.memory_used > 0


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (1_700_000_000_000_000_000, "2023-11-14 22:13:20 +0000 UTC"),
        (1_700_000_000_120_000_000, "2023-11-14 22:13:20.12 +0000 UTC"),
        (1_700_000_000_000_000_001, "2023-11-14 22:13:20.000000001 +0000 UTC"),
    ],
)
def test_times_are_printed_as_go_does(unix_ns: int, text: str) -> None:
    assert go_time(unix_ns) == text


def test_settings_are_listed_under_milvus_names(tmp_path: Path) -> None:
    (tmp_path / "milvus.yaml").write_text(
        "rootCoord:\n  maxPartitionNum: 77\ncommon:\n  nested: {deep: {keyOne: [a, b]}}\nproxy: {port: 1}\n"
    )
    loaded = load_config(tmp_path, env={"ETCD_ROOT_PATH": "elsewhere", "ROOT_COORD_PORT": "53101"})
    found = listed(loaded.items, loaded.spellings, role="rootcoord", pattern="", metrics_port=9091)
    assert found["rootcoord.maxpartitionnum"] == "77"
    assert found["common.nested.deep.keyone"] == found["commonnesteddeepkeyone"] == "a,b"
    assert found["etcdrootpath"] == "elsewhere"
    assert found["commonmetricsport"] == "9091"
    assert not any(name.startswith(("proxy", "rootcoordm", "rootcoordp")) for name in found)
    only = listed(loaded.items, loaded.spellings, role="rootcoord", pattern="NESTED.deep", metrics_port=9091)
    assert list(only) == ["common.nested.deep.keyone"]
