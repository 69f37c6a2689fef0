"""The tables that every replica follows, whatever its role, and what an election sees in them."""

from coordd.ha import election_events as ev
from coordd.ha.history import HistoryTable
from coordd.ha.leadership import HeartbeatTable, SessionEntry, SessionTable
from coordd.ha.standbys import OfferTable, StandbyReportTable
from coordd.ha.switchover import SwitchoverTable
from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout


class CoordinationTables:
    """Sessions, heartbeats, standbys' reports, offers, switchover requests and the history."""

    def __init__(self, layout: MetaLayout) -> None:
        self.sessions = SessionTable(layout)
        self.heartbeats = HeartbeatTable(layout)
        self.reports = StandbyReportTable(layout)
        self.offers = OfferTable(layout)
        self.switchovers = SwitchoverTable(layout)
        self.history = HistoryTable(layout)
        self._standbys_at = (-1, -1, "")
        self._standbys_then: tuple[ev.Standby, ...] = ()

    @property
    def all(self) -> list[Table]:
        """For a fold."""
        return [self.sessions, self.heartbeats, self.reports, self.offers, self.switchovers, self.history]

    def observed(self, role: str, now: float, revision: int) -> ev.Observed:
        """The leadership keys of `role` as the election is told of them."""
        active, heartbeat, offer = (
            self.sessions.get(role),
            self.heartbeats.get(role),
            self.offers.get(role),
        )
        record = active.record if active else None
        return ev.Observed(
            now=now,
            revision=revision,
            active_mod_revision=active.mod_revision if active else 0,
            heartbeat_mod_revision=heartbeat.mod_revision if heartbeat else 0,
            holder_guard_s=heartbeat.serve_guard_s if heartbeat else None,
            holder_server_id=record.server_id if record else None,
            holder_is_safe=record is not None and record.safety is not None,
            heartbeat_settled=heartbeat is not None and heartbeat.settled,
            offer=ev.Offer(offer.mod_revision, offer.server_id, offer.to) if offer else None,
            standbys=self._standbys(role, active),
        )

    def _standbys(self, role: str, active: SessionEntry | None) -> tuple[ev.Standby, ...]:
        """Looked for when a session or a report has changed; asked for after every change of metadata."""
        now = (self.sessions.changes, self.reports.changes, role)
        if now != self._standbys_at:
            self._standbys_then, self._standbys_at = self._find_standbys(role, active), now
        return self._standbys_then

    def _find_standbys(self, role: str, active: SessionEntry | None) -> tuple[ev.Standby, ...]:
        holder = active.record.server_id if active and active.record else None
        standbys = []
        for entry in self.sessions.of_role(role):
            record = entry.record
            if record is None or record.safety is None or record.server_id == holder:
                continue
            report = self.reports.get(role, record.server_id)
            standbys.append(
                ev.Standby(
                    record.server_id,
                    report.mod_revision if report else 0,
                    report.offer if report and report.synced else 0,
                )
            )
        return tuple(standbys)
