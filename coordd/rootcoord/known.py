"""The newest timestamp and largest ID in the metadata: where to start if no window was ever saved."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from coordd.meta.tables import RootCoordTables
from coordd.meta.tables.collection_view import CollectionRow

SLICE_ROWS: Final = 200
"""Collections looked at between two yields to the event loop: a few milliseconds of work. A look through
100,000 of them in one go would hold heartbeats up, and the supervising parent would take it for a hang."""


def in_slices(collections: Iterable[CollectionRow]) -> Iterator[list[CollectionRow]]:
    """All collections there are now; the table may change between two slices."""
    rows = list(collections)
    for start in range(0, len(rows), SLICE_ROWS):
        yield rows[start : start + SLICE_ROWS]


class KnownInTables:
    """Looks through all tables at each call: for the one start in a cluster's life that needs it."""

    def __init__(self, tables: RootCoordTables) -> None:
        self._tables = tables

    async def newest_timestamp(self) -> int:
        """The newest hybrid timestamp of a collection, partition or alias; 0 if there is none."""
        newest = max((alias.created_time for alias in self._tables.aliases), default=0)
        for rows in in_slices(self._tables.collections):
            newest = max(newest, max(self._timestamps(rows), default=0))
            await asyncio.sleep(0)
        return newest

    async def newest_id(self) -> int:
        """The largest ID of a database, collection, partition or import task; 0 if there is none."""
        newest = max((database.id for database in self._tables.databases), default=0)
        newest = max(newest, self._tables.import_tasks.newest_id())
        for rows in in_slices(self._tables.collections):
            newest = max(newest, max(self._ids(rows), default=0))
            await asyncio.sleep(0)
        return newest

    def _timestamps(self, rows: list[CollectionRow]) -> Iterator[int]:
        for row in rows:
            yield row.create_time
            partitions = self._tables.collections.partitions(row.collection_id)
            yield from (partition.created_timestamp for partition in partitions)

    def _ids(self, rows: list[CollectionRow]) -> Iterator[int]:
        for row in rows:
            yield row.collection_id
            partitions = self._tables.collections.partitions(row.collection_id)
            yield from (partition.id for partition in partitions)
