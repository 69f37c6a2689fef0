"""The sessions of other processes for those who call them: where a process answers, and when that changes.

A view of the session table that every replica follows anyway; nothing is read from etcd here.
"""

from collections.abc import Callable, Mapping

from coordd.ha.follower import Follower
from coordd.ha.leadership import SessionTable
from coordd.ha.session import SessionRecord


class SessionWatch:
    """The sessions in `table`, which `follower` keeps equal to etcd. One per process and role."""

    def __init__(self, table: SessionTable, follower: Follower) -> None:
        self._table = table
        self._follower = follower
        self._seen = table.changes
        self._nodes_at = table.changes
        self._nodes: dict[str, Mapping[int, SessionRecord]] = {}  # found since then, by role
        self._listeners: list[Callable[[], None]] = []
        follower.on_progress(self._look)

    def key_of_active(self, role: str) -> str:
        """The etcd key under which the active process of `role` is to be found; for messages."""
        return f"{self._table.prefix}{role}"

    def active(self, role: str) -> SessionRecord | None:
        """The active process of `role`; None if there is none, or its record cannot be read."""
        entry = self._table.get(role)
        return None if entry is None else entry.record

    def nodes(self, role: str) -> Mapping[int, SessionRecord]:
        """All processes `<role>-<id>` by server ID, in order; without those whose record cannot be read.

        As they are now: the mapping does not change, the next one may be another.
        """
        if self._nodes_at != self._table.changes:
            self._nodes_at = self._table.changes
            self._nodes.clear()
        known = self._nodes.get(role)
        if known is None:
            records = (entry.record for entry in self._table.of_role(role))
            known = {record.server_id: record for record in records if record is not None}
            self._nodes[role] = known
        return known

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each change of session keys; it must not raise. Returns what ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    @property
    def synced(self) -> bool:
        """Whether the sessions are being followed; if not, what is known of them may be old."""
        return self._follower.synced

    async def up_to(self, revision: int, patience_s: float) -> bool:
        """Whether every session that was written up to `revision` is known now, or within `patience_s`."""
        return await self._follower.follows(revision, patience_s)

    def _look(self) -> None:
        if self._seen == self._table.changes:
            return
        self._seen = self._table.changes
        for listener in tuple(self._listeners):
            listener()
