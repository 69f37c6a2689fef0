"""`coordd switchover`: ask the active replica of a role to hand its leadership to a standby, and wait for it.

The active replica decides (`coordd.ha.switchover` describes the request). What can be seen to be impossible
from here is refused without asking. Interrupted or cut off from etcd, the request goes with its lease.
"""

import asyncio
import os
import sys
import uuid
from contextlib import aclosing, suppress
from dataclasses import dataclass

from coordd import log
from coordd.cli.report import since
from coordd.clock import boottime, unix_ms
from coordd.config import Settings
from coordd.errors import CoorddError
from coordd.etcd import Compare, Delete, EtcdClient, Lease, Put
from coordd.etcd.errors import EtcdError, OutcomeUnknown
from coordd.ha.leadership import SessionEntry, SessionTable
from coordd.ha.session import SessionRecord, host_name
from coordd.ha.status import fill
from coordd.ha.switchover import (
    SwitchoverEntry,
    SwitchoverRequest,
    SwitchoverState,
    SwitchoverTable,
    decode_request,
)
from coordd.meta.layout import MetaLayout

LEASE_TTL_S = 15
ANSWER_LIMIT_S = 10.0
"""A handover takes milliseconds, or as long as the requests in flight; within the lease in any case."""
SERVE_LIMIT_S = 30.0
ASK_ATTEMPTS = 5
"""The request is written anew when another one was answered or withdrawn at that very moment."""
PARTING_LIMIT_S = 2.0


class SwitchoverError(CoorddError):
    """Leadership was not moved, or not known to have been; the subclass says why."""


class NobodyActive(SwitchoverError):
    """There is no leadership to hand over."""


class ActiveCannotHandOver(SwitchoverError):
    """Who is active is a Milvus coordinator, or has a record that cannot be read."""


class NotAStandby(SwitchoverError):
    """The replica asked for cannot become the heir."""


class LeadershipMoved(SwitchoverError):
    """Somebody else became active while this was about to be asked."""


class SwitchoverPending(SwitchoverError):
    """Another request waits for its answer."""


class SwitchoverRefused(SwitchoverError):
    """The active replica declined, and keeps serving."""


class ActiveSilent(SwitchoverError):
    """The active replica did not answer in time."""


class HeirNotServing(SwitchoverError):
    """Leadership was handed over, but the heir did not report that it serves."""


@dataclass(frozen=True, slots=True)
class RoleView:
    """What etcd says of a role: who is active (None: nobody), all its sessions, and the last request."""

    role: str
    active: SessionEntry | None
    sessions: tuple[SessionEntry, ...]
    request: SwitchoverEntry | None

    @property
    def epoch(self) -> int:
        """The term that is led; 0 if none is."""
        return self.active.mod_revision if self.active is not None else 0

    def may_ask(self, to: int) -> SessionRecord:
        """The record of the active replica, if it can be asked to hand over to `to` (0: any standby).

        Raises:
            NobodyActive, ActiveCannotHandOver, NotAStandby, SwitchoverPending: it cannot.
        """
        if self.active is None:
            raise NobodyActive(
                f"nobody is active {self.role}", hint="`coordd status` shows who stands by, if anybody does"
            )
        record = self.active.record
        if record is None:
            raise ActiveCannotHandOver(
                f"{self.active.key} does not hold a session record",
                hint="once sure that its owner is gone, delete that key",
            )
        if record.safety is None:
            raise ActiveCannotHandOver(
                f"active {self.role} is server {record.server_id} at {record.address}, a Milvus coordinator, "
                "which cannot hand over",
                hint="stop it: a standby takes over when its lease ends",
            )
        if to:
            self._check_heir(to, record)
        pending = self.request.request if self.request else None
        if pending is not None and pending.asked:
            raise SwitchoverPending(
                f"a switchover of {self.role} is under way, asked by {pending.by} at {since(pending.at_ms)}",
                hint=f"it ends within {LEASE_TTL_S} s; `coordd status` shows who is active then",
            )
        return record

    def _check_heir(self, to: int, active: SessionRecord) -> None:
        if to == active.server_id:
            raise NotAStandby(f"server {to} is active {self.role} already", hint=self._standbys_hint(active))
        if to in self._standbys(active):
            return
        milvus = any(one.record is not None and one.record.server_id == to for one in self.sessions)
        what = "a Milvus coordinator, which cannot be handed to" if milvus else f"no standby of {self.role}"
        raise NotAStandby(f"server {to} is {what}", hint=self._standbys_hint(active))

    def _standbys(self, active: SessionRecord) -> list[int]:
        """Server IDs of the standbys that can inherit."""
        return [
            one.record.server_id
            for one in self.sessions
            if one.record is not None
            and one.record.safety is not None
            and one.record.server_id != active.server_id
        ]

    def _standbys_hint(self, active: SessionRecord) -> str:
        known = self._standbys(active)
        return f"standbys: {', '.join(map(str, known))}" if known else "there is no standby to hand over to"


