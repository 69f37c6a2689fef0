"""How handlers have metadata changed, and their callers told why it was not."""

from collections.abc import Callable

from coordd import clock
from coordd.meta.commit import TIMEOUT_S
from coordd.rootcoord.ddl import Ddl, Decide
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.oracle import NotHandedOutError, TermOverError
from coordd.rpc.call import Call
from coordd.rpc.status import ServiceUnavailable

MARGIN_S = 0.2
"""Kept back of the caller's deadline, so that it learns why its change was not made, or may not have been."""


async def change(ddl: Callable[[], Ddl], decide: Decide, call: Call) -> int:
    """`Ddl.carry_out` of the present term within the caller's time; returns the revision, 0 without a write.

    Raises what the chain translates: refusals, and why etcd does not take the change.
    """
    try:
        return await ddl().carry_out(decide, deadline=deadline_of(call))
    except TermOverError as error:
        raise elsewhere(error) from error
    except NotHandedOutError as error:
        raise ServiceUnavailable(f"no timestamp or ID for the change: {error}") from error


def deadline_of(call: Call) -> float:
    """Until when a change must be made, in seconds on CLOCK_BOOTTIME."""
    return clock.boottime() + TIMEOUT_S if call.deadline is None else call.deadline - MARGIN_S
