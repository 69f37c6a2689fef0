"""The way to one proxy: its connection, and what it has yet to be told.

Source of truth: Milvus 2.3.5 internal/util/proxyutil (calls), internal/proxy/impl.go (answers).
"""

import asyncio

from coordd.errors import CoorddError
from coordd.etcd.backoff import Backoff
from coordd.log import get_logger
from coordd.pb.common_pb2 import Status
from coordd.pb.proxy_pb2 import (
    InvalidateCollMetaCacheRequest,
    InvalidateCredCacheRequest,
    RefreshPolicyInfoCacheRequest,
)
from coordd.rootcoord.proxies.bar import TimestampBar
from coordd.rootcoord.proxies.bar_record import BarRecords
from coordd.rootcoord.proxies.outbox import Entry, Notice, Outbox
from coordd.rpc.connection import Answer, ClientOptions, Connection, Request
from coordd.rpc.failure import RpcFailure
from coordd.rpc.status import is_success

log = get_logger("coordd.rootcoord.proxies")

PROXY = "/milvus.proto.proxy.Proxy/"

PATIENCE_S = 2.0
"""How long a change waits for a proxy to forget a collection; see `manager` for what happens then. Enough for
a busy proxy, and for the session of a crashed one to be ended, so that only one that hangs is barred."""
ATTEMPT_S = 5.0
"""How long the proxy may take to answer a notice that nobody waits for; then it is sent again."""
IN_A_ROW = 32
"""Notices that are sent before it is looked which is the newest: a new term has the passwords of all users
forgotten, and somebody may change one meanwhile."""
PAUSE_FIRST_S = 0.02
PAUSE_MAX_S = 0.5


