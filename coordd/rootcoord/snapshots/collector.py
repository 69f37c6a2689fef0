"""The task of the active replica that deletes old history, once an hour, in small fenced transactions.

It reads page by page, each as etcd is then, and keeps no more than a page and the histories that are not
complete. What is written meanwhile only adds newer versions, and a key that comes back writes its plain key,
on which the deletion of its tombstone is conditional: so no decision needs all pages to be of one revision.

Of a collection that is being made or dropped no history goes: a data node that starts anew asks for it as of
the last time it has saved of its channel.

A round that fails is begun anew later. Nothing depends on it, so whatever goes wrong here the term goes on.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from coordd.clock import boottime
from coordd.config import LoadedConfig
from coordd.etcd import Delete, KeyValue, RangePage, prefix_end
from coordd.ha.trouble import Trouble
from coordd.log import get_logger
from coordd.meta.codecs import is_tombstone
from coordd.meta.commit import TIMEOUT_S, CommitConflict, FencedCommitter, FenceLost
from coordd.meta.keys import CollectionKey, FieldKey, FunctionKey, PartitionKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.rootcoord.oracle import Oracle, TermOverError
from coordd.rootcoord.snapshots.histories import Histories, History
from coordd.rootcoord.snapshots.retention import Horizon, Removal, removal, snapshot_keys, transactions

log = get_logger("coordd.rootcoord.snapshots")

SLICE_KEYS: Final = 200
"""Keys looked at between two yields to the event loop: some 2 ms of work."""
FIRST_PAGE_KEYS: Final = 500
PAGE_BYTES: Final = 4 << 20
"""What a page should hold at most, judged by the page before."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how fast.

    `first_after_s`: after the beginning of a term, when a cluster has other things to do; yet not as long as
    between rounds, or one whose terms are short would never get there. `every_s`: between two rounds, as in
    Milvus. `retry_s`: after a round that failed. `page_keys`: each page costs etcd (up to 3.5) a walk over
    the index of all that follows, so they must not be too small. `page_pause_s`, `transaction_pause_s`: after
    a page and after a transaction, so that etcd is there for others.
    """

    first_after_s: float = 600.0
    every_s: float = 3600.0
    retry_s: float = 300.0
    page_keys: int = 5_000
    page_pause_s: float = 0.1
    transaction_pause_s: float = 0.01


HOURLY: Final = Pace()


class PageReader(Protocol):
    """The part of `coordd.etcd.EtcdClient` that a round needs."""

    async def page(self, start: str, end: str, *, limit: int) -> RangePage:
        """See `EtcdClient.page`."""


@dataclass(slots=True)
class SnapshotFigures:
    """What has been done in this process, for metrics.

    `snapshots`, `keys`: snapshots deleted, and plain keys of which nothing is left. `rounds`, `failures`:
    rounds that came to their end, and that did not.
    """

    snapshots: int = 0
    keys: int = 0
    rounds: int = 0
    failures: int = 0


class SnapshotCollector:
    """Of one term. `config` gives the present settings."""

    def __init__(
        self,
        *,
        client: PageReader,
        committer: FencedCommitter,
        oracle: Oracle,
        tables: RootCoordTables,
        layout: MetaLayout,
        config: Callable[[], LoadedConfig],
        figures: SnapshotFigures,
        pace: Pace = HOURLY,
    ) -> None:
        self._client = client
        self._committer = committer
        self._oracle = oracle
        self._tables = tables
        self._layout = layout
        self._config = config
        self._figures = figures
        self._pace = pace

    async def run(self) -> None:
        """Round after round until it is cancelled.

        Raises:
            FenceLost: the term is over.
        """
        trouble, pause_s = Trouble(), self._pace.first_after_s
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._pace.every_s
            try:
                await self.collect()
            except TermOverError:
                return
            except FenceLost:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the term must not end for it
                self._figures.failures += 1
                pause_s = self._pace.retry_s
                if trouble.is_news(error):
                    log.warning(
                        "old snapshots could not be deleted, trying again later",
                        reason=f"{type(error).__name__}: {error}",
                    )
            else:
                trouble.over()

    async def collect(self) -> None:
        """Look through all snapshots once and delete what may go. May be cancelled, and begun anew, any time.

        Raises:
            FenceLost: the term is over.
            CoorddError: etcd cannot be read or written, or there is no timestamp.
        """
        figures = self._figures
        before, began, read = replace(figures), boottime(), 0
        horizon, histories = await self._horizon(), Histories(self._layout)
        start: str | None = self._layout.snapshot_prefix
        end, limit = prefix_end(self._layout.snapshot_prefix), FIRST_PAGE_KEYS
        while start is not None:
            limit = min(limit, self._pace.page_keys)
            page = await self._client.page(start, end, limit=limit)
            for part in _slices(page.kvs):
                await self._delete(self._removals(histories.feed(part), horizon))
                await asyncio.sleep(0)
            read, start = read + len(page.kvs), page.next
            limit = _as_many_as_fit(page, limit)
            if start is not None:
                await asyncio.sleep(self._pace.page_pause_s)
        await self._delete(self._removals(histories.end(), horizon))
        figures.rounds += 1
        if figures.snapshots > before.snapshots:
            log.info(
                "old snapshots deleted",
                read=read,
                snapshots=figures.snapshots - before.snapshots,
                forgotten_keys=figures.keys - before.keys,
                seconds=round(boottime() - began, 1),
            )

    async def _horizon(self) -> Horizon:
        """Time is that of the timestamps, which never goes back."""
        kept = self._config().settings.metastore.snapshot
        now = await self._oracle.wait_timestamps(1, boottime() + TIMEOUT_S)
        return Horizon.at(now, ttl_s=kept.ttl_s, reserve_s=kept.reserve_time_s)

    def _removals(self, histories: Iterable[History], horizon: Horizon) -> list[Removal]:
        found = (removal(history, horizon) for history in histories)
        return [one for one in found if one is not None and (one.forget or not self._unsettled(one.key))]

    def _unsettled(self, key: str) -> bool:
        """Whether a key is of a collection that is being made or dropped."""
        parsed = self._layout.parse(key)
        if not isinstance(parsed, CollectionKey | PartitionKey | FieldKey | FunctionKey):
            return False
        row = self._tables.collections.get(parsed.collection_id)
        return row is not None and not row.available

    async def _delete(self, removals: Iterable[Removal]) -> None:
        """A conflict leaves the rest for the next round: of one key nothing may go out of order."""
        for transaction in transactions(removals):
            if not await self._carry_out(transaction):
                return
            await asyncio.sleep(self._pace.transaction_pause_s)

    async def _carry_out(self, transaction: Sequence[Removal]) -> bool:
        """Whether it was done; not, if what it rests on was written meanwhile."""
        plain = await self._plain_keys([one.key for one in transaction if one.forget])
        parts = [one for one in transaction if not one.forget or _is_gone(plain[one.key])]
        snapshots = [key for one in parts for key in snapshot_keys(self._layout, one)]
        if not snapshots:
            return True
        forgotten = [one.key for one in parts if one.forget]
        written = [key for key in forgotten if plain[key] is not None]
        try:
            await self._committer.commit(
                [Delete(key) for key in (*snapshots, *written)],
                guard_key=snapshots[0],
                guard_revision=parts[0].versions[0].mod_revision,
                expect={key: _revision(plain[key]) for key in forgotten},
            )
        except CommitConflict as conflict:
            log.info("metadata was written meanwhile, its history stays", reason=str(conflict))
            return False
        self._figures.snapshots += len(snapshots)
        self._figures.keys += len(forgotten)
        return True

    async def _plain_keys(self, keys: Sequence[str]) -> dict[str, KeyValue | None]:
        """What the plain keys hold now."""
        return dict((await self._committer.read(keys)).values) if keys else {}


def _is_gone(plain: KeyValue | None) -> bool:
    """A plain key that holds something else than its newest snapshot is left alone, and so are these."""
    return plain is None or is_tombstone(plain.value)


def _revision(plain: KeyValue | None) -> int:
    return 0 if plain is None else plain.mod_revision


def _as_many_as_fit(page: RangePage, limit: int) -> int:
    """How many keys of the size of these a page may have."""
    size = sum(len(kv.key) + len(kv.value) for kv in page.kvs)
    return max(1, limit * PAGE_BYTES // max(1, size))


def _slices(kvs: Sequence[KeyValue]) -> Iterator[Sequence[KeyValue]]:
    for first in range(0, len(kvs), SLICE_KEYS):
        yield kvs[first : first + SLICE_KEYS]
