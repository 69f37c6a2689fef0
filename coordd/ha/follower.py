"""The warm standby: one ordered etcd watch over one contiguous key range, folded into the role's tables.

Guarantees to those above: the tables hold whole revisions only, in etcd's order, and `revision` names the
last one. Nothing is lost across disconnects (the watch resumes after the last delivered event); a compacted
watch starts anew from a range read whose difference is applied.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

from coordd.clock import boottime
from coordd.etcd import EtcdClient
from coordd.etcd.errors import Compacted, EtcdError
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.fold import Fold

log = get_logger("coordd.ha.follower")

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 2.0
STABLE_S = 30.0
"""A watch that lasted longer than this had no part in the trouble before it."""
LOAD_ATTEMPTS = 3
"""Range reads begun anew because etcd has compacted what was being read."""
OVERDUE_S = 2.0
"""How long the watch may take to deliver what etcd is known to have committed; an idle etcd takes a few
milliseconds. Doubled each time that opening it anew did not help, up to `OVERDUE_MAX_S`."""
OVERDUE_MAX_S = 30.0
CATCH_UP_PATIENCE_S = 0.5
"""How long a takeover waits for the watch to deliver a revision before it reads the range itself."""


class Follower:
    """Keeps a fold equal to etcd's range [start, end) until cancelled."""

    def __init__(self, client: EtcdClient, fold: Fold, start: str, end: str) -> None:
        self._client = client
        self._fold = fold
        self._start = start
        self._end = end
        self._progress: asyncio.Event = asyncio.Event()
        self._listeners: list[Callable[[], None]] = []
        self._overdue: asyncio.Timeout | None = None
        self._overdue_s = OVERDUE_S
        self._owed = self._newest_owed = 0
        self.synced = False
        """Whether the watch is following; False before the first load, while it starts anew, and from the
        moment it is found dead until it delivers again."""

    @property
    def revision(self) -> int:
        """The last etcd revision that the tables contain in full; 0 before the first load."""
        return self._fold.revision

    def on_progress(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each load and each batch, when the tables are consistent.

        Not after one that brought nothing but own commits to tables that are not `watched` (`Fold`): they do
        not change with that.
        """
        self._listeners.append(listener)

    async def run(self) -> None:
        """Follow for ever; ends only by cancellation. Whatever etcd's trouble is, it is waited out."""
        trouble, pause_s = Trouble(), RETRY_FIRST_S
        while True:
            began = boottime()
            try:
                await self._load()
                await self._watch()
            except EtcdError as error:
                if boottime() - began > STABLE_S:
                    trouble.over()
                    pause_s = RETRY_FIRST_S
                if trouble.is_news(error):
                    log.warning("following etcd anew, from a range read", reason=str(error))
            self.synced = False
            # However often etcd ends the watch: each time the whole range is read.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _load(self) -> None:
        attempt = 1
        while True:
            try:
                await self._load_parts()
                break
            except Compacted:  # a large range takes its time
                if attempt == LOAD_ATTEMPTS:
                    raise
            attempt += 1
        self._progress.set()
        self._tell_listeners()

    async def _load_parts(self) -> None:
        """Each part is let go before the next comes: what is kept of it is less, and lies close together."""
        revision = 0
        with self._fold.loading() as load:
            async with aclosing(self._client.range_parts(self._start, self._end)) as parts:
                async for part in parts:
                    revision = part.revision
                    if not self._fold.take(load, part):
                        return
            self._fold.finish(load, revision)

    async def _watch(self) -> None:
        self.synced = True
        self._overdue_s = OVERDUE_S
        while True:
            self._owed = self._newest_owed = 0
            try:
                async with asyncio.timeout(None) as self._overdue:
                    await self._deliver()
            except TimeoutError:
                if self._overdue is None or not self._overdue.expired():
                    raise
                self.synced = False
                self._overdue_s = min(2 * self._overdue_s, OVERDUE_MAX_S)
                log.warning(
                    "the watch delivers nothing, opening it anew", revision=self.revision, missing=self._owed
                )
            finally:
                self._overdue = None

    async def _deliver(self) -> None:
        watch = self._client.watch(self._start, self._end, from_revision=self.revision + 1)
        async with aclosing(watch):
            async for batch in watch:
                is_news = self._fold.apply(batch)
                self.synced = True
                if self._owed and self.revision >= self._owed:
                    self._delivered()
                self._progress.set()
                if is_news:
                    self._tell_listeners()

    def _delivered(self) -> None:
        """What was owed has come; perhaps something later is owed by now."""
        self._overdue_s = OVERDUE_S
        self._owed = self._newest_owed if self._newest_owed > self.revision else 0
        self._expect(self._owed)

    def _expect(self, revision: int) -> None:
        overdue = self._overdue
        if overdue is not None and not overdue.expired():
            due = asyncio.get_running_loop().time() + self._overdue_s
            overdue.reschedule(due if revision else None)

    async def catch_up(self, revision: int) -> None:
        """Return once the tables contain `revision`: by the watch, or else by a range read of our own.

        Raises:
            EtcdError: the range read failed.
        """
        if not await self.follows(revision, CATCH_UP_PATIENCE_S):
            log.warning("the watch lags behind, reading the range", revision=self.revision, wanted=revision)
            while self.revision < revision:
                await self._load()

    async def follows(self, revision: int, patience_s: float) -> bool:
        """Whether the tables contain `revision`, and all before it, now or in `patience_s`."""
        if self._fold.complete >= revision:
            return True
        try:
            async with asyncio.timeout(patience_s):
                while self.revision < revision:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def committed(self, revision: int) -> None:
        """The replica itself has written into the range at `revision`; the watch has to deliver that."""
        if revision <= self.revision or self._overdue is None:
            return
        self._newest_owed = max(self._newest_owed, revision)
        if not self._owed:
            self._owed = revision
            self._expect(revision)

    def _tell_listeners(self) -> None:
        for listener in self._listeners:
            listener()
