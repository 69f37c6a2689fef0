"""A call that ends as a gRPC error, in words of our own so that no transport shows above this package."""

from coordd.errors import CoorddError
from coordd.http2.status import RpcCode

__all__ = ["RpcCode", "RpcFailure"]


class RpcFailure(CoorddError):
    """The call fails at gRPC level.

    2.3 clients repeat every such failure but UNIMPLEMENTED, and look the coordinator up anew before they do;
    a retriable `Status` keeps them on the same connection instead.
    """

    def __init__(self, code: RpcCode, message: str) -> None:
        super().__init__(message)
        self.code = code
