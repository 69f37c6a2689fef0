"""After leadership was handed over: calls that still come here are passed on to whoever leads now.

First that is the heir. If the heir passes leadership on in its turn, calls go to its successor as soon as the
watch tells of it: the heir may stop forwarding, or end, before all callers have moved away from here.
"""

import asyncio
import math
from dataclasses import dataclass, field

from coordd.clock import boottime
from coordd.ha.context import Surroundings
from coordd.ha.gate import Forwarder
from coordd.log import get_logger

log = get_logger("coordd.ha.forwarding")

TURN_S = 0.1
QUIET_TURNS = 10
"""So many turns in a row without a call: the callers have moved. Milvus' proxies call every 0.2 s. Turns, not
a time: a process that was starved for a second has calls in its sockets yet to be read."""


def hold_of(forwarder: Forwarder) -> str:
    """Name under which the forwarding of one handover holds the server; that of the next one is another."""
    return f"forwarding of {forwarder.server_ids[0]}"


@dataclass(eq=False)
class Forwarding:
    """The forwarding of one handover. `forwarder`: the way to the heir, which the gate uses by now."""

    around: Surroundings
    forwarder: Forwarder
    _former: list[Forwarder] = field(default_factory=list)

    async def run(self) -> bool:
        """Forward until no call has come for a while, but not for ever; then turn away what still comes.

        Returns whether it is turned away: not if this process has been given leadership again.
        """
        until = boottime() + self.around.settings.forward_grace_ms / 1000
        quiet_turns = 0
        while quiet_turns < QUIET_TURNS and boottime() < until:
            self._follow_active()
            before = self.forwarder.idle_since
            await asyncio.sleep(TURN_S)
            quiet = not math.isinf(before) and self.forwarder.idle_since == before
            quiet_turns = quiet_turns + 1 if quiet else 0
        if not self._in_use:
            return False
        self.around.gate.end_forwarding()
        return True

    async def close(self) -> None:
        """Drop all connections."""
        for forwarder in (*self._former, self.forwarder):
            await forwarder.close()

    @property
    def _in_use(self) -> bool:
        return self.around.gate.forwarder is self.forwarder

    def _follow_active(self) -> None:
        active = self.around.tables.sessions.get(self.around.settings.role)
        record = active.record if active is not None else None
        known = self.forwarder.server_ids
        if record is None or record.safety is None or not self._in_use:
            return
        if record.server_id in (*known, self.around.gate.server_id):
            return
        log.info("the heir has passed leadership on", role=record.server_name, to=record.server_id)
        self._former.append(self.forwarder)
        self.forwarder = self.around.make_forwarder(record.address, record.server_id, known[0])
        self.around.gate.forward_by(self.forwarder)
