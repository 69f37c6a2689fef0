"""The gate in front of every request: open while this replica's term is active and its serve guard valid.

One instance per replica and process; the RPC chain holds on to it across terms. It decides nothing: the
replica opens and closes it, the serve guard's arithmetic says whether an answer may leave right now.
"""

import asyncio
import math

from coordd.clock import boottime
from coordd.ha.guard import ServeGuard
from coordd.pb.common_pb2 import StateCode


class LeadershipGate:
    """What the RPC chain asks of a replica; see `coordd.rpc.gate.ServeGate` for the contract."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._guard = ServeGuard(0.0)
        self._open = False
        self._changed = asyncio.Event()
        self.server_id = -1
        self.epoch = 0
        self.deposed = False
        self.state_code: int = StateCode.Initializing

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self._role

    def serving(self) -> bool:
        """Whether an answer may leave now."""
        return self._open and self._guard.valid(boottime())

    def guard_remaining_s(self) -> float:
        """Seconds for which answers may leave without another heartbeat; 0 outside a term."""
        return self._guard.remaining_s(boottime()) if self._open else 0.0

    async def wait_serving(self, deadline: float) -> None:
        """Wait for `serving()`, the end of the term, or `deadline` (CLOCK_BOOTTIME); never raises then."""
        while not self.serving() and not self.deposed:
            remaining = deadline - boottime()
            if remaining <= 0:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                    await self._changed.wait()
            except TimeoutError:
                return

    # --- for the replica ---

    def new_session(self, server_id: int) -> None:
        """A session was registered; the replica stands by."""
        self.server_id = server_id
        self.state_code = StateCode.StandBy

    def activating(self) -> None:
        """Leadership was won; the role is being made ready."""
        self.state_code = StateCode.Initializing

    def open(self, epoch: int, guard: ServeGuard) -> None:
        """Requests may be answered while `guard` is valid."""
        self._guard = guard
        self._open = True
        self.epoch = epoch
        self.deposed = False
        self.state_code = StateCode.Healthy
        self._changed.set()

    def stopping(self) -> None:
        """Leadership is being given up: what is in flight may still be answered."""
        self.state_code = StateCode.Stopping

    def close(self) -> None:
        """The term is over: not one more answer, waiting requests are turned away."""
        self._guard.close()
        self._guard = ServeGuard(0.0)
        if self._open:
            self.deposed = True
        self._open = False
        self.epoch = 0
        self.state_code = StateCode.Abnormal
        self._changed.set()

    def guard_extended(self) -> None:
        """A heartbeat or keepalive was acknowledged: whoever waits may look again."""
        self._changed.set()
