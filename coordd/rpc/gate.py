"""What the chain asks of the replica before it lets a handler answer.

The replica (package `ha`) implements this protocol; the chain knows nothing else about leadership. All times
are seconds of CLOCK_BOOTTIME. Nothing here may block: all but `wait_serving` read state that is in memory.
"""

from typing import Protocol


class ServeGate(Protocol):
    """A replica as the RPC chain sees it."""

    @property
    def role(self) -> str:
        """`rootcoord`, `datacoord` or `querycoord`."""

    @property
    def server_id(self) -> int:
        """Own server id; -1 before registration. Changes with a new session."""

    @property
    def state_code(self) -> int:
        """`common.StateCode`: Initializing while activating, Healthy while ACTIVE (guard valid or not), …"""

    @property
    def epoch(self) -> int:
        """The term being served; 0 outside a term. A call that sees it change gives up its answer."""

    @property
    def deposed(self) -> bool:
        """True from the end of a term (lost, handed over, stopping) until the next activation.

        Its callers hold a stale address and are turned away with UNAVAILABLE, so that they resolve anew. A
        replica that never was active is not deposed.
        """

    def serving(self) -> bool:
        """True while the term is active and its serve guard has not passed. Called twice per request."""

    async def wait_serving(self, deadline: float) -> None:
        """Return when `serving()`, when waiting no longer helps (the term is over), or at `deadline`.

        Does not raise for any of the three; the caller looks at the gate again. Safe to cancel.
        """
