"""What the proxies are told of one change: they forget the collection.

They have to forget after the change is written, since a proxy that forgets first can learn the old state
again. Yet it learns from nobody but this process. So they may well be told while the change is being written,
beside it, as long as nobody asks for the collection meanwhile, or has asked just before; whoever has taken
that in need not be told again. If somebody has asked, or the write failed or its outcome was not known, all
are told anew.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

from coordd.errors import CoorddError
from coordd.log import get_logger
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.collections import Change
from coordd.rootcoord.looks import Look, Looks
from coordd.rootcoord.proxies.manager import NOBODY, ProxyManager, SessionsNotKnown, Told
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.life")


class Word:
    """Of one `change`; `drops_collection`: it is the end of the collection, and of the proxies' producers."""

    def __init__(
        self,
        proxies: ProxyManager,
        looks: Looks,
        change: Change,
        *,
        server_id: int,
        drops_collection: bool = False,
        start: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        """`start(coroutine, name)` runs a task that ends with the term."""
        self._start = start
        self._proxies = proxies
        self._looks = looks
        self._change = change
        self._notices = tuple(_notices(change, server_id, drops_collection=drops_collection))
        self._told: list[Told] = []  # of the first notices, in their order
        self._refusal: MilvusError | None = None
        self._look: Look | None = None
        self._ended = asyncio.Event()

    async def spread(self, revision: int) -> None:
        """Have the proxies forget what the change is about.

        `revision`: at which it was written, 0 if it was not or that is not known.

        Raises:
            MilvusError: a proxy refuses, or has refused what was begun; said once.
            RpcFailure: the term is over.
        """
        told = self._told if revision and self._look is not None and not self._look.seen else []
        for number, notice in enumerate(self._notices):
            await self._tell(notice, revision, told[number] if number < len(told) else NOBODY)
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def begin(self) -> None:
        """The change is about to be written: tell the proxies beside that, if it can be of use.

        Raises:
            TermOverError: the term is over.
        """
        self._look = self._looks.watch(self._change.collection_id)
        if self._look.seen:
            self._ended.set()
        else:
            self._start(self._spread_early(), "early word")

    def end(self) -> None:
        """The change is written, or is not: who asks from now on learns how it is."""
        if self._look is not None:
            self._look.end()

    async def ended(self) -> None:
        """Return when who was told early has answered."""
        await self._ended.wait()

    async def _spread_early(self) -> None:
        """If that fails it is no harm: all are told anew."""
        try:
            for notice in self._notices:
                self._told.append(await self._proxies.invalidate_collection_meta_cache(notice))
        except MilvusError as refusal:
            self._refusal = refusal
        except CoorddError as error:
            log.debug("the proxies could not be told early", reason=str(error))
        finally:
            self._ended.set()

    async def _tell(self, notice: InvalidateCollMetaCacheRequest, revision: int, told: Told) -> None:
        while True:
            try:
                await self._proxies.invalidate_collection_meta_cache(notice, committed_at=revision, told=told)
            except SessionsNotKnown as error:
                log.warning("the proxies cannot be told yet", reason=str(error))
            else:
                return


@asynccontextmanager
async def beside() -> AsyncIterator[Callable[[Word], None]]:
    """What is begun within the block, by the function that this yields, is waited for at its end.

    But not if the block fails: all are told anew then, and whoever is told of the failure need not wait.
    """
    begun: list[Word] = []

    def begin(word: Word) -> None:
        begun.append(word)
        word.begin()

    try:
        yield begin
    finally:
        for word in begun:
            word.end()
    for word in begun:
        await word.ended()


def _notices(
    change: Change, server_id: int, *, drops_collection: bool
) -> Iterator[InvalidateCollMetaCacheRequest]:
    """One for each name; they hold the ID as well."""
    for name in change.names or ("",):
        base = MsgBase(sourceID=server_id)
        if drops_collection:
            base.msg_type = MsgType.DropCollection
        yield InvalidateCollMetaCacheRequest(
            base=base, db_name=change.db_name, collection_name=name, collectionID=change.collection_id
        )
