"""Milvus' error codes on the wire; expected texts as a real 2.3.5 sends them."""

import pytest

from coordd.pb import common_pb2
from coordd.rpc import status

Code = common_pb2.ErrorCode


def test_not_ready_is_what_milvus_answers_in_standby() -> None:
    wire = status.not_ready("rootcoord", 4, common_pb2.StateCode.StandBy).to_status()
    text = "service not ready[rootcoord=4]: StandBy"
    assert wire == common_pb2.Status(
        code=1, error_code=Code.NotReadyServe, reason=text, detail=text, retriable=True
    )


def test_not_ready_names_a_state_it_does_not_know_by_number() -> None:
    assert "[datacoord=9]: 77" in status.not_ready("datacoord", 9, 77).message


@pytest.mark.parametrize(
    ("error", "text", "code", "legacy"),
    [
        (
            status.CollectionNotFound(database="default", collection="x"),
            "collection not found[database=default][collection=x]",
            100,
            Code.CollectionNotExists,
        ),
        (status.ParameterInvalid("no name"), "invalid parameter: no name", 1100, Code.IllegalArgument),
        (status.NodeNotMatch(expectedNodeID=3, actualNodeID=4),
         "node not match[expectedNodeID=3][actualNodeID=4]", 904, Code.NodeIDNotMatch),
        (status.PartitionNotFound(partition="p"), "partition not found[partition=p]", 200, Code.MetaFailed),
        (status.MetricNotFound(metric="m"), "metric not found[metric=m]", 1200, Code.UnexpectedError),
        (status.MilvusError("anything"), "anything", 65535, Code.UnexpectedError),
    ],
)  # fmt: skip
def test_codes_and_texts(error: status.MilvusError, text: str, code: int, legacy: int) -> None:
    assert error.to_status() == common_pb2.Status(
        code=code, error_code=legacy, reason=text, detail=text, retriable=False
    )
    assert str(error) == text


def test_wrapped_error_is_not_retriable_and_its_reason_is_the_innermost_wrapper() -> None:
    wire = status.ServiceNotReady("x", rootcoord=1).wrap("inner").wrap("outer").to_status()
    assert wire.reason == "inner: service not ready[rootcoord=1]: x"
    assert wire.detail == "outer: inner: service not ready[rootcoord=1]: x"
    assert wire.code == 1
    assert not wire.retriable


def test_plain_status_has_neither_detail_nor_retriable() -> None:
    error = status.ServiceUnavailable("etcd", legacy=Code.SelectRoleFailure, plain=True)
    assert error.to_status() == common_pb2.Status(
        code=2, error_code=Code.SelectRoleFailure, reason="service unavailable: etcd"
    )


def test_legacy_code_can_be_replaced() -> None:
    wire = status.IoKeyNotFound(key="k", legacy=Code.GetCredentialFailure).to_status()
    assert (wire.code, wire.error_code, wire.detail) == (
        1000,
        Code.GetCredentialFailure,
        "key not found[key=k]",
    )


def test_not_implemented_is_not_retried_by_milvus_clients() -> None:
    wire = status.not_implemented("RootCoord", "CreateCollection").to_status()
    assert wire.reason == "coordd: RootCoord.CreateCollection is not implemented yet"
    assert (wire.code, wire.error_code, wire.retriable) == (10, Code.UnexpectedError, False)


def test_values_are_written_as_go_writes_them() -> None:
    assert status.ParameterInvalid(flag=True, ids=[1, 2]).message == "invalid parameter[flag=true][ids=[1 2]]"


def test_success_has_every_field_at_its_default() -> None:
    assert status.success() == common_pb2.Status()
    assert status.is_success(status.success("note"))
    assert not status.is_success(common_pb2.Status(error_code=Code.UnexpectedError))
    assert not status.is_success(common_pb2.Status(code=1))


def test_every_code_is_used_once() -> None:
    codes = [error.code for error in status.MilvusError.__subclasses__()]
    assert len(codes) == len(set(codes))
    assert status.MilvusError.code not in codes
