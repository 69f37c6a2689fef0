"""How handlers have metadata changed, and their callers told why it was not."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import blake2b
from types import TracebackType

from coordd import clock
from coordd.meta.commit import TIMEOUT_S
from coordd.pb.common_pb2 import MsgBase
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.ddl import Asked, Changes
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.oracle import NotHandedOutError, TermOverError
from coordd.rpc.call import Call
from coordd.rpc.status import ServiceUnavailable

PEERS_PATIENCE_S = 60.0
"""Patience of a change in which DataCoord or QueryCoord has a part, and whose caller names no deadline, as
neither pymilvus nor a proxy does by itself. Their failover takes a session's TTL, 30 s by default, and the
start of the successor; Milvus' RootCoord tries ten times, for some 45 s."""

MARGIN_S = 0.2
"""Kept back of the caller's deadline, so that it learns why its change was not made, or may not have been."""

FINGERPRINT_BYTES = 6
"""Of the few calls that are remembered no two are taken for the same; as many as `DdlMark` reads."""


async def change(
    changes: Callable[[], Changes], decide: Decide, call: Call, asked: Asked | None = None
) -> int:
    """`Ddl.carry_out` of the present term within the caller's time; returns the revision, 0 without a write.

    `asked`: the call, if a repetition of it is to be known. Raises what the chain translates: refusals, and
    why etcd does not take the change.
    """
    with why_not():
        return await changes().carry_out(decide, deadline=deadline_of(call), asked=asked)


def why_not() -> AbstractContextManager[None]:
    """Translates what the oracle of the term raises, for the caller of a change."""
    return _WhyNot()


def asked_by(
    call: Call, holds: Callable[[], bool], *, base: MsgBase | None = None, identity: bytes = b""
) -> Asked:
    """A call of which a repetition is to be known. `holds`: whether what it asks for is so, by the tables.

    What makes it the same call: the whole request, if its `base` has what is another one in the next call,
    as Milvus' clients set it (a message ID, a timestamp, or at least the server ID of the active replica that
    they knew); or `identity`, for a request without a base. What is secret must not be in it, since a
    fingerprint of it is stored. A call with neither is not recognised.
    """
    if base is not None and (base.msgID or base.timestamp or base.targetID):
        identity = call.body
    digest = blake2b(call.method.encode() + b"\0" + identity, digest_size=FINGERPRINT_BYTES)
    return Asked(digest.hexdigest() if identity else "", holds)


class _WhyNot(AbstractContextManager[None]):
    """A generator would take several times as long, for each change."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TermOverError):
            raise elsewhere(error) from error
        if isinstance(error, NotHandedOutError):
            raise ServiceUnavailable(f"no timestamp or ID for the change: {error}") from error


def deadline_of(call: Call, patience_s: float = TIMEOUT_S) -> float:
    """Until when a change must be made, in seconds on CLOCK_BOOTTIME.

    `patience_s`: for how long a caller waits that has named no deadline; by default what etcd alone may take.
    """
    return clock.boottime() + patience_s if call.deadline is None else call.deadline - MARGIN_S