class ProxyLink:
    """To the proxy `server_id` at `address`, while its session lasts. Make it inside a running loop.

    Without `records` a bar ends with the term.
    """

    def __init__(
        self,
        server_id: int,
        address: str,
        options: ClientOptions,
        bar: TimestampBar,
        patience_s: float = PATIENCE_S,
        *,
        records: BarRecords | None = None,
    ) -> None:
        self.server_id = server_id
        self._patience_s = patience_s
        self.address = address
        self._options = options
        self._bar = bar
        self._connection = Connection(address, server_id, options)
        self._outbox = Outbox()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._closed = False
        self._records = records
        self._recorded = False
        self._recording = asyncio.Lock()

    async def call(self, method: str, request: Request, answer: type[Answer], timeout_s: float) -> Answer:
        """Call a method of the proxy once; after a gRPC error the next call dials anew.

        Raises:
            RpcFailure: see `Connection.call`.
        """
        connection = self._connection
        try:
            return await connection.call(f"{PROXY}{method}", request, answer, timeout_s)
        except RpcFailure:
            if connection is self._connection and not self._closed:
                self._connection = Connection(self.address, self.server_id, self._options)
                await connection.retire()
            raise

    # --- collections: somebody waits ---

    async def forget(self, request: InvalidateCollMetaCacheRequest) -> str | None:
        """Have the proxy forget a collection: it has, or it is barred from timestamps until it has.

        Returns why the proxy refused, if it did. Takes no longer than the patience; no time at all if the
        proxy is barred already. Whoever cancels it has to call `owe`, if the collection has changed.
        """
        if self._outbox.bars:
            self.post(request)
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._forget(request)
        except TimeoutError:
            self.owe(request)
            return None

    async def _forget(self, request: InvalidateCollMetaCacheRequest) -> str | None:
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S)
        while not self._closed:
            try:
                status = await self.call("InvalidateCollectionMetaCache", request, Status, self._patience_s)
            except RpcFailure as failure:
                log.debug("a proxy does not answer", proxy=self.server_id, reason=failure.message)
            else:
                if is_success(status):
                    return None
                if not status.retriable:
                    self.owe(request)
                    return status.reason
            await asyncio.sleep(backoff.pause_s())
        return None  # its session has ended

    def owe(self, request: InvalidateCollMetaCacheRequest) -> None:
        """Bar the proxy from timestamps until it has forgotten the collection."""
        if self._closed:
            return
        if not self._outbox.bars:
            self._warn("a proxy cannot be told that a collection has changed")
        self._bar.owes(self.server_id)
        self.post(request)

    def withhold(self, username: str) -> None:
        """Bar the proxy until it has heard what was posted of the user's password; not if it has."""
        barred = self._outbox.bars
        if not self._closed and self._outbox.withhold(username):
            if not barred:
                self._warn("a proxy cannot be told that a password has changed")
            self._bar.owes(self.server_id)

    def _warn(self, text: str) -> None:
        text = f"{text}, it gets no timestamps until it can"
        log.warning(text, proxy=self.server_id, address=self.address)

    def inherit(self) -> None:
        """The proxy was barred when an earlier term ended: what it has to forget nobody knows any more."""
        log.warning("a proxy was barred in an earlier term, it gets no timestamps", proxy=self.server_id)
        self._outbox.give_up()
        self._recorded = True
        self._bar.owes(self.server_id)

    async def keep_bar(self) -> None:
        """Return when the record of the proxy says whether it is barred; it may be told during the write.

        Raises:
            FenceLost, EtcdError: see `BarRecords.write`.
        """
        async with self._recording:
            while self._records is not None and not self._closed:
                owes = self._outbox.bars
                if owes == self._recorded:
                    return
                await self._records.write(self.server_id, barred=owes)
                self._recorded = owes

    # --- what nobody waits for ---

    def post(self, notice: Notice) -> None:
        """Have `run` deliver a notice."""
        self._outbox.add(notice)
        self._work.set()

    async def told(self) -> None:
        """Wait until the proxy knows all passwords and policies as they are, or its session has ended."""
        while self._outbox.owes_permissions and not self._closed:
            await self._progress.wait()

    async def run(self) -> None:
        """Deliver what is posted, again and again until the proxy has taken it in; ends by cancellation."""
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S)
        while True:
            await self._work.wait()
            self._work.clear()
            while entries := self._outbox.pending():
                if await self._deliver(entries[:IN_A_ROW]):
                    backoff.reset()
                else:
                    await asyncio.sleep(backoff.pause_s())
                await self._take_mark_back()

    async def _deliver(self, entries: list[Entry]) -> bool:
        """Whether the proxy has taken in all of them."""
        complete = True
        for entry in entries:
            try:
                status = await self.call(_method(entry.notice), entry.notice, Status, ATTEMPT_S)
            except RpcFailure as failure:
                log.debug("a proxy does not answer", proxy=self.server_id, reason=failure.message)
                return False
            if is_success(status):
                self._outbox.delivered(entry)
                self._tell_progress()
                self._lift()
            elif status.retriable:
                return False
            else:
                log.warning("a proxy refuses a notice", proxy=self.server_id, reason=status.reason)
                self._outbox.refused(entry)
                complete = False
        return complete

    async def _take_mark_back(self) -> None:
        """Have the record no longer say that the proxy is barred, if it does and the proxy is not.

        If that fails a successor has the proxy started anew, without need.
        """
        if self._recorded and not self._outbox.bars:
            try:
                await self.keep_bar()
            except CoorddError as error:
                text = "the record of a proxy still says that it is barred"
                log.warning(text, proxy=self.server_id, reason=str(error))

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    def _lift(self) -> None:
        if self.server_id in self._bar.ids and not self._outbox.bars:
            log.info("a proxy has been told at last, it gets timestamps again", proxy=self.server_id)
            self._bar.told(self.server_id)

    async def close(self) -> None:
        """The session has ended, or the term; calls under way fail. What is still to be told is dropped."""
        self._closed = True
        self._tell_progress()
        await self._connection.close()


def _method(notice: Notice) -> str:
    match notice:
        case InvalidateCollMetaCacheRequest():
            return "InvalidateCollectionMetaCache"
        case InvalidateCredCacheRequest():
            return "InvalidateCredentialCache"
        case RefreshPolicyInfoCacheRequest():
            return "RefreshPolicyInfoCache"
