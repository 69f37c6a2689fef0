"""What the parts of one session share: its record, its surroundings, and the way to its election."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from coordd.etcd import EtcdClient
from coordd.etcd.errors import LeaseLost
from coordd.ha import election as el
from coordd.ha import election_events as ev
from coordd.ha.announcements import Announcements
from coordd.ha.coordinator import Coordinator, Detect, ForwarderFactory
from coordd.ha.follower import Follower
from coordd.ha.gate import LeadershipGate
from coordd.ha.history import TermLog
from coordd.ha.leadership import Leadership
from coordd.ha.phases import Phases
from coordd.ha.registration import Session
from coordd.ha.server_slot import ServerSlot
from coordd.ha.settings import ReplicaSettings
from coordd.ha.tables import CoordinationTables
from coordd.log import get_logger
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout

log = get_logger("coordd.ha.context")


@dataclass(frozen=True, slots=True, repr=False)
class Surroundings:
    """What a replica owns for the life of the process, as its sessions use it.

    `detect` waits for evidence that another replica's process is gone; None: nobody looks.
    """

    settings: ReplicaSettings
    client: EtcdClient
    layout: MetaLayout
    coordinator: Coordinator
    server: ServerSlot
    make_forwarder: ForwarderFactory
    detect: Detect | None
    gate: LeadershipGate
    fold: Fold
    follower: Follower
    tables: CoordinationTables
    term_log: TermLog


@dataclass(frozen=True, slots=True, repr=False)
class SessionContext:
    """One session as its parts see it. `start(coroutine, name)` runs a task that ends with the session."""

    around: Surroundings
    session: Session
    election: el.Election
    leadership: Leadership
    say: Announcements
    phases: Phases
    handle: Callable[[ev.Event], None]
    start: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]]

    @property
    def role(self) -> str:
        """Milvus' name of the role."""
        return self.session.record.server_name

    @property
    def server_id(self) -> int:
        """This session's."""
        return self.session.record.server_id

    def lease_lost(self, error: LeaseLost) -> None:
        """etcd says that the session's lease is gone."""
        log.warning("the session's lease is gone", role=self.role, reason=str(error))
        self.handle(ev.LeaseLost())
