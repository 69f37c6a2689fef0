"""The headers of a request, read as gRPC means them: what is asked for, or why it cannot be answered. Pure.

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md; for what is answered to a request that is none of gRPC's also
grpc-go's server, which Milvus' coordinators are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordd.errors import CoorddError
from coordd.http2.status import parse_timeout
from coordd.rpc.failure import RpcCode

CONTENT_TYPE: Final = "application/grpc"
_OF_THE_TRANSPORT: Final = frozenset({"te", "content-type", "content-length", "host"})


class NotAnswerable(CoorddError):
    """A request that is well-formed HTTP/2, and not one of gRPC's.

    Attributes:
        http_status: for peers that do not speak gRPC.
        code: for those that do.
    """

    def __init__(self, http_status: int, code: RpcCode, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code


@dataclass(slots=True)
class RequestHead:
    """What the headers say.

    Attributes:
        path: `/milvus.proto.rootcoord.RootCoord/DescribeCollection`.
        metadata: the caller's own headers, lower-case names; of a repeated one the first value, as Milvus'
            interceptors take it. What belongs to the connection or to gRPC itself is left out, and so are
            binary ones.
        timeout_s: how long the caller waits from now on; None: for ever.
        encoding: how its messages may be compressed.
    """

    path: str
    metadata: dict[str, str]
    timeout_s: float | None
    encoding: str


def read_head(headers: Sequence[tuple[str, str]]) -> RequestHead:
    """The meaning of request headers in the order in which they came.

    Raises:
        NotAnswerable: no POST, not gRPC's content type, no path, or a time-out that is none.
    """
    first = dict(reversed(headers))
    method = first.get(":method")
    if method != "POST":
        raise NotAnswerable(405, RpcCode.INTERNAL, f"the method is {method or 'missing'}, gRPC's is POST")
    _check_content_type(first.get("content-type", ""))
    path = first.get(":path", "")
    if not path.startswith("/"):
        raise NotAnswerable(400, RpcCode.INTERNAL, f"{path or 'nothing'} is not the path of a method")
    timeout_s = None
    if "grpc-timeout" in first:
        try:
            timeout_s = parse_timeout(first["grpc-timeout"])
        except ValueError as error:
            raise NotAnswerable(400, RpcCode.INTERNAL, f"malformed grpc-timeout: {error}") from error
    own = {name: value for name, value in first.items() if _is_own(name)}
    return RequestHead(path, own, timeout_s, first.get("grpc-encoding", "identity"))


def _check_content_type(content_type: str) -> None:
    """`application/grpc`, alone or followed by a format ("+proto") or a parameter (";charset=...")."""
    rest = content_type.removeprefix(CONTENT_TYPE)
    if rest == content_type or (rest and rest[0] not in "+;"):
        what = content_type or "missing"
        raise NotAnswerable(
            415, RpcCode.INVALID_ARGUMENT, f"the content type is {what}, gRPC's is {CONTENT_TYPE}"
        )


def _is_own(name: str) -> bool:
    return not (name.startswith((":", "grpc-")) or name.endswith("-bin") or name in _OF_THE_TRANSPORT)
