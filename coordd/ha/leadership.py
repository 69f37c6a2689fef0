"""The leadership keys of one role: what is read of them (tables), and the transactions that change them.

`<meta>/session/<role>` is the ACTIVE key, `<meta>/session-coordd/heartbeat/<role>` the heartbeat. A
heartbeat's value is JSON `{"ServerID":12,"ServeGuardMs":2000}`: its author, and how long after sending it the
author may go on answering. It hangs on no lease: only a replica that stops by itself deletes it.

Source of the campaign: Milvus 2.3.5 internal/util/sessionutil/session_util.go (ProcessActiveStandBy).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coordd.clock import boottime
from coordd.etcd import Compare, Delete, EtcdClient, Event, Get, Op, Put, RangeResult
from coordd.ha.session import SessionRecord, SessionRecordError
from coordd.meta.codecs import DecodeError
from coordd.meta.layout import MetaLayout


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A session key as last observed. `record` is None when the value is not a session record."""

    key: str
    mod_revision: int
    lease: int
    record: SessionRecord | None


class SessionTable:
    """All session keys, by the part after `session/`: `rootcoord`, `rootcoord-12`, `proxy-7`.

    A key whose value does not decode stays in the table without a record: that it exists decides who may
    campaign, and a corrupt ACTIVE record must keep standbys waiting, not make the role look free.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.session_prefix
        self._entries: dict[str, SessionEntry] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: the value is not a session record.
        """
        name = event.key[len(self.prefix) :]
        if event.value is None or name == "id":
            self._entries.pop(name, None)
            return
        try:
            record = SessionRecord.from_json(event.value)
        except SessionRecordError as error:
            self._entries[name] = SessionEntry(event.key, event.mod_revision, event.lease, None)
            raise DecodeError(event.key, str(error)) from error
        self._entries[name] = SessionEntry(event.key, event.mod_revision, event.lease, record)

    def get(self, name: str) -> SessionEntry | None:
        """The session under `session/<name>`, if there is one."""
        return self._entries.get(name)

    def of_role(self, role: str) -> list[SessionEntry]:
        """All sessions `session/<role>-<id>` in order of their server ID."""
        entries = [
            entry
            for name, entry in self._entries.items()
            if name.startswith(f"{role}-") and name[len(role) + 1 :].isdecimal()
        ]
        return sorted(entries, key=lambda entry: int(entry.key.rpartition("-")[2]))


@dataclass(frozen=True, slots=True)
class HeartbeatEntry:
    """A heartbeat key as last observed. The fields are None when its value does not say."""

    mod_revision: int
    server_id: int | None
    serve_guard_s: float | None


