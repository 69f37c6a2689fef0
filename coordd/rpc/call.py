"""What a handler may know about the call it answers; the same for every transport."""

from collections.abc import Mapping
from dataclasses import dataclass

from coordd.clock import boottime


@dataclass(slots=True, eq=False)
class Call:
    """One unary call.

    Attributes:
        method: full path, `/milvus.proto.rootcoord.RootCoord/DescribeCollection`.
        metadata: request headers, lower-case names; of a repeated header the first value.
        deadline: the caller's deadline in seconds of CLOCK_BOOTTIME, None when it set none.
        peer: the caller's address as the transport spells it, for logs only.
        body: the request as it came.
    """

    method: str
    metadata: Mapping[str, str]
    deadline: float | None = None
    peer: str = ""
    body: bytes = b""

    def remaining_s(self) -> float | None:
        """Seconds until the caller's deadline (negative when past), None without one."""
        return None if self.deadline is None else self.deadline - boottime()
