"""No timestamps for a proxy that may know a collection as it is not any more.

Every insert, delete, search, query and DDL of a proxy begins with a timestamp from RootCoord, and looks the
collection up in the proxy's cache after that. So a proxy without timestamps does no harm with what it has not
been told: it does nothing. That is what makes it safe to go on without a proxy's answer (see `manager`).

Barred is a proxy

* that owes an answer: its callers wait until it has given one, or until their patience is at its end;
* whose session has ended: refused at once, for as long as the term lasts. It must register anew, with
  another ID.

Not prevented: what a proxy answers from its cache without a timestamp (how far a collection is loaded), and
what it had begun, timestamp in hand, before the change.

Source of truth: Milvus 2.3.5 internal/proxy/task_scheduler.go (Enqueue), timestamp.go: `base.sourceID` of the
request is the proxy's server ID. Milvus' RootCoord has nothing of the kind.
"""

import asyncio

from coordd.clock import boottime
from coordd.errors import CoorddError


class BarredError(CoorddError):
    """No timestamps for this proxy."""


class TimestampBar:
    """Who is barred. One per process; every term begins with nobody barred.

    Attributes:
        ids: server IDs of those who are barred, for a quick look. Not to be written by others.
    """

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self._gone: set[int] = set()
        self._changed = asyncio.Event()

    def owes(self, server_id: int) -> None:
        """The proxy has to answer first."""
        self.ids.add(server_id)

    def told(self, server_id: int) -> None:
        """The proxy has answered."""
        if server_id not in self._gone:
            self.ids.discard(server_id)
            self._tell()

    def gone(self, server_id: int) -> None:
        """The proxy's session has ended."""
        self._gone.add(server_id)
        self.ids.add(server_id)
        self._tell()

    def clear(self) -> None:
        """The term is over; those who wait go on, and find that out elsewhere."""
        self.ids.clear()
        self._gone.clear()
        self._tell()

    async def wait(self, server_id: int, deadline: float) -> None:
        """Return when the proxy may have timestamps. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            BarredError: not until then, or never.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - boottime())):
                while server_id in self.ids and server_id not in self._gone:
                    await self._changed.wait()
        except TimeoutError:
            raise BarredError(
                f"proxy {server_id} has not confirmed that it forgets collections which have changed: no "
                "timestamps for it until it has",
                hint="its internal port must be reachable from rootcoord",
            ) from None
        if server_id in self._gone:
            raise BarredError(
                f"proxy {server_id} has no session any more: no timestamps for it",
                hint="if that process still runs, restart it",
            )

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