@dataclass(frozen=True, slots=True)
class Answer:
    """The request as it was found or written, in most places answered; and the revision of that."""

    request: SwitchoverRequest
    revision: int


async def switchover(settings: Settings, role: str, *, to: int, wait: bool) -> None:
    """Move the leadership of `role` to server `to` (0: any standby); print who inherited, and how fast.

    With `wait`: return once the heir serves.

    Raises:
        SwitchoverError: it was not moved, or that could not be seen.
        EtcdError: etcd did not answer.
    """
    log.configure(level="warn", stream=sys.stderr)  # stdout is the result's
    etcd = settings.etcd
    layout = MetaLayout(etcd.root_path, etcd.meta_sub_path, etcd.kv_sub_path)
    async with EtcdClient(etcd) as client:
        asking = Asking(client, layout, role, to)
        answer, active, took_s = await asking.ask()
        heir = answer.request.heir
        _say(f"{role}: server {active.server_id} handed over to server {heir} in {took_s * 1000:.1f} ms")
        if wait:
            served_s = took_s + await wait_until_served(client, layout, role, answer)
            _say(f"{role}: server {heir} serves, {served_s * 1000:.1f} ms after it was asked for")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def read_role(client: EtcdClient, layout: MetaLayout, role: str) -> RoleView:
    """The role at one revision.

    Raises:
        EtcdError: etcd did not answer.
    """
    result = await client.range(layout.switchover_prefix, layout.session_end)
    sessions, requests = SessionTable(layout), SwitchoverTable(layout)
    fill([sessions, requests], result.kvs)
    return RoleView(role, sessions.get(role), tuple(sessions.of_role(role)), requests.get(role))


async def wait_until_served(client: EtcdClient, layout: MetaLayout, role: str, answer: Answer) -> float:
    """Wait for the heir's record of its term, which it writes once it serves; returns the seconds waited.

    Leadership was handed over in the transaction of the answer, so the answer's revision is the heir's epoch.

    Raises:
        HeirNotServing: it did not come in time.
        EtcdError: etcd refuses the watch.
    """
    began = boottime()
    key = layout.history(role, answer.revision)
    watch = client.watch(key, None, from_revision=answer.revision + 1)
    try:
        async with asyncio.timeout(SERVE_LIMIT_S), aclosing(watch):
            async for batch in watch:
                if any(not event.deleted for event in batch.events):
                    return boottime() - began
    except TimeoutError:
        pass
    raise HeirNotServing(
        f"server {answer.request.heir} has inherited {role} but did not serve within {SERVE_LIMIT_S:g} s",
        hint="`coordd status` shows who is active now, the log of that replica why",
    )


