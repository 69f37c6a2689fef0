"""The header blocks of answers, as a client reads them."""

import pytest

from coordd.http2.hpack import Decoder
from coordd.http2.status import decode_message
from coordd.rpc import replies
from coordd.rpc.failure import RpcCode


def read(block: bytes) -> dict[str, str]:
    return dict(Decoder(max_header_bytes=8 << 10).decode(block))


def test_a_success() -> None:
    assert read(replies.HEADERS) == {":status": "200", "content-type": "application/grpc"}
    assert read(replies.TRAILERS) == {"grpc-status": "0"}


@pytest.mark.parametrize(
    "text", ["node not match[expectedNodeID=77]", "100 %\n", "größer als 512 MiB: 数据", ""]
)
def test_the_text_of_a_failure_arrives_as_it_was(text: str) -> None:
    fields = read(replies.failure(RpcCode.UNKNOWN, text))
    assert (fields[":status"], fields["grpc-status"]) == ("200", "2")
    assert decode_message(fields["grpc-message"]) == text


@pytest.mark.parametrize("letter", ["x", "%", "ü", "数", "\U0001f600", "\ud800"])
def test_a_long_text_is_cut_to_what_clients_take(letter: str) -> None:
    text = decode_message(read(replies.failure(RpcCode.INTERNAL, letter * 100_000))["grpc-message"])
    assert 400 < len(text) <= 2000
    assert set(text) == {"?" if letter == "\ud800" else letter}


def test_what_is_not_implemented_says_which_compression_is() -> None:
    assert read(replies.failure(RpcCode.UNIMPLEMENTED, "no"))["grpc-accept-encoding"] == "identity,gzip"


def test_an_http_status_is_for_those_who_do_not_speak_grpc() -> None:
    assert read(replies.failure(RpcCode.INTERNAL, "no", http_status=405))[":status"] == "405"
