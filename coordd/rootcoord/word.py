"""What the proxies are told of one change: they forget what they know by its names, or of its collection.

They have to forget after the change is written, since a proxy that forgets first can learn the old state
again. Yet it learns from nobody but this process. So they may well be told while the change is being written,
beside it, as long as nobody asks for the collection meanwhile, or has asked just before; whoever has taken
that in need not be told again. If somebody has asked, or the write failed or its outcome was not known, all
are told anew.

**Which collection.** A proxy keeps one under the name or alias that its client used, and keeps nothing of a
name that leads nowhere. What it must not learn again is what a name of the change led to before, and that is
a single collection: the one that is changed or renamed, or the one that an alias leaves. Whoever asks for it,
by any name or by ID, is noted under its ID (`CollectionLookup.now`); so to watch that ID is enough. What a
name leads to afterwards may be learnt at any time. A new alias, like the new name of a collection, has led
nowhere: nothing of it can be learnt too early, and nobody need be watched.

Not promised: that a proxy forgets a name for good if a request of its own has looked it up before, and asks
for the collection by the ID after the change: the proxy then keeps the answer under that name, whenever it
was told to forget it, as it does in Milvus.

Source of truth: Milvus 2.3.5 internal/proxy/{meta_cache,impl}.go.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from coordd.errors import CoorddError
from coordd.etcd.backoff import Backoff
from coordd.log import get_logger
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.collections import Change
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.looks import Look, Looks
from coordd.rootcoord.oracle import TermOverError
from coordd.rootcoord.proxies.link import PAUSE_FIRST_S, PAUSE_MAX_S
from coordd.rootcoord.proxies.manager import NOBODY, ProxyManager, SessionsNotKnown, Told
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.word")

Start: TypeAlias = Callable[[Coroutine[Any, Any, None], str], object]
"""`start(coroutine, name)` runs a task that ends with the term. Raises TermOverError if that is over."""


class Word:
    """Of one `change`; `drops_collection`: it is the end of the collection, and of the proxies' producers.

    `timestamp` gives the newest that was handed out, of the change or later. It goes along as in Milvus; the
    proxies do not look at it.
    """

    def __init__(
        self,
        proxies: ProxyManager,
        change: Change,
        *,
        server_id: int,
        timestamp: Callable[[], int],
        drops_collection: bool = False,
    ) -> None:
        self._proxies = proxies
        self._change = change
        self._server_id = server_id
        self._timestamp = timestamp
        self._drops_collection = drops_collection
        self._told: dict[int, Told] = {}  # early, of each of the notices
        self._refusal: MilvusError | None = None
        self._watched: list[Look] = []
        self._ended = asyncio.Event()

    async def spread(self, revision: int) -> None:
        """Have the proxies forget all names, whatever one of them answers.

        `revision`: at which it was written, 0 if it was not or that is not known.

        Raises:
            MilvusError: a proxy refuses, or has refused what was begun; said once.
            RpcFailure: the term is over.
        """
        anew = revision == 0 or self._seen
        for number, notice in enumerate(self._notices):
            try:
                await self._tell(notice, revision, NOBODY if anew else self._told.get(number, NOBODY))
            except MilvusError as refusal:
                self._refusal = refusal
        unsaid, self._refusal = self._refusal, None
        if unsaid is not None:
            raise unsaid

    def begin(self, looks: Looks, start: Start) -> None:
        """The change is about to be written: tell the proxies beside that, if it can be of use.

        Not before it has been sent: to etcd it is the longer way.
        """
        ids = {self._change.collection_id, self._change.led_to} - {0}
        self._watched = [looks.watch(one) for one in ids]
        if self._seen:
            self._ended.set()
        else:
            asyncio.get_running_loop().call_soon(self._begin_early, start)

    def end(self) -> None:
        """The change is written, or is not: who asks from now on learns how it is."""
        for look in self._watched:
            look.end()

    async def ended(self) -> None:
        """Return when who was told early has answered."""
        await self._ended.wait()

    @property
    def _seen(self) -> bool:
        """Whether somebody may have learnt the old state, so that early word does not count."""
        return any(look.seen for look in self._watched)

    @cached_property
    def _notices(self) -> tuple[InvalidateCollMetaCacheRequest, ...]:
        base = MsgBase(timestamp=self._timestamp(), sourceID=self._server_id)
        return tuple(_notices(self._change, base, drops=self._drops_collection))

    def _begin_early(self, start: Start) -> None:
        try:
            start(self._spread_early(), "early word")
        except TermOverError as error:
            log.debug("the proxies are not told early", reason=str(error))
            self._ended.set()

    async def _spread_early(self) -> None:
        """If that fails it is no harm: all are told anew."""
        try:
            for number, notice in enumerate(self._notices):
                try:
                    self._told[number] = await self._proxies.invalidate_collection_meta_cache(notice)
                except MilvusError as refusal:
                    self._refusal = refusal
        except CoorddError as error:
            log.debug("the proxies could not be told early", reason=str(error))
        finally:
            self._ended.set()

    async def _tell(self, notice: InvalidateCollMetaCacheRequest, revision: int, told: Told) -> None:
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S)
        while True:
            try:
                await self._proxies.invalidate_collection_meta_cache(notice, committed_at=revision, told=told)
            except SessionsNotKnown as error:
                log.warning("the proxies cannot be told yet", reason=str(error))
                await asyncio.sleep(backoff.pause_s())
            else:
                return


class Telling:
    """One request's change, written with the proxies told beside that; what is planned anew is told anew.

    `new_word` makes what is to be said of a change.
    """

    def __init__(self, new_word: Callable[[Change], Word], looks: Looks, start: Start) -> None:
        self._new_word = new_word
        self._looks = looks
        self._start = start
        self._word: Word | None = None  # of what was planned last
        self._revision = 0  # at which it was written; 0: not, or not known

    async def write(self, plan: Callable[[Stamp], Change], commit: Callable[[Decide], Awaitable[int]]) -> int:
        """Carry a plan out; returns the revision, 0 if there was nothing to write.

        Raises:
            Exception: what `plan` and `commit` raise; to `tell` is then to tell everybody anew.
        """
        begun: list[Word] = []

        def decide(stamp: Stamp) -> Sequence[Write]:
            self._word, self._revision = None, 0
            change = plan(stamp)
            if change.writes:
                self._word = self._new_word(change)
                begun.append(self._word)
                self._word.begin(self._looks, self._start)
            return change.writes

        try:
            self._revision = await commit(decide)
        finally:
            for word in begun:
                word.end()
        # But not if that fails: all are told anew then, and whoever is told of the failure need not wait.
        for word in begun:
            await word.ended()
        return self._revision

    async def tell(self, change: Change) -> None:
        """Tell all proxies but those who know; of `change`, if nothing was to be written.

        Raises:
            MilvusError: a proxy refuses, or has refused.
            RpcFailure: the term is over.
        """
        word = self._new_word(change) if self._word is None else self._word
        await word.spread(self._revision)


def _notices(change: Change, base: MsgBase, *, drops: bool) -> Iterator[InvalidateCollMetaCacheRequest]:
    """One for each name; they hold the ID as well. By the ID alone if there is no name."""
    if drops:
        base.msg_type = MsgType.DropCollection
    names = tuple(filter(None, change.names))
    for name in names or ([""] if change.collection_id else []):
        yield InvalidateCollMetaCacheRequest(
            base=base, db_name=change.db_name, collection_name=name, collectionID=change.collection_id
        )
