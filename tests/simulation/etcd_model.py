"""etcd as the election uses it: revisions, transactions with compares, leases, the history a watch delivers.

Keys: the ACTIVE key, the heartbeat, the offer, the window of timestamps, and for each replica of coordd its
session and its report. Leases run on etcd's own clock and only while it is up; a restart renews every lease
in full, as a new etcd leader does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from coordd.ha.election_events import Offer, Standby

from .event_queue import EventQueue

ACTIVE = "ACTIVE"
HEARTBEAT = "heartbeat"
OFFER = "offer"
WINDOW = "window"
_SHARED = (ACTIVE, HEARTBEAT, OFFER, WINDOW)


def session_key(server_id: int) -> str:
    """The key that a replica of coordd exists by; on its lease."""
    return f"session-{server_id}"


def report_key(server_id: int) -> str:
    """The standby's report; its value is the offer for which it is ready. On its lease."""
    return f"standby-{server_id}"


class Stored(NamedTuple):
    """A key's value, the revision that wrote it, and its lease (0: none)."""

    value: Any
    mod_revision: int
    lease: int


class Holder(NamedTuple):
    """Value of the ACTIVE key; `safe`: a replica of coordd."""

    server_id: int
    safe: bool


class Beat(NamedTuple):
    """Value of the heartbeat."""

    guard_s: float
    settled: bool


class Leadership(NamedTuple):
    """The leadership keys as of one revision; what a watch of their range shows. Absent: 0 and None."""

    revision: int
    active_mod_revision: int = 0
    holder: int | None = None
    holder_is_safe: bool = False
    holder_lease: int = 0
    heartbeat_mod_revision: int = 0
    beat: Beat | None = None
    offer: Offer | None = None
    standbys: tuple[Standby, ...] = ()


class Answer(NamedTuple):
    """Answer to a transaction. If its compares failed, `keys` are the keys as they were then."""

    succeeded: bool
    revision: int
    keys: Mapping[str, Stored]


class Lease:
    """A lease and the keys on it. `expires_at` is true time; it is moved on by every renewal."""

    __slots__ = ("expires_at", "keys", "lease_id", "ttl_s")

    def __init__(self, lease_id: int, ttl_s: float, expires_at: float) -> None:
        self.lease_id = lease_id
        self.ttl_s = ttl_s
        self.expires_at = expires_at
        self.keys: set[str] = set()


LEASE_NOT_FOUND = Answer(succeeded=False, revision=-1, keys={})
"""What a transaction answers that puts a key on a lease that is gone. Nothing was done."""


