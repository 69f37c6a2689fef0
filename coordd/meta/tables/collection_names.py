"""Index of collections by database and name.

A name can have several holders: one that is available, and any number that are being dropped, since a name
is free again as soon as its collection is marked.
"""

from collections.abc import Iterator

from coordd.meta.tables.collection_view import CollectionRow


class CollectionNames:
    """Rows by (home database ID, name)."""

    def __init__(self) -> None:
        self._by_db: dict[int, dict[str, CollectionRow | tuple[CollectionRow, ...]]] = {}
        self._count = 0
        self._available_count = 0
        self._available_by_db: dict[int, int] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def available_count(self) -> int:
        """Number of available collections."""
        return self._available_count

    def add(self, row: CollectionRow) -> None:
        """Index a row that is not indexed."""
        home = row.home_db_id
        names = self._by_db.setdefault(home, {})
        others = self.holders(home, row.name)
        names[row.name] = (*others, row) if others else row
        self._count += 1
        self._count_available(row, 1)

    def remove(self, row: CollectionRow) -> None:
        """Take out a row that is indexed."""
        home = row.home_db_id
        names = self._by_db[home]
        others = tuple([other for other in self.holders(home, row.name) if other is not row])
        if others:
            names[row.name] = others[0] if len(others) == 1 else others
        else:
            del names[row.name]
            if not names:
                del self._by_db[home]
        self._count -= 1
        self._count_available(row, -1)

    def holders(self, db_id: int, name: str) -> tuple[CollectionRow, ...]:
        """All rows of this name."""
        held = self._by_db.get(db_id, {}).get(name, ())
        return held if isinstance(held, tuple) else (held,)

    def available(self, db_id: int, name: str) -> CollectionRow | None:
        """The available row of this name; of several, which Milvus rules out, that with the highest ID."""
        rows = [row for row in self.holders(db_id, name) if row.available]
        return max(rows, key=lambda row: row.collection_id, default=None)

    def available_in_db(self, db_id: int) -> int:
        """Number of available collections of a database."""
        return self._available_by_db.get(db_id, 0)

    def in_db(self, db_id: int) -> Iterator[CollectionRow]:
        """All rows of a database, unordered."""
        for held in self._by_db.get(db_id, {}).values():
            if isinstance(held, tuple):
                yield from held
            else:
                yield held

    def _count_available(self, row: CollectionRow, change: int) -> None:
        if not row.available:
            return
        self._available_count += change
        home = row.home_db_id
        count = self._available_by_db.get(home, 0) + change
        if count:
            self._available_by_db[home] = count
        else:
            del self._available_by_db[home]
