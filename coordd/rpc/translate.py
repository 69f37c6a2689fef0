"""Exceptions of a handler → what goes on the wire; the one place that decides it.

| raised | answered |
|---|---|
| `MilvusError` | gRPC OK, its `Status` |
| `RpcFailure` | that gRPC error |
| any other `CoorddError` | gRPC OK, `Status` 65535 with its text |
| anything else: our bug | gRPC OK, `Status` 65535 "unexpected error", traceback to the log |

`CancelledError` and other `BaseException`s are not translated: they end the call.
"""

from coordd.errors import CoorddError
from coordd.rpc.failure import RpcFailure
from coordd.rpc.status import MilvusError


def translate(error: CoorddError) -> MilvusError | RpcFailure:
    """What an expected failure becomes on the wire."""
    if isinstance(error, MilvusError | RpcFailure):
        return error
    return MilvusError(str(error))


def unexpected(method: str, role: str, server_id: int) -> MilvusError:
    """The answer to a bug: names where to look, and nothing that could hold a secret."""
    return MilvusError(f"unexpected error in {method}; the log of {role} {server_id} has its cause")