class EtcdModel:
    """One logical etcd. `rate` is its clock's seconds per true second."""

    __slots__ = (
        "_next_lease", "_on_change", "_queue", "_standbys", "active_at", "heartbeat_at", "history", "keys",
        "leases", "rate", "refusing", "revision", "up",
    )  # fmt: skip

    def __init__(self, queue: EventQueue, rate: float, on_change: Callable[[], None]) -> None:
        self._queue = queue
        self._on_change = on_change
        self._next_lease = 1
        self._standbys: tuple[Standby, ...] | None = ()
        self.rate = rate
        self.up = True
        self.refusing = False
        """While it is down: requests are refused at once, instead of staying without an answer."""
        self.revision = 1
        self.keys: dict[str, Stored] = {}
        self.leases: dict[int, Lease] = {}
        self.history: list[Leadership] = [Leadership(1)]
        self.heartbeat_at = 0.0
        """True time at which the heartbeat was last written; `active_at`: likewise the ACTIVE key."""
        self.active_at = 0.0

    def mod_revision(self, key: str) -> int:
        """Revision that wrote `key`; 0 if it is absent."""
        stored = self.keys.get(key)
        return stored.mod_revision if stored else 0

    def txn(
        self,
        compares: Sequence[tuple[str, int]],
        puts: Sequence[tuple[str, Any, int]] = (),
        deletes: Sequence[str] = (),
    ) -> Answer:
        """If every compare (key, mod_revision) holds, do all `puts` (key, value, lease) and `deletes`."""
        for key, expected in compares:
            if self.mod_revision(key) != expected:
                return Answer(False, self.revision, dict(self.keys))
        for _, _, lease in puts:
            if lease and lease not in self.leases:
                return LEASE_NOT_FOUND
        gone = [key for key in deletes if key in self.keys]
        if not puts and not gone:
            return Answer(True, self.revision, dict(self.keys))
        self.revision += 1
        for key in gone:
            self._detach(key)
            del self.keys[key]
            self._changed(key)
        for key, value, lease in puts:
            self._detach(key)
            self.keys[key] = Stored(value, self.revision, lease)
            if lease:
                self.leases[lease].keys.add(key)
            self._changed(key)
        self._record()
        return Answer(True, self.revision, {})

    # --- leases ---

    def grant(self, ttl_s: float) -> int:
        """A new lease."""
        lease = Lease(self._next_lease, ttl_s, self._queue.now + ttl_s / self.rate)
        self._next_lease += 1
        self.leases[lease.lease_id] = lease
        self._queue.at(lease.expires_at, None, self._expire, lease)
        return lease.lease_id

    def keep_alive(self, lease_id: int) -> float:
        """Renew a lease in full; the time left, 0 if etcd does not know it."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return 0.0
        lease.expires_at = self._queue.now + lease.ttl_s / self.rate
        return lease.ttl_s

    def revoke(self, lease_id: int) -> None:
        """End a lease and delete its keys; nothing if it is gone."""
        lease = self.leases.pop(lease_id, None)
        if lease is not None and lease.keys:
            self.txn((), deletes=sorted(lease.keys))

    def _expire(self, lease: Lease) -> None:
        if lease.lease_id not in self.leases or not self.up:
            return  # a restart renews and schedules anew
        if self._queue.now < lease.expires_at:
            self._queue.at(lease.expires_at, None, self._expire, lease)
        else:
            self.revoke(lease.lease_id)

    # --- outages ---

    def stop(self, *, refusing: bool = False) -> None:
        """No request is carried out, no event delivered, no lease runs."""
        self.up = False
        self.refusing = refusing

    def start(self) -> None:
        """After an outage: every lease has its full time again."""
        if self.up:
            return
        self.up = True
        for lease in self.leases.values():
            lease.expires_at = self._queue.now + lease.ttl_s / self.rate
            self._queue.at(lease.expires_at, None, self._expire, lease)
        self._on_change()

    def _detach(self, key: str) -> None:
        stored = self.keys.get(key)
        if stored is not None and stored.lease in self.leases:
            self.leases[stored.lease].keys.discard(key)

    # --- what a watch shows ---

    def _changed(self, key: str) -> None:
        if key == HEARTBEAT:
            self.heartbeat_at = self._queue.now
        elif key not in _SHARED:
            self._standbys = None
        elif key == ACTIVE:
            self._standbys = None
            self.active_at = self._queue.now

    def _record(self) -> None:
        keys = self.keys
        active, beat, offer = keys.get(ACTIVE), keys.get(HEARTBEAT), keys.get(OFFER)
        if self._standbys is None:
            self._standbys = tuple(self._registered(active.value.server_id if active else 0))
        self.history.append(
            Leadership(
                self.revision,
                active.mod_revision if active else 0,
                active.value.server_id if active else None,
                active.value.safe if active else False,
                active.lease if active else 0,
                beat.mod_revision if beat else 0,
                beat.value if beat else None,
                Offer(offer.mod_revision, *offer.value) if offer else None,
                self._standbys,
            )
        )
        self._on_change()

    def _registered(self, holder: int) -> list[Standby]:
        standbys = []
        for key in self.keys:
            if not key.startswith("session-"):
                continue
            server_id = int(key.removeprefix("session-"))
            if server_id != holder:
                report = self.keys.get(report_key(server_id))
                standbys.append(
                    Standby(server_id, report.mod_revision, report.value) if report else Standby(server_id)
                )
        return sorted(standbys, key=lambda standby: standby.server_id)
