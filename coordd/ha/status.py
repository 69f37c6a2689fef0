"""Who leads and who stands by, as read from etcd: pure functions from keys to a report.

Source of the keys: Milvus 2.3.5 internal/util/sessionutil; coordd's own heartbeat (`coordd.ha.leadership`)
and standbys' reports (`coordd.ha.standbys`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from coordd.etcd import Event, KeyValue
from coordd.ha.leadership import HeartbeatTable, SessionEntry, SessionTable
from coordd.ha.standbys import StandbyReportTable
from coordd.meta.codecs import DecodeError
from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica of a role. `state` is ACTIVE, STANDBY or, for a key that does not decode, UNREADABLE.

    `epoch` is 0 unless ACTIVE. `since_ms` (Unix ms) is when the key was written, None for a process that does
    not say (Milvus). `lease_left_s` is None if the lease is unknown to etcd or was not asked for. `lag` (etcd
    revisions that the tables were behind) and `synced` are what a standby's last report says, None without.
    """

    role: str
    state: str
    server_id: int | None
    address: str
    kind: str
    version: str
    host_name: str
    epoch: int
    since_ms: int | None
    lease_id: int
    lease_left_s: int | None
    key: str
    pid: int
    lag: int | None = None
    synced: bool | None = None


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """All replicas of one role, the active one first. `active` is None when nobody holds the ACTIVE key."""

    role: str
    active: ReplicaStatus | None
    standbys: tuple[ReplicaStatus, ...]
    heartbeat_revision: int

    @property
    def replicas(self) -> tuple[ReplicaStatus, ...]:
        """The active one, if there is one, and the standbys."""
        return (*((self.active,) if self.active else ()), *self.standbys)


def fill(tables: Sequence[Table], kvs: Iterable[KeyValue]) -> None:
    """Fill tables from a range read; what does not decode is in them as each of them treats it."""
    for kv in kvs:
        for table in tables:
            if kv.key.startswith(table.prefix):
                event = Event(kv.key, kv.value, kv.mod_revision, kv.create_revision, kv.lease, kv.version)
                with suppress(DecodeError):
                    table.apply(event)


def tables_of(
    layout: MetaLayout, kvs: Iterable[KeyValue]
) -> tuple[SessionTable, HeartbeatTable, StandbyReportTable]:
    """The tables that a report is made of; sessions and heartbeats that do not decode stay as unreadable."""
    sessions, heartbeats, reports = SessionTable(layout), HeartbeatTable(layout), StandbyReportTable(layout)
    fill([sessions, heartbeats, reports], kvs)
    return sessions, heartbeats, reports


def lease_ids(sessions: SessionTable, roles: Sequence[str]) -> set[int]:
    """The leases whose remaining time a report on `roles` shows."""
    entries = [entry for role in roles for entry in [sessions.get(role), *sessions.of_role(role)]]
    return {entry.lease for entry in entries if entry is not None and entry.lease}


def role_status(
    role: str,
    sessions: SessionTable,
    heartbeats: HeartbeatTable,
    reports: StandbyReportTable,
    lease_left_s: Mapping[int, int | None],
) -> RoleStatus:
    """The report on one role."""
    active_entry = sessions.get(role)
    active = None if active_entry is None else _replica(role, active_entry, lease_left_s, active=True)
    standbys = tuple(
        _with_report(_replica(role, entry, lease_left_s, active=False), reports)
        for entry in sessions.of_role(role)
        if active_entry is None or entry.lease != active_entry.lease
    )
    heartbeat = heartbeats.get(role)
    return RoleStatus(role, active, standbys, heartbeat.mod_revision if heartbeat else 0)


def _with_report(standby: ReplicaStatus, reports: StandbyReportTable) -> ReplicaStatus:
    report = None if standby.server_id is None else reports.get(standby.role, standby.server_id)
    return standby if report is None else replace(standby, lag=report.lag, synced=report.synced)


def _replica(
    role: str, entry: SessionEntry, lease_left_s: Mapping[int, int | None], *, active: bool
) -> ReplicaStatus:
    record = entry.record
    safety = record.safety if record else None
    return ReplicaStatus(
        role=role,
        state="UNREADABLE" if record is None else "ACTIVE" if active else "STANDBY",
        server_id=record.server_id if record else None,
        address=record.address if record else "",
        kind="unknown" if record is None else "milvus" if safety is None else "coordd",
        version=record.version if record else "",
        host_name=record.host_name if record else "",
        epoch=entry.mod_revision if active else 0,
        since_ms=safety.since_ms if safety else None,
        lease_id=entry.lease,
        lease_left_s=lease_left_s.get(entry.lease),
        key=entry.key,
        pid=safety.pid if safety else 0,
    )
