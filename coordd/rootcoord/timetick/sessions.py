"""The proxies that time ticks have to wait for: those with a session, and those that are on their way out."""

from collections.abc import Mapping

from coordd.ha.leadership import SessionEntry, SessionTable


class ProxySessions:
    """Proxies by their session keys, those whose records do not decode included.

    A proxy whose session was ended while it may still send (`leave`) counts until it is known to have stopped
    (`left`).
    """

    def __init__(self, sessions: SessionTable) -> None:
        self._sessions = sessions
        self._leaving: dict[int, SessionEntry] = {}

    def registered(self) -> list[int]:
        """Server IDs of those that have a session."""
        return list(self.entries())

    def entries(self) -> dict[int, SessionEntry]:
        """The sessions, by server ID."""
        return {int(entry.key.rpartition("-")[2]): entry for entry in self._sessions.of_role("proxy")}

    def ids(self) -> set[int]:
        """Server IDs of all that may send."""
        return {*self.registered(), *self._leaving}

    def has(self, server_id: int) -> bool:
        """Whether this one may send."""
        return server_id in self._leaving or self.entry(server_id) is not None

    def entry(self, server_id: int) -> SessionEntry | None:
        """The session of this one."""
        return self._sessions.get(f"proxy-{server_id}")

    @property
    def leaving(self) -> Mapping[int, SessionEntry]:
        """Those on their way out, with the sessions that they had."""
        return self._leaving

    def leave(self, server_id: int, entry: SessionEntry) -> None:
        """Its session is about to be ended; to be called before that is tried."""
        self._leaving[server_id] = entry

    def left(self, server_id: int) -> None:
        """It sends nothing any more."""
        self._leaving.pop(server_id, None)

    def replaced(self, server_id: int) -> bool:
        """Whether another proxy has a session at the address of one that is on its way out."""
        entry = self._leaving.get(server_id)
        if entry is None or entry.record is None:
            return False
        return any(
            other.record is not None
            and other.record.address == entry.record.address
            and other.record.server_id != server_id
            for other in self._sessions.of_role("proxy")
        )
