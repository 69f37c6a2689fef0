"""The leadership keys of one role: what is read of them (tables), and the transactions that change them.

`<meta>/session/<role>` is the ACTIVE key, `<meta>/session-coordd/heartbeat/<role>` the heartbeat. A
heartbeat's value is JSON `{"ServerID":12,"ServeGuardMs":2000,"Settled":true}`: its author, how long after
sending it the author may go on answering, and whether nobody before the author can answer any more. It hangs
on no lease: only a replica that gives leadership up by itself deletes it.

Source of the campaign: Milvus 2.3.5 internal/util/sessionutil/session_util.go (ProcessActiveStandBy).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from coordd.clock import boottime
from coordd.etcd import Compare, Delete, EtcdClient, Event, Get, Op, OpResult, Put, RangeResult, TxnResult
from coordd.ha.election import Promise
from coordd.ha.session import SessionRecord, SessionRecordError
from coordd.ha.standbys import encode_offer, encode_report
from coordd.meta.codecs import DecodeError
from coordd.meta.layout import MetaLayout

HANDOVER_TIMEOUT_S = 1.0
"""Requests are held meanwhile; asking again is safe."""


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

    Attributes:
        changes: how often an event was taken in; who has seen as many has seen the present state.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.session_prefix
        self.changes = 0
        self._entries: dict[str, SessionEntry] = {}

    def apply(self, event: Event) -> None:
        """Take one event.

        Raises:
            DecodeError: the value is not a session record.
        """
        name = event.key[len(self.prefix) :]
        self.changes += 1
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
    settled: bool = False


class Heartbeat(NamedTuple):
    """The value of a heartbeat: author, its serve guard in seconds, whether it is settled."""

    server_id: int
    serve_guard_s: float
    settled: bool


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
            value = decode_heartbeat(event.value)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            self._entries[role] = HeartbeatEntry(event.mod_revision, None, None)
            raise DecodeError(event.key, f"not a heartbeat: {error}") from error
        self._entries[role] = HeartbeatEntry(event.mod_revision, *value)

    def get(self, role: str) -> HeartbeatEntry | None:
        """The heartbeat of `role`, if there is one."""
        return self._entries.get(role)


def encode_heartbeat(server_id: int, serve_guard_ms: int, *, settled: bool) -> bytes:
    """The value of a heartbeat key."""
    fields = {"ServerID": server_id, "ServeGuardMs": serve_guard_ms, "Settled": settled}
    return json.dumps(fields, separators=(",", ":")).encode()


def decode_heartbeat(value: bytes) -> Heartbeat:
    """The heartbeat that `value` stands for; one that does not say is not settled.

    Raises:
        ValueError, KeyError, TypeError, OverflowError, RecursionError: not a heartbeat.
    """
    fields = json.loads(value)
    guard_ms = int(fields["ServeGuardMs"])
    if guard_ms < 0:
        raise ValueError(f"ServeGuardMs is {guard_ms}")
    return Heartbeat(int(fields["ServerID"]), guard_ms / 1000, fields.get("Settled") is True)


@dataclass(frozen=True, slots=True)
class CampaignResult:
    """Outcome of a campaign transaction; `epoch` is 0 if it lost.

    Of a won one: the `results` of the operations that went along. Of a lost one: the ACTIVE key's entry
    (None: absent) and the heartbeat's mod_revision (0: absent).
    """

    epoch: int
    sent_at: float
    holder: SessionEntry | None = None
    heartbeat_mod_revision: int = 0
    results: Sequence[OpResult] = ()


class HandoverResult(Enum):
    """What became of a handover transaction."""

    COMMITTED = "committed"
    REFUSED = "refused"
    """Nothing was written, and the ACTIVE key is ours."""
    LOST = "lost"
    """Nothing was written, and the ACTIVE key is not ours any more."""


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
        self.offer_key = layout.offer(self._role)
        self.report_key = layout.standby_report(self._role, record.server_id)

    def fence(self, epoch: int) -> Compare:
        """The compare that holds while this term does."""
        return Compare.mod_revision(self.active_key, epoch)

    # --- standing by ---

    async def report(self, revision: int, *, synced: bool, offer: int = 0) -> int:
        """Write the standby's report on the session's lease; returns the revision that it took.

        Raises:
            LeaseLost: the session's lease is gone.
            EtcdError: not written, or outcome unknown.
        """
        value = encode_report(self._record.server_id, revision, synced=synced, offer=offer)
        return await self._client.put(self.report_key, value, lease=self._record.lease_id)

    async def prove_commits(self) -> None:
        """Have etcd commit a request of ours that changes nothing: the deletion of a key that never exists.

        Raises:
            EtcdError: not committed, or outcome unknown.
        """
        await self._client.delete(self._layout.standby_report(self._role, 0))

    async def campaign(
        self,
        expected_active_revision: int,
        expected_heartbeat_revision: int,
        promise: Promise,
        ops: Sequence[Op] = (),
    ) -> CampaignResult:
        """Take the ACTIVE key if it and the heartbeat are as observed (0: absent); write a heartbeat too.

        `ops` go along.

        Repeating it after an unknown outcome is safe: of two, only one can find the keys unchanged.

        Raises:
            EtcdError: not carried out, or outcome unknown.
        """
        sent_at = boottime()
        result = await self._client.txn(
            [
                Compare.mod_revision(self.active_key, expected_active_revision),
                Compare.mod_revision(self.heartbeat_key, expected_heartbeat_revision),
            ],
            [
                *self._put_records(self._record.written_now(), self._record.lease_id),
                self._put_heartbeat(promise),
                Delete(self.offer_key),
                Delete(self.report_key),
                *ops,
            ],
            [Get(self.active_key), Get(self.heartbeat_key)],
        )
        if result.succeeded:
            return CampaignResult(
                result.revision, sent_at, results=result.responses[len(result.responses) - len(ops) :]
            )
        active, heartbeat = _ranges(result)
        return CampaignResult(
            0, sent_at, _entry(active), heartbeat.kvs[0].mod_revision if heartbeat.kvs else 0
        )

    # --- leading ---

    async def heartbeat(self, epoch: int, promise: Promise) -> int:
        """Rewrite the heartbeat under the fence; returns the revision, 0 if the epoch is lost."""
        result = await self._client.txn([self.fence(epoch)], [self._put_heartbeat(promise)])
        return result.revision if result.succeeded else 0

    async def write(self, epoch: int, ops: Sequence[Op], compares: Sequence[Compare] = ()) -> bool:
        """Write something about the term under the fence; False if the epoch is lost or a compare fails."""
        return (await self._client.txn([self.fence(epoch), *compares], ops)).succeeded

    async def make_offer(self, epoch: int, to: int) -> bool:
        """Ask the standbys (`to` 0), or one of them, for an heir; False if the epoch is lost."""
        return await self.write(epoch, [Put(self.offer_key, encode_offer(self._record.server_id, to))])

    async def withdraw_offer(self, epoch: int) -> bool:
        """Take the offer back; False if the epoch is lost."""
        return await self.write(epoch, [Delete(self.offer_key)])

    async def hand_over(
        self,
        epoch: int,
        heir: SessionEntry,
        report_revision: int,
        ops: Sequence[Op] = (),
        compares: Sequence[Compare] = (),
    ) -> HandoverResult:
        """Make `heir` the holder of the ACTIVE key, on its own lease, and end this term; `ops` go along.

        Only while the heir's session and the report in which it says that it is ready are as observed. Sent
        again after an unknown outcome it finds out what became of the first.

        Raises:
            LeaseLost: the heir's lease is gone; nothing was written.
            EtcdError: outcome unknown.
        """
        record = heir.record
        if record is None:
            return HandoverResult.REFUSED
        report_key = self._layout.standby_report(self._role, record.server_id)
        result = await self._client.txn(
            [
                self.fence(epoch),
                Compare.mod_revision(heir.key, heir.mod_revision),
                Compare.mod_revision(report_key, report_revision),
                *compares,
            ],
            [
                *self._put_records(record.written_now(), heir.lease),
                Delete(self.heartbeat_key),
                Delete(self.offer_key),
                Delete(report_key),
                *ops,
            ],
            [Get(self.active_key)],
            timeout_s=HANDOVER_TIMEOUT_S,
        )
        if result.succeeded:
            return HandoverResult.COMMITTED
        holder = _entry(_ranges(result)[0])
        if holder is not None and holder.mod_revision == epoch:
            return HandoverResult.REFUSED
        active = holder.record if holder is not None else None
        if active is not None and active.server_id == record.server_id:
            return HandoverResult.COMMITTED  # by an earlier copy, whose answer was lost
        return HandoverResult.LOST

    async def resign(self, epoch: int, ops: Sequence[Op] = ()) -> bool:
        """Delete the ACTIVE and the heartbeat key under the fence; False if the epoch was lost before."""
        keys = [
            self.active_key,
            self.heartbeat_key,
            self.offer_key,
            *(self._layout.session(name) for name in self._companions),
        ]
        deletes: list[Op] = [Delete(key) for key in keys]
        return await self.write(epoch, [*deletes, *ops])

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

    def _put_records(self, record: SessionRecord, lease: int) -> list[Op]:
        """The ACTIVE key and those of the companions, for `record`."""
        return [
            Put(self._layout.session(name), replace(record, server_name=name).to_json(), lease)
            for name in (self._role, *self._companions)
        ]

    def _put_heartbeat(self, promise: Promise) -> Put:
        value = encode_heartbeat(
            self._record.server_id, math.ceil(promise.serve_guard_s * 1000), settled=promise.settled
        )
        return Put(self.heartbeat_key, value)


def _ranges(result: TxnResult) -> list[RangeResult]:
    """The reads of a transaction whose compares failed."""
    ranges = [response for response in result.responses if isinstance(response, RangeResult)]
    if len(ranges) != len(result.responses):
        raise TypeError(f"etcd answered a read with {result.responses!r}")
    return ranges


def _entry(result: RangeResult) -> SessionEntry | None:
    if not result.kvs:
        return None
    kv = result.kvs[0]
    try:
        record = SessionRecord.from_json(kv.value)
    except SessionRecordError:
        record = None
    return SessionEntry(kv.key, kv.mod_revision, kv.lease, record)
