"""What a name stands for when something is changed, and which names metadata can hold.

A change looks its collection up at its own timestamp, and Milvus words a miss accordingly. (It reads etcd for
that, at a time that is the present; the tables are as fresh.)

Not Milvus': an alias whose collection is not available leads nowhere, so it is free. There it stays taken for
as long as the dropped collection's data is kept, 20 minutes at least, and hides a new collection of its name.

Source of truth: Milvus 2.3.5 internal/rootcoord/meta_table.go, internal/proxy/util.go (names); texts recorded
from a running 2.3.5.
"""

from coordd.meta.keys import is_clean_path
from coordd.meta.tables import DEFAULT_DB_NAME, Alias, CollectionRow, Database, RootCoordTables
from coordd.rootcoord.errors import no_database_then
from coordd.rootcoord.lookup import CollectionLookup
from coordd.rpc.status import CollectionNotFound, MilvusError, ParameterInvalid


def database_of(tables: RootCoordTables, db_name: str) -> Database:
    """The database that a request names; "" is the default one.

    Raises:
        MilvusError: there is none.
    """
    database = tables.databases.by_name(db_name)
    if database is None:
        raise no_database_then(db_name or DEFAULT_DB_NAME)
    return database


def collection_named(tables: RootCoordTables, db_name: str, name: str, timestamp: int) -> CollectionRow:
    """The available collection that a name or alias stands for.

    `timestamp`: that of the change; Milvus' text of a miss has it.

    Raises:
        MilvusError: there is none.
    """
    lookup = CollectionLookup(tables)
    db_name = db_name or DEFAULT_DB_NAME
    collection_id = lookup.known_id(db_name, name)
    row = None if collection_id is None else tables.collections.get(collection_id)
    if row is not None and row.available:
        return row
    if row is not None:
        raise CollectionNotFound(collection=db_name).wrap(row.name)
    database = database_of(tables, db_name)
    raise CollectionNotFound(database=database.id, collection=name).wrap(f"timestamp = {timestamp}")


def live_alias(tables: RootCoordTables, db_id: int, name: str) -> Alias | None:
    """The alias of this name, if its collection is available."""
    alias = tables.aliases.get(db_id, name)
    row = None if alias is None else tables.collections.get(alias.collection_id)
    return alias if row is not None and row.available else None


def dead_alias_keys(tables: RootCoordTables, db_id: int, name: str) -> tuple[str, ...]:
    """The keys of an alias of this name that leads nowhere: to tombstone when the name is given away."""
    return () if live_alias(tables, db_id, name) is not None else tables.aliases.keys_of(db_id, name)


def check_collection_name(name: str) -> None:
    """Raises:
    MilvusError: metadata cannot hold a collection of this name.
    """
    if not name:
        raise ParameterInvalid().wrap("collection name should not be empty")


def check_alias(name: str) -> None:
    """An alias is part of a key, so it must be a path that Milvus' path.Join leaves as it is.

    Raises:
        MilvusError: it is not.
    """
    if not name:
        raise ParameterInvalid().wrap("collection alias should not be empty")
    if not is_clean_path(name):
        raise ParameterInvalid().wrap(
            f"Invalid collection alias: {name}. "
            " collection alias can only contain numbers, letters and underscores"
        )


def check_partition_name(name: str) -> None:
    """Raises:
    MilvusError: metadata cannot hold a partition of this name.
    """
    if not name:
        raise MilvusError("Invalid partition name: . Partition name should not be empty.")