class HeartbeatTable:
    """The heartbeat keys of all roles."""

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.heartbeat_prefix
        self._entries: dict[str, HeartbeatEntry] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: the value is not a heartbeat; the key stays known by its mod_revision.
        """
        role = event.key[len(self.prefix) :]
        if event.value is None:
            self._entries.pop(role, None)
            return
        try:
            server_id, serve_guard_s = decode_heartbeat(event.value)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            self._entries[role] = HeartbeatEntry(event.mod_revision, None, None)
            raise DecodeError(event.key, f"not a heartbeat: {error}") from error
        self._entries[role] = HeartbeatEntry(event.mod_revision, server_id, serve_guard_s)

    def get(self, role: str) -> HeartbeatEntry | None:
        """The heartbeat of `role`, if there is one."""
        return self._entries.get(role)


def encode_heartbeat(server_id: int, serve_guard_ms: int) -> bytes:
    """The value of a heartbeat key."""
    return json.dumps({"ServerID": server_id, "ServeGuardMs": serve_guard_ms}, separators=(",", ":")).encode()


def decode_heartbeat(value: bytes) -> tuple[int, float]:
    """Author and serve guard in seconds.

    Raises:
        ValueError, KeyError, TypeError, OverflowError, RecursionError: not a heartbeat.
    """
    fields = json.loads(value)
    guard_ms = int(fields["ServeGuardMs"])
    if guard_ms < 0:
        raise ValueError(f"ServeGuardMs is {guard_ms}")
    return int(fields["ServerID"]), guard_ms / 1000


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """Outcome of a campaign transaction; `epoch` is 0 if it lost.

    Of a lost one: the ACTIVE key's entry (None: absent) and the heartbeat's mod_revision (0: absent).
    """

    epoch: int
    sent_at: float
    holder: SessionEntry | None = None
    heartbeat_mod_revision: int = 0


class Leadership:
    """The transactions on the leadership keys of one role, for one session."""

    def __init__(
        self,
        client: EtcdClient,
        layout: MetaLayout,
        record: SessionRecord,
        companions: Sequence[str],
    ) -> None:
        self._client = client
        self._role = record.server_name
        self._record = record
        self._companions = companions
        self._layout = layout
        self.active_key = layout.session(self._role)
        self.heartbeat_key = layout.heartbeat(self._role)

    def fence(self, epoch: int) -> Compare:
        """The compare that holds while this term does."""
        return Compare.mod_revision(self.active_key, epoch)

    async def campaign(self, expected_heartbeat_revision: int, guard_s: float) -> CampaignResult:
        """Take the ACTIVE key if it is absent and the heartbeat is the one observed; write a heartbeat too.

        `guard_s` is the serve guard that the heartbeat publishes (`Election.published_guard_s`).
        Repeating it after an unknown outcome is safe: of two, only one can find the key absent.

        Raises:
            EtcdError: not carried out, or outcome unknown.
        """
        lease, value = self._record.lease_id, self._record.written_now().to_json()
        sent_at = boottime()
        result = await self._client.txn(
            [
                Compare.version(self.active_key, 0),
                Compare.mod_revision(self.heartbeat_key, expected_heartbeat_revision),
            ],
            [
                Put(self.active_key, value, lease),
                self._put_heartbeat(guard_s),
                *(
                    Put(self._layout.session(name), self._companion_value(name), lease)
                    for name in self._companions
                ),
            ],
            [Get(self.active_key), Get(self.heartbeat_key)],
        )
        if result.succeeded:
            return CampaignResult(result.revision, sent_at)
        active, heartbeat = result.responses
        if not isinstance(active, RangeResult) or not isinstance(heartbeat, RangeResult):
            raise TypeError(f"etcd answered a read with {active!r}")
        return CampaignResult(
            0, sent_at, _entry(active), heartbeat.kvs[0].mod_revision if heartbeat.kvs else 0
        )

    async def heartbeat(self, epoch: int, guard_s: float) -> bool:
        """Rewrite the heartbeat under the fence; False if the epoch is lost."""
        return (await self._client.txn([self.fence(epoch)], [self._put_heartbeat(guard_s)])).succeeded

    async def resign(self, epoch: int) -> bool:
        """Delete the ACTIVE and the heartbeat key under the fence; False if the epoch was lost before."""
        keys = [
            self.active_key,
            self.heartbeat_key,
            *(self._layout.session(name) for name in self._companions),
        ]
        deletes: list[Op] = [Delete(key) for key in keys]
        return (await self._client.txn([self.fence(epoch)], deletes)).succeeded

    async def remove_predecessor(self, holder: SessionEntry) -> bool:
        """Delete the ACTIVE key of an earlier process on this very address, as Milvus does on a restart.

        Only an older server ID on the same address qualifies: this process owns that port now, so the other
        is gone. False if the holder is somebody else or the key has changed since.
        """
        record = holder.record
        if (
            record is None
            or record.address != self._record.address
            or record.server_id >= self._record.server_id
        ):
            return False
        result = await self._client.txn(
            [Compare.mod_revision(self.active_key, holder.mod_revision)], [Delete(self.active_key)]
        )
        return result.succeeded

    def _put_heartbeat(self, guard_s: float) -> Put:
        return Put(self.heartbeat_key, encode_heartbeat(self._record.server_id, math.ceil(guard_s * 1000)))

    def _companion_value(self, name: str) -> bytes:
        return replace(self._record, server_name=name).to_json()


def _entry(result: RangeResult) -> SessionEntry | None:
    if not result.kvs:
        return None
    kv = result.kvs[0]
    try:
        record = SessionRecord.from_json(kv.value)
    except SessionRecordError:
        record = None
    return SessionEntry(kv.key, kv.mod_revision, kv.lease, record)
