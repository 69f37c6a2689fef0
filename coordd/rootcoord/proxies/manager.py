"""All proxies of the cluster, as RootCoord speaks to them during one term.

A proxy is everyone with a session key `proxy-<id>`. Each has a connection of its own for as long as that key
exists (`link`). A call to all goes to all at once; no lock is held meanwhile, and no proxy waits for another.

**When a collection changes** the proxies have to forget what they know of it, or they would insert into a
dropped collection, or by an old alias. Milvus' RootCoord fails the change if one proxy does not answer for
about 50 s, and goes on only without those whose session has ended: a proxy that crashed or hangs blocks every
change until its session's TTL is over. Here:

* an answer is waited for no longer than `link.PATIENCE_S` (2 s), and tried again meanwhile;
* a proxy that has not answered by then **gets no timestamps** (`bar`) until it has; the change goes on.
  Without a timestamp nothing that a proxy is asked for gets further than the proxy, so it does not matter
  why it did not answer: dead, hung, cut off from us while its clients and etcd reach it, or just slow. What
  it has to forget is sent again and again, and as soon as it confirms, it works on. If it is dead, that ends
  with its session;
* the changes that follow do not wait for such a proxy at all, so one that hangs costs two seconds once;
* a proxy whose session has ended gets no timestamps either: it may have been suspended, and may yet wake up;
* a proxy that answers with an error other than "not ready" is alive and refuses: the call fails, in Milvus'
  words, and the proxy is barred like one that does not answer.

What counts is that they are told **after** the change is committed: a proxy that is told before, and asks in
between, learns the old state again (in Milvus no answer is given in between). Who is told early, and may not
have asked since, need not be told again (`told`). `committed_at` makes sure that every proxy is told that had
a session then; a later one learns the new state to begin with.

That a proxy is barred is written into its session record before a change counts as done (`bar_record`). A
successor bars it too, for good, since what the proxy has not been told is lost: it has to start anew,
and is made to (`coordd.rootcoord.timetick.untold`).

**Credentials and policies** are told in the background, to each proxy in order, until it has taken them in or
its session has ended; whoever wants to wait for that does so with `told`. A proxy is told to forget all
passwords and to read all policies anew when a term begins, because the one before may have ended between a
change and the notice of it, or with a notice that a hanging proxy had not taken in; and when its session
appears, because it read them before that. A forgotten password is read again when its user next comes.

**A password that is not good any more** must not be taken by a proxy that was not told: whoever has not
confirmed in time is barred, on record too, like one that was not told of a collection (`withhold`).

Not promised: that a proxy forgets the password of a user who was deleted before this process followed the
metadata.

Source of truth: Milvus 2.3.5 internal/rootcoord/proxy_client_manager.go, expire_cache.go, proxy_manager.go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, TypeAlias, TypeVar

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.etcd.errors import EtcdError
from coordd.ha.session import SessionRecord
from coordd.ha.session_watch import SessionWatch
from coordd.ha.tasks import TaskScope
from coordd.log import get_logger
from coordd.meta.commit import FenceLost
from coordd.pb.proxy_pb2 import (
    InvalidateCollMetaCacheRequest,
    InvalidateCredCacheRequest,
    RefreshPolicyInfoCacheRequest,
)
from coordd.rootcoord.proxies.bar import TimestampBar
from coordd.rootcoord.proxies.bar_record import BarRecords
from coordd.rootcoord.proxies.link import PATIENCE_S, ProxyLink
from coordd.rootcoord.proxies.outbox import Notice, PolicyChange
from coordd.rpc.connection import Answer, ClientOptions, Request, status_of
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError, is_success

log = get_logger("coordd.rootcoord.proxies")

T = TypeVar("T")

Told: TypeAlias = frozenset[ProxyLink]
"""Proxies that have been told something; opaque."""
NOBODY: Final[Told] = frozenset()


class SessionsNotKnown(CoorddError):
    """The proxies cannot be told of a change yet, or not for sure: tell them again.

    The watch lags behind, so which proxies were there when it was committed is not known; or a proxy has not
    answered, and etcd does not take down that it is barred.
    """


class ProxyFailed(CoorddError):
    """A proxy did not do what it was asked, as far as is known."""

    def __init__(self, method: str, server_id: int, reason: str) -> None:
        super().__init__(f"{method} failed, proxyID = {server_id}, err = {reason}")


class ProxyManager:
    """The proxies of one term. `run` is a task of the term; see the module's docstring."""

    def __init__(
        self,
        sessions: SessionWatch,
        bar: TimestampBar,
        options: ClientOptions,
        patience_s: float = PATIENCE_S,
        records: BarRecords | None = None,
        *,
        users: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`records`: None, bars end with the term.

        `users`: whose passwords a proxy may have kept; also those who have been deleted since.
        """
        self._patience_s = patience_s
        self._records = records
        self._sessions = sessions
        self._bar = bar
        self._options = options
        self._users = users
        self._links: dict[int, ProxyLink] = {}
        self._leaving: list[ProxyLink] = []
        self._sessions_then: Mapping[int, SessionRecord] | None = None  # when the links were made
        self._closed = False
        for server_id, record in sessions.nodes("proxy").items():
            if record.barred:
                bar.owes(server_id)

    async def run(self) -> None:
        """Follow the sessions and deliver notices until cancelled; then all connections are closed."""
        changed = asyncio.Event()
        end = self._sessions.listen(changed.set)
        workers: dict[ProxyLink, asyncio.Task[None]] = {}
        try:
            async with TaskScope() as scope:
                while True:
                    for link in self._current():
                        if link not in workers:
                            name = f"rootcoord:proxy-{link.server_id}"
                            workers[link] = scope.create_task(link.run(), name=name)
                    while self._leaving:
                        link = self._leaving.pop()
                        if link in workers:
                            workers.pop(link).cancel()
                        await link.close()
                    await changed.wait()
                    changed.clear()
        finally:
            end()
            self._closed = True
            for link in (*self._links.values(), *self._leaving):
                await link.close()

    # --- collections ---

    async def invalidate_collection_meta_cache(
        self, request: InvalidateCollMetaCacheRequest, *, committed_at: int = 0, told: Told = NOBODY
    ) -> Told:
        """Have all proxies forget a collection; afterwards none works with what it knew of it.

        `committed_at`: revision of the change, 0 if the caller does not care who has come meanwhile. `told`:
        who need not be told, as an earlier call has returned it. Returns who has been told by now. Takes up
        to `PATIENCE_S` (twice, if the watch lags), whatever the proxies do. May be cancelled: those who have
        not answered are then barred all the same.

        Raises:
            MilvusError: a proxy refused; all have been asked.
            SessionsNotKnown: not within `PATIENCE_S` it is known who is to be told; or somebody who did not
                answer cannot be barred for sure.
            RpcFailure: the term is over (UNAVAILABLE).
        """
        done = set(told)

        async def forget(link: ProxyLink) -> str | None:
            if link in told:
                return None
            reason = await link.forget(request)
            done.add(link)
            return reason

        try:
            await self._know_sessions(committed_at)
            if told and told.issuperset(self._current()):
                return told
            reasons = await self._ask_all(forget)
            await self._keep_bars()
        except asyncio.CancelledError:
            for link in () if self._closed else self._current():
                if link not in done:
                    link.owe(request)
            raise
        for server_id, reason in sorted(reasons.items()):
            if reason is not None:
                text = f"InvalidateCollectionMetaCache failed, proxyID = {server_id}, err = {reason}"
                raise MilvusError(text)
        return frozenset(done)

    async def _keep_bars(self) -> None:
        """Who is barred now is so in the next term too.

        Raises:
            SessionsNotKnown: that is not certain.
            RpcFailure: the term is over.
        """
        if not self._bar.ids:
            return
        for link in self._current():
            try:
                await link.keep_bar()
            except FenceLost as error:
                raise RpcFailure(RpcCode.UNAVAILABLE, "the term of this rootcoord is over") from error
            except EtcdError as error:
                raise SessionsNotKnown(
                    f"proxy {link.server_id} does not answer, and its bar could not be written: {error}"
                ) from error

    async def _know_sessions(self, revision: int) -> None:
        if revision and not await self._sessions.up_to(revision, self._patience_s):
            raise SessionsNotKnown(
                f"it is not known yet which proxies were there at revision {revision}",
                hint="etcd's watch lags behind; tell the proxies again",
            )

    # --- credentials and policies ---

    def invalidate_credential(self, username: str) -> None:
        """A user's password was changed, or he was deleted: the proxies forget it. Returns at once."""
        self._post(InvalidateCredCacheRequest(username=username))

    def refresh_policies(self, change: PolicyChange, key: str = "") -> None:
        """Users, roles or grants have changed.

        `key`: `user/role` for users of roles, the policy's JSON for grants, the name of what is deleted.
        Returns at once.
        """
        self._post(RefreshPolicyInfoCacheRequest(opType=change, opKey=key))

    async def told(self, *, deadline: float) -> bool:
        """Wait until all proxies have taken in what was said of users and policies; whether they have.

        `deadline`: seconds on CLOCK_BOOTTIME; whoever has not by then is told on. Safe to cancel.

        Raises:
            RpcFailure: the term is over.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - boottime())):
                await self._ask_all(ProxyLink.told)
        except TimeoutError:
            return False
        return True

    async def withhold(self, username: str, *, committed_at: int = 0) -> None:
        """Whoever has not taken in what was said of the user's password gets no timestamps until it has.

        `committed_at`: revision of the change, 0 if it was none. Idempotent; safe to cancel.

        Raises:
            SessionsNotKnown: it is not certain that they get none, in the next term either.
            RpcFailure: the term is over.
        """
        await self._know_sessions(committed_at)
        for link in self._current():
            link.withhold(username)
        await self._keep_bars()

    def _post(self, notice: Notice) -> None:
        for link in self._current():
            link.post(notice)

    # --- questions ---

    def server_ids(self) -> list[int]:
        """The proxies that have a session now.

        Raises:
            RpcFailure: the term is over.
        """
        return [link.server_id for link in self._current()]

    async def ask(
        self, server_id: int, method: str, request: Request, answer: type[Answer], *, deadline: float
    ) -> Answer:
        """Call a method of one proxy, once. `deadline`: seconds on CLOCK_BOOTTIME. Safe to cancel.

        Raises:
            ProxyFailed: no usable answer, or the proxy has no session any more.
            RpcFailure: the term is over.
        """
        self._current()
        link = self._links.get(server_id)
        if link is None:
            raise ProxyFailed(method, server_id, "its session has ended")
        got = await self._once(link, method, request, answer, deadline)
        self._check_open()
        return got

    async def _once(
        self, link: ProxyLink, method: str, request: Request, answer: type[Answer], deadline: float
    ) -> Answer:
        try:
            got = await link.call(method, request, answer, deadline - boottime())
        except RpcFailure as failure:
            reason = f"rpc error: code = {failure.code.name} desc = {failure.message}"
            raise ProxyFailed(method, link.server_id, reason) from failure
        status = status_of(got)
        if not is_success(status):
            raise ProxyFailed(method, link.server_id, status.reason)
        return got

    async def _ask_all(self, ask: Callable[[ProxyLink], Awaitable[T]]) -> dict[int, T]:
        """All at once; what came of it by server ID, without those whose session ended meanwhile.

        Raises:
            RpcFailure: the term is over.
        """
        outcomes: dict[int, T] = {}

        async def one(link: ProxyLink) -> None:
            outcome = await ask(link)
            if self._links.get(link.server_id) is link:
                outcomes[link.server_id] = outcome

        links = self._current()
        if len(links) == 1:  # many a cluster has one proxy, and a task costs as much as the question
            await one(links[0])
        else:
            async with asyncio.TaskGroup() as group:
                for link in links:
                    group.create_task(one(link), name=f"rootcoord:ask-proxy-{link.server_id}")
        self._check_open()
        return outcomes

    def _current(self) -> list[ProxyLink]:
        """The way to each proxy that has a session now.

        Raises:
            RpcFailure: the term is over.
        """
        self._check_open()
        proxies = self._sessions.nodes("proxy")
        if proxies is not self._sessions_then:
            self._follow(proxies)
            self._sessions_then = proxies
        return list(self._links.values())

    def _follow(self, proxies: Mapping[int, SessionRecord]) -> None:
        """The sessions have changed."""
        for server_id, link in list(self._links.items()):
            record = proxies.get(server_id)
            if record is not None:
                link.address = record.address
            else:
                self._bar.gone(server_id)
                self._leaving.append(self._links.pop(server_id))
        for server_id, record in proxies.items():
            if server_id not in self._links:
                link = ProxyLink(
                    server_id,
                    record.address,
                    self._options,
                    self._bar,
                    self._patience_s,
                    records=self._records,
                )
                if record.barred:
                    link.inherit()
                link.post(RefreshPolicyInfoCacheRequest(opType=PolicyChange.REFRESH))
                for user in self._users():
                    link.post(InvalidateCredCacheRequest(username=user))
                self._links[server_id] = link

    def _check_open(self) -> None:
        if self._closed:
            raise RpcFailure(RpcCode.UNAVAILABLE, "the term of this rootcoord is over")
