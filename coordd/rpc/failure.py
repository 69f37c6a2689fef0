"""A call that ends as a gRPC error, in words of our own so that no transport shows above this package."""

from enum import IntEnum

from coordd.errors import CoorddError


class RpcCode(IntEnum):
    """gRPC status codes, with their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RpcFailure(CoorddError):
    """The call fails at gRPC level.

    2.3 clients repeat every such failure but UNIMPLEMENTED, and look the coordinator up anew before they do;
    a retriable `Status` keeps them on the same connection instead.
    """

    def __init__(self, code: RpcCode, message: str) -> None:
        super().__init__(message)
        self.code = code