class Asking:
    """One request, from being written to being answered or withdrawn."""

    def __init__(self, client: EtcdClient, layout: MetaLayout, role: str, to: int) -> None:
        self._client = client
        self._layout = layout
        self._role = role
        self._to = to
        self._key = layout.switchover(role)
        self._id = str(uuid.uuid4())

    async def ask(self) -> tuple[Answer, SessionRecord, float]:
        """Have the leadership moved: the answer, who was active before, and the seconds it took.

        Raises:
            SwitchoverError: it was not moved, or that is not known.
            EtcdError: etcd did not answer.
        """
        view = await read_role(self._client, self._layout, self._role)
        active = view.may_ask(self._to)
        lease = await self._client.grant(LEASE_TTL_S)
        try:
            asked_at = boottime()
            written = await self._write(lease, view.epoch)
            answer = await self._answer(active, written.revision) if written.request.asked else written
            took_s = boottime() - asked_at
            with suppress(EtcdError):  # left behind, it does no harm: the next request overwrites it
                await self._remove(answer.revision)
        finally:
            # With the lease goes a request that is not answered. Out of reach, etcd ends the lease by itself.
            with suppress(EtcdError):
                await self._client.revoke(lease.id, timeout_s=PARTING_LIMIT_S)
        if answer.request.state is SwitchoverState.REFUSED:
            raise SwitchoverRefused(
                f"server {active.server_id} refused to hand {self._role} over: {answer.request.reason}",
                hint="it keeps serving",
            )
        return answer, active, took_s

    async def _write(self, lease: Lease, epoch: int) -> Answer:
        """Write the request for the term `epoch`, and return it: perhaps answered, if the writing was not."""
        unknown: OutcomeUnknown | None = None
        for _ in range(ASK_ATTEMPTS):
            view = await read_role(self._client, self._layout, self._role)
            entry = view.request
            if entry is not None and entry.request is not None and entry.request.id == self._id:
                return Answer(entry.request, entry.mod_revision)  # an attempt of unknown outcome was applied
            record = view.may_ask(self._to)
            if view.epoch != epoch:
                raise LeadershipMoved(
                    f"server {record.server_id} became active {self._role} just now, nothing was asked of it",
                    hint="look at `coordd status`, and ask again if it is not as wanted",
                )
            request = SwitchoverRequest(
                self._id, epoch, self._to, f"{host_name()}/{os.getpid()}", at_ms=unix_ms()
            )
            compares = [
                Compare.mod_revision(self._layout.session(self._role), epoch),
                Compare.mod_revision(self._key, entry.mod_revision if entry else 0),
            ]
            unknown = None
            try:
                result = await self._client.txn(compares, [Put(self._key, request.to_json(), lease.id)])
            except OutcomeUnknown as error:  # what came of it is read in the next round
                unknown = error
                continue
            if result.succeeded:
                return Answer(request, result.revision)
        if unknown is not None:
            raise unknown
        raise SwitchoverPending(
            f"other switchovers of {self._role} came first, {ASK_ATTEMPTS} times",
            hint="`coordd status` shows who is active now",
        )

    async def _answer(self, active: SessionRecord, revision: int) -> Answer:
        """Wait for what the active replica makes of the request written at `revision`."""
        watch = self._client.watch(self._key, None, from_revision=revision + 1)
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S), aclosing(watch):
                async for batch in watch:
                    for event in batch.events:
                        if event.value is None:
                            raise ActiveSilent(f"the request to hand {self._role} over was removed")
                        answer = Answer(decode_request(self._key, event.value), event.mod_revision)
                        if answer.request.id == self._id and not answer.request.asked:
                            return answer
        except TimeoutError:
            pass
        if await self._remove(revision):
            raise ActiveSilent(
                f"server {active.server_id} at {active.address} did not answer within {ANSWER_LIMIT_S:g} s; "
                "the request was withdrawn",
                hint="`coordd status` shows whether it still is active",
            )
        return await self._late_answer()

    async def _late_answer(self) -> Answer:
        """The answer that came at the very moment in which the request was withdrawn."""
        kv = (await self._client.get(self._key)).kv
        request = None if kv is None else decode_request(self._key, kv.value)
        if kv is None or request is None or request.id != self._id or request.asked:
            raise ActiveSilent(
                f"the answer to the request to hand {self._role} over was removed by somebody else",
                hint="`coordd status` shows who is active now",
            )
        return Answer(request, kv.mod_revision)

    async def _remove(self, revision: int) -> bool:
        """Delete the key if it is as of `revision`; False if it has changed since."""
        compare = Compare.mod_revision(self._key, revision)
        return (await self._client.txn([compare], [Delete(self._key)])).succeeded
