"""Exceptions of a handler → what goes on the wire; the one place that decides it.

| raised | answered |
|---|---|
| `MilvusError` | gRPC OK, its `Status` |
| `RpcFailure` | that gRPC error |
| etcd: outcome unknown | gRPC UNKNOWN: the caller may repeat; handlers are safe to run twice |
| etcd: lease lost | gRPC UNAVAILABLE: this replica leads no more; the caller looks for the next |
| etcd: out of reach, nothing written | gRPC OK, retriable `Status` 2: tried again on this connection |
| any other `CoorddError` | gRPC OK, `Status` 65535 with its text |
| anything else: our bug | gRPC OK, `Status` 65535 "unexpected error", traceback to the log |

`CancelledError` and other `BaseException`s are not translated: they end the call.
"""

from coordd.errors import CoorddError
from coordd.etcd.errors import EtcdError, LeaseLost, OutcomeUnknown
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError, ServiceUnavailable


def translate(error: CoorddError) -> MilvusError | RpcFailure:
    """What an expected failure becomes on the wire."""
    if isinstance(error, MilvusError | RpcFailure):
        return error
    if isinstance(error, OutcomeUnknown):
        return RpcFailure(RpcCode.UNKNOWN, f"it is not known whether the write was done: {error}")
    if isinstance(error, LeaseLost):
        return RpcFailure(RpcCode.UNAVAILABLE, str(error))
    if isinstance(error, EtcdError) and error.retriable:
        return ServiceUnavailable(str(error))
    return MilvusError(str(error))


def unexpected(method: str, role: str, server_id: int) -> MilvusError:
    """The answer to a bug: names where to look, and nothing that could hold a secret."""
    return MilvusError(f"unexpected error in {method}; the log of {role} {server_id} has its cause")
