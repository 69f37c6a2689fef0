"""What a proxy is told of a collection."""

import pytest
from google.protobuf import json_format

from coordd.pb.common_pb2 import ErrorCode
from coordd.pb.internal_pb2 import RateType
from coordd.rootcoord.quota.ceilings import Kind
from coordd.rootcoord.quota.limits import judge
from coordd.rootcoord.quota.measures import Node
from coordd.rootcoord.quota.request import NO_LIMIT, collection_rate
from coordd.rootcoord.quota.writing import Reason
from tests.unit.rootcoord.quota.support import MIB, measures, settings, whole


def test_each_proxy_gets_its_share_of_each_limit() -> None:
    section = {"enabled": True, "insert": {"collection_max_mb_s": 3}, "delete": {"collection_max_mb_s": 0}}
    limits = whole(judge(measures(Node(7, (445,))), settings(dml=section))).of(445)
    message = collection_rate(445, limits, 4)
    assert message.collection == 445
    assert {RateType.Name(one.rt): one.r for one in message.rates} == {
        "DMLInsert": 3 * MIB / 4,
        "DMLUpsert": NO_LIMIT,
        "DMLDelete": 0,
        "DMLBulkLoad": NO_LIMIT,
        "DQLSearch": NO_LIMIT,
        "DQLQuery": NO_LIMIT,
    }
    assert (list(message.states), list(message.codes)) == ([], [])


def test_no_limit_is_what_go_takes_for_it() -> None:
    assert float(2**1024 - 2**971) == NO_LIMIT  # math.MaxFloat64


def test_denials_are_states_with_their_reasons() -> None:
    sections = {"writing": {"force_deny": True}, "reading": {"force_deny": True}}
    message = collection_rate(1, whole(judge(measures(Node(7, (1,))), settings(**sections))).of(1), 2)
    plain = json_format.MessageToDict(message)
    assert (plain["states"], plain["codes"]) == (["DenyToWrite", "DenyToRead"], ["ForceDeny", "ForceDeny"])
    assert [one.r for one in message.rates] == [0] * 6


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.INSERT, "DMLInsert"),
        (Kind.UPSERT, "DMLUpsert"),
        (Kind.DELETE, "DMLDelete"),
        (Kind.BULK_LOAD, "DMLBulkLoad"),
        (Kind.SEARCH, "DQLSearch"),
        (Kind.QUERY, "DQLQuery"),
    ],
)
def test_kinds_are_those_of_the_wire(kind: Kind, name: str) -> None:
    assert RateType.Value(name) == kind


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        (Reason.FORCE_DENY, "ForceDeny"),
        (Reason.MEMORY, "MemoryQuotaExhausted"),
        (Reason.DISK, "DiskQuotaExhausted"),
        (Reason.TICKS, "TimeTickLongDelay"),
    ],
)
def test_reasons_are_those_of_the_wire(reason: Reason, name: str) -> None:
    assert ErrorCode.Value(name) == reason
