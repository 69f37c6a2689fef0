"""Finding a collection by name, alias or ID, now or at a past time, with Milvus' answers to what is missing.

The latest state comes from the tables and costs no I/O. A past state (`time_stamp` neither 0 nor the
largest) does too if the collection exists today, is available and is not younger: as in Milvus the answer is
then today's, name and partitions included. Else it is read from the snapshot keys in etcd.

Rules that look odd and are Milvus': a name goes before an ID; an alias goes before a collection's name; by ID
the database is not looked at, unless etcd is read; a name of a collection that is being dropped still leads
to it, to be refused by its ID; only a look-up by ID may find what is not available, and only if asked to.

Source of truth: Milvus 2.3.5 internal/rootcoord/meta_table.go; texts recorded from a running 2.3.5.
"""

from dataclasses import dataclass

from coordd.meta.tables import (
    DEFAULT_DB_NAME,
    CollectionRow,
    CollectionView,
    Database,
    RootCoordTables,
)
from coordd.rootcoord.errors import no_collection_with_id, no_collection_with_name
from coordd.rootcoord.looks import Looks

MAX_TIMESTAMP = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """A collection as a request names it.

    `time_stamp`: hybrid timestamp; 0 and `MAX_TIMESTAMP` mean now. `unavailable`: collections and partitions
    that are being created or dropped count too, if asked for by ID.
    """

    db_name: str
    name: str
    collection_id: int
    time_stamp: int = 0
    unavailable: bool = False

    @property
    def is_latest(self) -> bool:
        """Whether the present state is meant."""
        return self.time_stamp in (0, MAX_TIMESTAMP)

    @property
    def takes_unavailable(self) -> bool:
        """Whether what is being created or dropped counts."""
        return self.unavailable and not self.name


class CollectionLookup:
    """Look-ups in the tables; all methods are synchronous.

    `looks`: where it is noted which collection's present state was looked up, to be told to a caller.
    """

    def __init__(self, tables: RootCoordTables, looks: Looks | None = None) -> None:
        self._tables = tables
        self._looks = looks or Looks()

    def database(self, db_name: str) -> Database | None:
        """The database of this name; "" is the default one."""
        return self._tables.databases.by_name(db_name)

    def now(self, wanted: Wanted) -> CollectionRow:
        """What the request names in the present state.

        Raises:
            CollectionNotFound: there is none that may be answered.
        """
        if not wanted.name:
            row = self._by_id(wanted.collection_id, unavailable=wanted.unavailable)
        else:
            db_name = wanted.db_name or DEFAULT_DB_NAME
            collection_id = self.known_id(db_name, wanted.name)
            if collection_id is None:
                raise no_collection_with_name(db_name, wanted.name)
            row = self._by_id(collection_id, unavailable=False)
        self._looks.note(row.collection_id)
        return row

    def then_from_memory(self, wanted: Wanted) -> CollectionRow | None:
        """The row that also answers for a past time; None if etcd must be read."""
        collection_id = self.known_id_of(wanted)
        row = None if collection_id is None else self._tables.collections.get(collection_id)
        if row is None or not row.available or row.create_time > wanted.time_stamp:
            return None
        return row

    def known_id_of(self, wanted: Wanted) -> int | None:
        """The ID that the request gives, or that its name stands for today."""
        if not wanted.name:
            return wanted.collection_id
        return self.known_id(wanted.db_name or DEFAULT_DB_NAME, wanted.name)

    def known_id(self, db_name: str, name: str) -> int | None:
        """The ID that a name stands for today, available or not; None if it stands for nothing."""
        database = self.database(db_name)
        if database is None:
            return None
        alias = self._tables.aliases.get(database.id, name)
        if alias is not None:
            return alias.collection_id
        row = self._tables.collections.find(database.id, name)
        if row is not None:
            return row.collection_id
        holders = self._tables.collections.holders(database.id, name)
        return max((row.collection_id for row in holders), default=None)

    def home_of(self, collection_id: int) -> int | None:
        """ID of the database that a collection is in, available or not; None if it is not known."""
        row = self._tables.collections.get(collection_id)
        return None if row is None else row.home_db_id

    def view(self, row: CollectionRow) -> CollectionView:
        """The row's collection with all its parts.

        Raises:
            DamagedMetadata: a part of it cannot be read, so it cannot be described faithfully.
            CollectionNotFound: it is gone.
        """
        view = self._tables.collections.whole(row.collection_id)
        if view is None:
            raise no_collection_with_id(row.collection_id)
        return view

    def _by_id(self, collection_id: int, *, unavailable: bool) -> CollectionRow:
        row = self._tables.collections.get(collection_id)
        if row is None or not (row.available or unavailable):
            raise no_collection_with_id(collection_id)
        return row
