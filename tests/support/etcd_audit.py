"""The judge of etcd's history of one role: every revision that coordd wrote lies within its author's term.

It folds all events below the cluster's root, from revision 1 on, without any of coordd's own tables. What can
be seen from outside:

- A term is the stretch of revisions from a write of the ACTIVE key to its next change. Its record is that of
  a session that exists, on that session's lease. It begins by a campaign (the key was absent; the heartbeat
  is written with it), a steal (it was there; the heartbeat is written with it by the new holder) or a
  handover (it was there; the heartbeat is deleted with it, and the heir had reported).
- A heartbeat, an offer and the record of the running term name their author: it holds the ACTIVE key. A
  heartbeat is deleted only together with a change of the ACTIVE key, and a switchover is done only by a
  handover in the same revision, to whom was asked for.
- Windows and metadata name nobody, but whoever writes them holds the ACTIVE key, so they are never written
  while it is absent, nor in one revision with its change. Windows strictly increase. Metadata carries
  timestamps and IDs, and these come out of the windows that its author has saved: a write by somebody deposed
  shows by a timestamp below the term's first. Each mark of changes carries ever higher timestamps, and
  no user, role, grant or privilege group changes without its mark, but for what a new term finds missing. No
  import task ever changes without its mark.
- Server IDs are never used twice. Keys of no known family are not written.

Source of truth: design of the leadership keys in `coordd/ha/leadership.py`; Milvus 2.3.5 session_util.go.
"""

import json
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, NoReturn

from coordd.etcd import Event
from coordd.meta.keys import (
    DatabaseKey,
    GranteeIdKey,
    GranteeKey,
    ImportTaskKey,
    PrivilegeGroupKey,
    RoleKey,
    SessionKey,
    StandbyReportKey,
    UserKey,
    UserRoleKey,
)
from coordd.meta.layout import MetaLayout
from tests.support.linearizability import Violation

NS_PER_MS: Final = 1_000_000
LOGICAL_BITS: Final = 18
FIRST_DATABASES: Final = frozenset({1})
"""IDs that Milvus fixed: that of the default database."""
ACCESS: Final = (UserKey, RoleKey, UserRoleKey, GranteeKey, GranteeIdKey, PrivilegeGroupKey)
"""Keys of users, roles and privileges."""
STORY_LENGTH: Final = 60


@dataclass(frozen=True, slots=True)
class Term:
    """One leadership term. `epoch`: the revision that began it; `began`, `ended`: how."""

    epoch: int
    server_id: int
    lease: int
    began: str
    timestamp_floor_ns: int
    id_floor_ns: int
    ended: str = ""


