"""Exceptions of a handler → what goes on the wire; the one place that decides it.

| raised | answered |
|---|---|
| `MilvusError` | gRPC OK, its `Status` |
| `RpcFailure` | that gRPC error |
| fence lost and nothing written, lease lost | gRPC UNAVAILABLE: the caller looks for the active replica |
| outcome of a write unknown, or fence lost after it | gRPC UNKNOWN: handlers are safe to run twice |
| another `CoorddError` whose class says `retriable` | gRPC OK, retriable `Status` 2: tried again right here |
| any other `CoorddError` | gRPC OK, `Status` 65535 with its text |
| anything else: our bug | gRPC OK, `Status` 65535 "unexpected error", traceback to the log |

2.3 clients repeat the two gRPC errors after looking the coordinator up anew, a retriable `Status` on the same
connection. `CancelledError` and other `BaseException`s are not translated: they end the call, which is
UNAVAILABLE if nobody had given it up.
"""

from coordd.errors import CoorddError
from coordd.etcd.errors import LeaseLost, OutcomeUnknown
from coordd.meta.commit import FenceLost
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError, ServiceUnavailable


def translate(error: CoorddError) -> MilvusError | RpcFailure:
    """What an expected failure becomes on the wire."""
    if isinstance(error, MilvusError | RpcFailure):
        return error
    if isinstance(error, OutcomeUnknown) or (isinstance(error, FenceLost) and error.committed is not False):
        return RpcFailure(RpcCode.UNKNOWN, f"it is not known whether the write was done: {error}")
    if isinstance(error, FenceLost | LeaseLost):
        return RpcFailure(RpcCode.UNAVAILABLE, str(error))
    if getattr(type(error), "retriable", False):
        return ServiceUnavailable(str(error))
    return MilvusError(str(error))


def unexpected(method: str, role: str, server_id: int) -> MilvusError:
    """The answer to a bug: names where to look, and nothing that could hold a secret."""
    return MilvusError(f"unexpected error in {method}; the log of {role} {server_id} has its cause")
