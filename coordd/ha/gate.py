"""The gate in front of every request: open while this replica's term is active and its serve guard valid.

One instance per replica and process; the RPC chain holds on to it across terms. It decides nothing: the
replica opens and closes it, the serve guard's arithmetic says whether an answer may leave right now.

    closed --open--> open --hold--> holding --silence--> silent --close--> closed, or forwarding
                      ^                |                    |
                      +----------------+------reopen--------+

While *holding* new requests wait and those under way are answered; *silent* answers nothing. What still waits
when the gate is closed is forwarded if there is a forwarder, and turned away otherwise.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import Protocol

from coordd.clock import boottime
from coordd.ha.guard import ServeGuard
from coordd.pb.common_pb2 import StateCode


class Forwarder(Protocol):
    """Passes calls on to the replica that leadership was handed to."""

    @property
    def server_ids(self) -> tuple[int, ...]:
        """Server IDs under which callers may address the calls: the old one's and the heir's."""

    @property
    def idle_since(self) -> float:
        """When the last call ended (CLOCK_BOOTTIME); infinite while one is under way."""

    async def forward(
        self, path: str, body: bytes, metadata: Mapping[str, str], deadline: float | None
    ) -> bytes:
        """The heir's answer; raises what the caller is to see (`coordd.rpc.failure.RpcFailure`)."""

    async def close(self) -> None:
        """Drop the connection."""


class LeadershipGate:
    """What the RPC chain asks of a replica; see `coordd.rpc.gate.ServeGate` for the contract."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._guard = ServeGuard(0.0)
        self._open = False
        self._silent = False
        self._changed = asyncio.Event()
        self._guard_awaited = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._running = 0
        self.server_id = -1
        self.epoch = 0
        self.deposed = False
        self.holding = False
        self.forwarder: Forwarder | None = None
        self.state_code: int = StateCode.Initializing

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self._role

    def serving(self) -> bool:
        """Whether an answer may leave now."""
        return self._open and not self._silent and self._guard.valid(boottime())

    def guard_remaining_s(self) -> float:
        """Seconds for which answers may leave without another heartbeat; 0 outside a term."""
        return self._guard.remaining_s(boottime()) if self._open else 0.0

    async def wait_change(self, deadline: float) -> None:
        """Wait until anything changes that may matter to a call, or `deadline` (CLOCK_BOOTTIME)."""
        now = boottime()
        remaining = deadline - now
        if remaining <= 0:
            return
        self._guard_awaited |= self._open and not self._guard.valid(now)
        self._changed.clear()
        try:
            async with asyncio.timeout(None if math.isinf(remaining) else remaining):
                await self._changed.wait()
        except TimeoutError:
            return

    def call_began(self) -> None:
        """A handler runs that will answer later."""
        self._running += 1
        self._idle.clear()

    def call_ended(self) -> None:
        """It has answered, or never will."""
        self._running -= 1
        if not self._running:
            self._idle.set()

    # --- for the replica ---

    def new_session(self, server_id: int) -> None:
        """A session was registered; the replica stands by."""
        self.server_id = server_id
        self.state_code = StateCode.StandBy

    def activating(self) -> None:
        """Leadership was won; the role is being made ready. A call that comes already waits."""
        self.state_code = StateCode.Initializing
        self.holding = True
        self.deposed = False
        self.forwarder = None

    def open(self, epoch: int, guard: ServeGuard) -> None:
        """Requests may be answered while `guard` is valid."""
        self._guard = guard
        self._open = True
        self.epoch = epoch
        self.deposed = False
        self.state_code = StateCode.Healthy
        self.reopen()

    def hold(self) -> None:
        """Leadership is on its way out: new requests wait, those under way are still answered."""
        self.holding = True

    def stopping(self) -> None:
        """It will not come back: the state that is reported says so."""
        self.state_code = StateCode.Stopping

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no handler runs; False if some still do when time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def silence(self) -> None:
        """Nothing is answered until `reopen`."""
        self._silent = True

    def reopen(self) -> None:
        """Requests are answered again."""
        self.holding = self._silent = False
        self._wake()

    def close(self, forwarder: Forwarder | None = None) -> None:
        """The term is over: not one more answer. Waiting requests are forwarded, or turned away."""
        self._guard.close()
        self._guard = ServeGuard(0.0)
        if self._open or self.holding:
            self.deposed = True
            self.forwarder = forwarder
        self._open = self.holding = self._silent = False
        self.epoch = 0
        self.state_code = StateCode.Abnormal
        self._wake()

    def forward_by(self, forwarder: Forwarder) -> None:
        """Forward by another way from now on: the heir has passed leadership on."""
        self.forwarder = forwarder

    def end_forwarding(self) -> None:
        """Callers had time to move: turn away those that have not."""
        self.forwarder = None

    def guard_extended(self) -> None:
        """A heartbeat or keepalive was acknowledged: if calls wait for that, they are woken.

        Those that wait for leadership to come, or to have gone, are not: it brings neither about.
        """
        if self._guard_awaited and self.serving():
            self._wake()

    def _wake(self) -> None:
        self._guard_awaited = False
        self._changed.set()
