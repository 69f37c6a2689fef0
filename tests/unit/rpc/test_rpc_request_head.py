"""What the headers of a request mean, and which cannot be answered."""

import pytest

from coordd.rpc.failure import RpcCode
from coordd.rpc.request_head import NotAnswerable, RequestHead, read_head

PATH = "/milvus.proto.rootcoord.RootCoord/AllocTimestamp"
GO = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", PATH),
    (":authority", "127.0.0.1:53100"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-go/1.54.0"),
    ("te", "trailers"),
    ("grpc-timeout", "10S"),
    ("grpc-accept-encoding", "zstd"),
    ("cluster", "by-dev"),
    ("serverid", "4"),
]


def without(name: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The request of a Go client, one header replaced."""
    return [*(field for field in GO if field[0] != name), *more]


def test_the_request_of_a_go_client() -> None:
    own = {"user-agent": "grpc-go/1.54.0", "cluster": "by-dev", "serverid": "4"}
    assert read_head(GO) == RequestHead(PATH, own, 10.0, "identity")


def test_no_time_out_is_none() -> None:
    assert read_head(without("grpc-timeout")).timeout_s is None


def test_of_a_repeated_header_the_first_counts() -> None:
    assert read_head([*GO, ("serverid", "5"), ("serverid", "6")]).metadata["serverid"] == "4"


@pytest.mark.parametrize(
    "name", ["grpc-trace-bin", "grpc-encoding", "grpc-tags", "token-bin", "host", "content-length"]
)
def test_what_is_not_the_callers_own_is_left_out(name: str) -> None:
    assert name not in read_head([*GO, (name, "1")]).metadata


def test_how_messages_are_compressed() -> None:
    assert read_head([*GO, ("grpc-encoding", "gzip")]).encoding == "gzip"


@pytest.mark.parametrize("value", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_content_types_of_grpc(value: str) -> None:
    assert read_head(without("content-type", ("content-type", value))).path == PATH


@pytest.mark.parametrize(
    ("headers", "http_status", "code", "text"),
    [
        (without(":method", (":method", "GET")), 405, RpcCode.INTERNAL, "GET"),
        (without(":method"), 405, RpcCode.INTERNAL, "missing"),
        (
            without("content-type", ("content-type", "text/html")),
            415,
            RpcCode.INVALID_ARGUMENT,
            "text/html",
        ),
        (
            without("content-type", ("content-type", "application/grpc-web")),
            415,
            RpcCode.INVALID_ARGUMENT,
            "application/grpc-web",
        ),
        (without("content-type"), 415, RpcCode.INVALID_ARGUMENT, "missing"),
        (without(":path"), 400, RpcCode.INTERNAL, "nothing is not the path"),
        (without(":path", (":path", "*")), 400, RpcCode.INTERNAL, r"\* is not the path"),
        (without("grpc-timeout", ("grpc-timeout", "soon")), 400, RpcCode.INTERNAL, "grpc-timeout"),
        ([], 405, RpcCode.INTERNAL, "missing"),
    ],
)
def test_what_cannot_be_answered(
    headers: list[tuple[str, str]], http_status: int, code: RpcCode, text: str
) -> None:
    with pytest.raises(NotAnswerable, match=text) as caught:
        read_head(headers)
    assert (caught.value.http_status, caught.value.code) == (http_status, code)
