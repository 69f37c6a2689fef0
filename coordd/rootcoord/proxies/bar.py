"""No timestamps for a proxy that may know a collection as it is not any more, or a password.

Every insert, delete, search, query and DDL of a proxy needs a timestamp from RootCoord, and fails without one
before it has reached anybody. So a proxy that is refused timestamps does no harm with what it has not been
told. That is what makes it safe to go on without a proxy's answer (see `manager`).

Barred is a proxy

* that owes an answer, until it has given it;
* whose session has ended, for good: nobody waits for what it may send. It must register with a new ID.

Its requests are refused, not held until it has answered: a delete has looked its collection up by then.

Not prevented: what a proxy answers or passes on without a timestamp (how far a collection is loaded; what is
asked of users and roles, which does not say by whom), and what it had begun, timestamp in hand, before the
change.

Source of truth: Milvus 2.3.5 internal/proxy/task_scheduler.go (Enqueue), timestamp.go: `base.sourceID` of the
request is the proxy's server ID. Seen at a running proxy. Milvus' RootCoord has nothing of the kind.
"""

from coordd.errors import CoorddError


class BarredError(CoorddError):
    """No timestamps for this proxy."""


class TimestampBar:
    """Who is barred. One per process; what a proxy owes is forgotten with the term.

    Attributes:
        ids: server IDs of those who are barred, for a quick look. Not to be written by others.
    """

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self._gone: set[int] = set()

    def owes(self, server_id: int) -> None:
        """The proxy has to answer first."""
        self.ids.add(server_id)

    def told(self, server_id: int) -> None:
        """The proxy has answered."""
        if server_id not in self._gone:
            self.ids.discard(server_id)

    def gone(self, server_id: int) -> None:
        """The proxy's session has ended."""
        self._gone.add(server_id)
        self.ids.add(server_id)

    def end_term(self) -> None:
        """What the proxies owe is not known any more; who is gone stays gone."""
        self.ids.intersection_update(self._gone)

    def check(self, server_id: int) -> None:
        """Return if the process with this ID may have timestamps.

        Raises:
            BarredError: it may not.
        """
        if server_id in self._gone:
            raise BarredError(
                f"proxy {server_id} has no session any more: no timestamps for it",
                hint="if that process still runs, restart it",
            )
        if server_id in self.ids:
            raise BarredError(
                f"proxy {server_id} has not confirmed that it forgets collections or passwords which have "
                "changed: no timestamps for it until it has",
                hint="try again; its internal port must be reachable from rootcoord",
            )
