"""Look-ups at a past time that the tables cannot answer: read from the snapshot keys in etcd.

`CollectionLookup.then_from_memory` has been asked before. What Milvus says when there is nothing depends on
which key it looked at last, and so it does here.

Not Milvus': a collection of another database than the default one is found by its ID alone also while it is
being created or dropped. There it is looked for in the default database.

Source of truth: Milvus 2.3.5 internal/rootcoord/meta_table.go, internal/metastore/kv/rootcoord/
{kv_catalog,suffix_snapshot}.go; texts recorded from a running 2.3.5.
"""

from coordd.etcd import EtcdClient
from coordd.meta.keys import NO_DB_ID
from coordd.meta.layout import MetaLayout
from coordd.meta.past_collections import PastCollections
from coordd.meta.snapshot import SnapshotReader
from coordd.meta.tables import DEFAULT_DB_ID, DEFAULT_DB_NAME, CollectionRow, CollectionView, Database
from coordd.rootcoord.errors import no_collection_with_id, no_collection_with_name, no_database_then
from coordd.rootcoord.lookup import CollectionLookup, Wanted
from coordd.rpc.status import CollectionNotFound, MilvusError


class PastLookup:
    """Every method reads etcd and raises EtcdError when that fails; safe to cancel."""

    def __init__(self, client: EtcdClient, layout: MetaLayout, lookup: CollectionLookup) -> None:
        self._client = client
        self._layout = layout
        self._lookup = lookup
        self._collections = PastCollections(SnapshotReader(client, layout), layout)

    async def collection(self, wanted: Wanted) -> CollectionView:
        """The collection as it was at `wanted.time_stamp`.

        Raises:
            MilvusError: there was none that may be answered, or no such database.
            DecodeError: it cannot be read.
        """
        db_name = (wanted.db_name or DEFAULT_DB_NAME) if wanted.name else wanted.db_name
        collection_id = self._lookup.known_id_of(wanted)
        database = self._database(db_name)
        if collection_id is None:
            return await self._by_name(database, wanted.name, wanted.time_stamp)
        view = await self._collections.view(database.id, collection_id, wanted.time_stamp)
        if view is None and not wanted.name and not wanted.db_name:
            view = await self._at_home(collection_id, database.id, wanted.time_stamp)
        if view is None:
            raise await self._nothing_then(database, collection_id)
        if not view.available and not wanted.takes_unavailable:
            raise CollectionNotFound(collection=db_name).wrap(view.name)
        return view

    async def collections(self, db_name: str, time_stamp: int) -> list[CollectionRow]:
        """The collections of a database that were available at `time_stamp`, by ID.

        Raises:
            MilvusError: no such database today.
        """
        return await self._collections.in_db(self._database(db_name).id, time_stamp)

    async def _at_home(self, collection_id: int, asked: int, time_stamp: int) -> CollectionView | None:
        """By its ID in the database that it is in today, if that is another than the one already `asked`."""
        db_id = self._lookup.home_of(collection_id)
        if db_id is None or db_id == asked:
            return None
        return await self._collections.view(db_id, collection_id, time_stamp)

    async def _by_name(self, database: Database, name: str, time_stamp: int) -> CollectionView:
        view = await self._collections.find(database.id, name, time_stamp)
        if view is None:
            missing = CollectionNotFound(database=database.id, collection=name)
            raise missing.wrap(f"timestamp = {time_stamp}")
        if not view.available:
            raise no_collection_with_name(database.name, name)
        return view

    async def _nothing_then(self, database: Database, collection_id: int) -> MilvusError:
        """Milvus reads the collection's key, in the default database also the one from before databases."""
        db_id = NO_DB_ID if database.id == DEFAULT_DB_ID else database.id
        if collection_id < 0:
            return no_collection_with_id(collection_id)
        key = self._layout.collection(db_id, collection_id)
        exists = (await self._client.get(key)).kv is not None
        reason = "no value found" if exists else f"key not found[key={key}]"
        return no_collection_with_id(collection_id).wrap(reason)

    def _database(self, db_name: str) -> Database:
        database = self._lookup.database(db_name)
        if database is None:
            raise no_database_then(db_name or DEFAULT_DB_NAME)
        return database
