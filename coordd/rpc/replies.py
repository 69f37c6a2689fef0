"""The header blocks that a gRPC server answers with. Pure.

Those of a success are made once. A failure has no headers of its own and no data: it is one block, which ends
the call (Trailers-Only).

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md, "Responses".
"""

from typing import Final

from coordd.http2.hpack import encode
from coordd.http2.messages import ACCEPTED_ENCODINGS
from coordd.http2.status import encode_message
from coordd.rpc.failure import RpcCode
from coordd.rpc.request_head import CONTENT_TYPE

HEADERS: Final = encode([(":status", "200"), ("content-type", CONTENT_TYPE)])
TRAILERS: Final = encode([("grpc-status", str(int(RpcCode.OK)))])

_MAX_TEXT_BYTES: Final = 2000
"""gRPC's clients take 8 KiB of headers; percent-encoding makes up to three times as many of them."""


def failure(code: RpcCode, text: str, *, http_status: int = 200) -> bytes:
    """The block of a call that failed. `http_status` is not 200 for a request that was none of gRPC's."""
    fields = [
        (":status", str(http_status)),
        ("content-type", CONTENT_TYPE),
        ("grpc-status", str(int(code))),
        ("grpc-message", encode_message(_cut(text))),
    ]
    if code is RpcCode.UNIMPLEMENTED:
        fields.append(("grpc-accept-encoding", ACCEPTED_ENCODINGS))
    return encode(fields)


def _cut(text: str) -> str:
    return text.encode("utf-8", "replace")[:_MAX_TEXT_BYTES].decode("utf-8", "ignore")
