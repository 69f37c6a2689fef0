"""The databases.

Source of truth: Milvus 2.3.5 internal/metastore/model/database.go, internal/rootcoord/meta_table.go.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError, decode_proto
from coordd.meta.keys import parse_id
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import DEFAULT_DB_NAME, KeyFamily, live_value, malformed, require
from coordd.pb import etcd_meta_pb2


@dataclass(frozen=True, slots=True)
class Database:
    """One database. `created_time`: Unix nanoseconds; `state`: etcd.DatabaseState (1 = created)."""

    id: int
    name: str
    state: int
    created_time: int
    tenant_id: str
    properties: tuple[tuple[str, str], ...] = ()


class DatabaseTable:
    """All databases by ID and by name.

    Two databases of one name are not possible in Milvus; should metadata hold them, the one with the higher
    ID is found by name.
    """

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (KeyFamily(layout.database_prefix, self._apply),)
        self.generation = 0
        self._prefix_length = len(layout.database_prefix)
        self._by_id: dict[int, Database] = {}
        self._by_name: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Database]:
        """In order of their IDs."""
        return iter(sorted(self._by_id.values(), key=lambda database: database.id))

    def get(self, db_id: int) -> Database | None:
        """The database with this ID."""
        return self._by_id.get(db_id)

    def by_name(self, name: str) -> Database | None:
        """The database of this name; "" means the default one, as in all of Milvus' requests."""
        db_id = self._by_name.get(name or DEFAULT_DB_NAME)
        return None if db_id is None else self._by_id[db_id]

    def _apply(self, event: Event) -> None:
        db_id = parse_id(event.key[self._prefix_length :])
        if db_id is None:
            raise malformed(event.key, "a database")
        self.generation += 1
        gone = self._by_id.pop(db_id, None)
        if gone is not None:
            self._index(gone.name)
        value = live_value(event)
        if value is not None:
            database = decode_database(event.key, db_id, value)
            self._by_id[db_id] = database
            self._index(database.name)

    def _index(self, name: str) -> None:
        """Databases are few: look through all."""
        ids = [database.id for database in self._by_id.values() if database.name == name]
        if ids:
            self._by_name[name] = max(ids)
        else:
            self._by_name.pop(name, None)


def decode_database(key: str, db_id: int, value: bytes) -> Database:
    """A database from an etcd.DatabaseInfo.

    Raises:
        DecodeError: not one, or not that of `db_id`.
    """
    info = decode_proto(key, value, etcd_meta_pb2.DatabaseInfo)
    if info.id != db_id:
        raise DecodeError(key, f"holds database {info.id}")
    require(key, condition=info.name != "", reason="a database without a name")
    properties = tuple((pair.key, pair.value) for pair in info.properties)
    return Database(db_id, info.name, info.state, info.created_time, info.tenant_id, properties)
