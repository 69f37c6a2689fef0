"""The newest timestamp and largest ID in the metadata: where to start if no window was ever saved."""

from collections.abc import Iterator

from coordd.meta.tables import RootCoordTables


class KnownInTables:
    """Looks through all tables at each call: for the one start in a cluster's life that needs it."""

    def __init__(self, tables: RootCoordTables) -> None:
        self._tables = tables

    def newest_timestamp(self) -> int:
        """The newest hybrid timestamp of a collection, partition or alias; 0 if there is none."""
        return max(self._timestamps(), default=0)

    def newest_id(self) -> int:
        """The largest ID of a database, collection or partition; 0 if there is none."""
        return max(self._ids(), default=0)

    def _timestamps(self) -> Iterator[int]:
        yield from (alias.created_time for alias in self._tables.aliases)
        for row in self._tables.collections:
            yield row.create_time
            view = self._tables.collections.view(row.collection_id)
            yield from (partition.created_timestamp for partition in view.partitions) if view else ()

    def _ids(self) -> Iterator[int]:
        yield from (database.id for database in self._tables.databases)
        for row in self._tables.collections:
            yield row.collection_id
            view = self._tables.collections.view(row.collection_id)
            yield from (partition.id for partition in view.partitions) if view else ()
