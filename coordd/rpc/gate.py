"""What the chain asks of the replica before it lets a handler answer.

The replica (package `ha`) implements this protocol; the chain knows nothing else about leadership. All times
are seconds of CLOCK_BOOTTIME. Nothing here may block: all but `wait_change` read state that is in memory.
"""

from collections.abc import Mapping
from typing import Protocol


class Forwarder(Protocol):
    """The way to the replica that leadership was handed to."""

    @property
    def server_ids(self) -> tuple[int, ...]:
        """Server ids under which callers may address the calls."""

    async def forward(
        self, path: str, body: bytes, metadata: Mapping[str, str], deadline: float | None
    ) -> bytes:
        """Its answer. Raises RpcFailure."""


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

    @property
    def holding(self) -> bool:
        """True while new calls wait: the role is being made ready, or leadership is on its way out."""

    @property
    def forwarder(self) -> Forwarder | None:
        """Where calls go that are not answered here any more; None: they are turned away."""

    def serving(self) -> bool:
        """True while the term is active and its serve guard has not passed. Called twice per request."""

    async def wait_change(self, deadline: float) -> None:
        """Return when a call may be dealt with otherwise than a moment ago, or at `deadline`. Safe to cancel.

        Not at each heartbeat: thousands of calls may be waiting.
        """

    def call_began(self) -> None:
        """A handler runs that answers later; a handover waits for it, though not for ever.

        Told in the very step in which the call was let in.
        """

    def call_ended(self) -> None:
        """It has answered, or never will."""