class EtcdAudit:
    """`feed` it all events of the root, in order. Raises `Violation` at the first revision that is wrong."""

    def __init__(self, layout: MetaLayout, role: str) -> None:
        self.revision = 0
        self.term: Term | None = None
        self.terms = 0
        self.began: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self._layout = layout
        self._role = role
        self._active_key = layout.session(role)
        self._heartbeat_key = layout.heartbeat(role)
        self._access_key = layout.ddl(f"{role}-access")
        self._import_key = layout.ddl(f"{role}-import")
        self._marks = {layout.ddl(role): 0, self._access_key: 0, self._import_key: 0}
        self._access_epoch = 0
        self._last_end = ""
        self._windows = {layout.timestamp: 0, layout.id_window: 0}
        self._sessions: dict[int, int] = {}
        self._reports: dict[int, dict[str, Any]] = {}
        self._used_ids: set[int] = set()
        self._counter = 0
        self._heartbeat: int | None = None
        self._story: deque[str] = deque(maxlen=STORY_LENGTH)

    @property
    def timestamp_end(self) -> int:
        """The first timestamp that no saved window covers."""
        return self._windows[self._layout.timestamp] // NS_PER_MS << LOGICAL_BITS

    @property
    def id_end(self) -> int:
        """The first ID that no saved window covers."""
        return self._windows[self._layout.id_window] // NS_PER_MS << LOGICAL_BITS

    @property
    def servers(self) -> list[int]:
        """Server IDs whose sessions exist now."""
        return sorted(self._sessions)

    @property
    def synced_standbys(self) -> list[int]:
        """Server IDs of standbys that have reported that their tables are up to date."""
        holder = self.term.server_id if self.term is not None else 0
        return [one for one in self.servers if one != holder and self._reports.get(one, {}).get("Synced")]

    def feed(self, events: Iterable[Event]) -> None:
        """Take whole revisions, in order.

        Raises:
            Violation: a revision was written by somebody who could not.
        """
        for revision, group in groupby(events, key=lambda event: event.mod_revision):
            self._take(revision, list(group))

    def _take(self, revision: int, events: list[Event]) -> None:
        self._story.append(f"{revision}: " + ", ".join(map(self._spell, events)))
        if revision <= self.revision:
            self._fail(revision, f"comes after revision {self.revision}")
        self.revision = revision
        by_key = {event.key: event for event in events}
        self._take_sessions(revision, events)
        change = by_key.get(self._active_key)
        if change is not None:
            self._change_leadership(revision, change, by_key)
        for event in events:
            if event.key != self._active_key:
                self._judge(revision, event, changes=change is not None)
        self._judge_access(revision, by_key)
        self._judge_imports(revision, by_key)
        self._take_reports(events)

    # --- sessions ---

    def _take_sessions(self, revision: int, events: list[Event]) -> None:
        for event in events:
            key = self._layout.parse(event.key)
            if event.key == self._layout.server_id_counter and event.value is not None:
                if int(event.value) <= self._counter:
                    self._fail(revision, f"the counter of server IDs goes from {self._counter} back")
                self._counter = int(event.value)
            if not isinstance(key, SessionKey) or key.role != self._role or key.server_id is None:
                continue
            if event.value is None:
                self._sessions.pop(key.server_id, None)
                continue
            if key.server_id not in self._sessions and key.server_id in self._used_ids:
                self._fail(revision, f"server ID {key.server_id} is used again")
            if not event.lease:
                self._fail(revision, f"session {key.server_id} hangs on no lease")
            self._used_ids.add(key.server_id)
            self._sessions[key.server_id] = event.lease

    def _take_reports(self, events: list[Event]) -> None:
        for event in events:
            key = self._layout.parse(event.key)
            if isinstance(key, StandbyReportKey) and key.role == self._role:
                if event.value is None:
                    self._reports.pop(key.server_id, None)
                else:
                    self._reports[key.server_id] = json.loads(event.value)

    # --- terms ---

    def _change_leadership(self, revision: int, change: Event, by_key: dict[str, Event]) -> None:
        before, heartbeat = self.term, by_key.get(self._heartbeat_key)
        if change.value is None:
            self._last_end = self._how_it_ended(before, heartbeat, by_key)
            self.ended[self._last_end] += 1
            self.term = None
            return
        holder = int(json.loads(change.value)["ServerID"])
        if self._sessions.get(holder) != change.lease:
            self._fail(
                revision, f"{holder} holds the ACTIVE key, but not on the lease of a session of its own"
            )
        if before is None:
            began = f"after {self._last_end}" if self._last_end else "first"
        elif holder == before.server_id:
            self._fail(revision, f"{holder} rewrote its own ACTIVE key")
        elif heartbeat is not None and heartbeat.value is not None:
            began = "stolen"
        else:
            began = "handed over"
            self._check_handover(revision, holder, heartbeat)
        if began != "handed over" and (heartbeat is None or heartbeat.value is None):
            self._fail(revision, f"{holder} won the ACTIVE key without a heartbeat")
        if before is not None:
            self.ended[began] += 1
        self.terms += 1
        self.began[began] += 1
        self.term = Term(
            revision, holder, change.lease, began,
            self._windows[self._layout.timestamp], self._windows[self._layout.id_window],
        )  # fmt: skip

    def _how_it_ended(self, term: Term | None, heartbeat: Event | None, by_key: dict[str, Event]) -> str:
        if heartbeat is not None and heartbeat.value is None:
            return "resignation"
        if term is not None:
            session = by_key.get(self._layout.session(self._role, term.server_id))
            if session is not None and session.value is None:
                return "lease end"
        return "deletion"

    def _check_handover(self, revision: int, heir: int, heartbeat: Event | None) -> None:
        if heartbeat is None and self._heartbeat is not None:
            self._fail(revision, f"{heir} got the ACTIVE key, and the heartbeat of its predecessor stays")
        report = self._reports.get(heir)
        if report is None or not report.get("Offer"):
            self._fail(revision, f"{heir} was made heir, though its report is {report}")

    # --- what a term writes ---

    def _judge(self, revision: int, event: Event, *, changes: bool) -> None:
        layout, key = self._layout, event.key
        if key == self._heartbeat_key:
            self._judge_heartbeat(revision, event, changes=changes)
        elif key in self._windows:
            self._judge_window(revision, event, changes=changes)
        elif key in self._marks:
            self._judge_mark(revision, event, changes=changes)
        elif key.startswith(layout.session_prefix):
            return
        elif key.startswith(layout.coordination_prefix):
            self._judge_coordination(revision, event)
        elif key.startswith((layout.snapshot_prefix, layout.root_coord_prefix, layout.import_task_prefix)):
            self._judge_metadata(revision, event, changes=changes)
        else:
            self._fail(revision, f"{key} belongs to no known family")

    def _judge_heartbeat(self, revision: int, event: Event, *, changes: bool) -> None:
        if event.value is None:
            self._heartbeat = None
            if not changes:
                self._fail(revision, "the heartbeat was deleted outside a change of leadership")
            return
        self.written["heartbeat"] += 1
        self._heartbeat = int(json.loads(event.value)["ServerID"])
        self._must_be_holder(revision, "heartbeat", self._heartbeat)

    def _judge_window(self, revision: int, event: Event, *, changes: bool) -> None:
        # The transaction that makes a term may save its first windows.
        self._must_be_in_term(revision, event, changes=changes and self.term is None)
        if event.value is None or len(event.value) != 8:
            self._fail(revision, f"{event.key} was set to {event.value!r}")
        self.written["window"] += 1
        value = int.from_bytes(event.value, "big")
        if value <= self._windows[event.key]:
            self._fail(revision, f"{event.key} went from {self._windows[event.key]} to {value}")
        self._windows[event.key] = value

    def _judge_mark(self, revision: int, event: Event, *, changes: bool) -> None:
        term = self._must_be_in_term(revision, event, changes=changes)
        self.written["mark"] += 1
        mark = int((event.value or b"0").split()[0])
        self._must_come_from(revision, event, mark, term.timestamp_floor_ns, self.timestamp_end)
        if mark <= self._marks[event.key]:
            self._fail(revision, f"the mark of changes went from {self._marks[event.key]} to {mark}")
        self._marks[event.key] = mark

    def _judge_coordination(self, revision: int, event: Event) -> None:
        layout, key = self._layout, event.key
        if event.value is None:
            return
        if key == layout.offer(self._role):
            self.written["offer"] += 1
            self._must_be_holder(revision, "offer", int(json.loads(event.value)["ServerID"]))
        elif key.startswith(layout.history_of(self._role)):
            self.written["history"] += 1
            epoch = int(key.rpartition("/")[2])
            if self.term is not None and epoch == self.term.epoch:
                self._must_be_holder(revision, "history", int(json.loads(event.value)["ServerID"]))
        elif key.startswith(layout.standby_prefix):
            self.written["report"] += 1
            server_id = int(json.loads(event.value)["ServerID"])
            if self._sessions.get(server_id) != event.lease:
                self._fail(revision, f"{server_id} reports, but not on the lease of its session")
        elif key == layout.switchover(self._role):
            self._judge_switchover(revision, json.loads(event.value))
        else:
            self._fail(revision, f"{key} belongs to no known family")

    def _judge_switchover(self, revision: int, request: dict[str, Any]) -> None:
        if request["State"] == "asked":
            return
        self.written["answer"] += 1
        if self.term is None:
            self._fail(revision, "a switchover was answered outside every term")
        handed_over = self.term.epoch == revision and self.term.began == "handed over"
        if request["State"] == "done" and not (handed_over and request["Heir"] == self.term.server_id):
            self._fail(revision, f"a switchover is done, but leadership was not passed on: {request}")
        if request["State"] == "done" and request["To"] not in (0, request["Heir"]):
            self._fail(revision, f"a switchover went to somebody else: {request}")

    def _judge_metadata(self, revision: int, event: Event, *, changes: bool) -> None:
        term = self._must_be_in_term(revision, event, changes=changes)
        self.written["metadata"] += 1
        if event.value is None:
            return
        snapshot = self._layout.parse_snapshot(event.key)
        if snapshot is not None:
            self._must_come_from(revision, event, snapshot[1], term.timestamp_floor_ns, self.timestamp_end)
        key = self._layout.parse(event.key)
        if isinstance(key, DatabaseKey) and event.version == 1 and key.db_id not in FIRST_DATABASES:
            self._must_come_from(revision, event, key.db_id, term.id_floor_ns, self.id_end)
        if isinstance(key, ImportTaskKey) and event.version == 1:
            self._must_come_from(revision, event, key.task_id, term.id_floor_ns, self.id_end)

    def _judge_access(self, revision: int, by_key: dict[str, Event]) -> None:
        """Users, roles, grants change under their mark; before its first use in a term some may be added."""
        if self._access_key in by_key:
            self.written["access"] += 1
            self._access_epoch = self.term.epoch if self.term is not None else 0
            return
        for key, event in by_key.items():
            if not isinstance(self._layout.parse(key), ACCESS):
                continue
            begins = self.term is not None and self.term.epoch != self._access_epoch
            if event.value is None or not begins:
                self._fail(revision, f"{key} was written without the mark of changes")

    def _judge_imports(self, revision: int, by_key: dict[str, Event]) -> None:
        if self._import_key in by_key:
            return
        for key in by_key:
            if isinstance(self._layout.parse(key), ImportTaskKey):
                self._fail(revision, f"{key} was written without the mark of changes")

    def _must_come_from(self, revision: int, event: Event, number: int, floor_ns: int, end: int) -> None:
        if not (number >> LOGICAL_BITS) * NS_PER_MS > floor_ns or number >= end:
            self._fail(
                revision,
                f"{event.key} was written with {number}, which is none of its author's, if that is"
                f" {self.term}: those end at {end}",
            )

    def _must_be_in_term(self, revision: int, event: Event, *, changes: bool) -> Term:
        if self.term is None or changes:
            self._fail(revision, f"{event.key} was written outside every term")
        return self.term

    def _must_be_holder(self, revision: int, what: str, author: int) -> None:
        if self.term is None or self.term.server_id != author:
            self._fail(revision, f"{what} was written by {author}, not by the holder of the ACTIVE key")

    def _spell(self, event: Event) -> str:
        key = event.key.removeprefix(self._layout.root)
        if event.value is None:
            return f"delete {key}"
        return f"{key} = {event.value[:160]!r}" + (f" on lease {event.lease:x}" if event.lease else "")

    def _fail(self, revision: int, what: str) -> NoReturn:
        story = "\n  ".join(self._story)
        raise Violation(
            f"etcd revision {revision}: {what}\nterm: {self.term}\nrevisions before it:\n  {story}"
        )
