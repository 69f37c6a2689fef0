"""Collections as they were at a past time, read from etcd's snapshot keys.

One answer is read at one revision of etcd, however many ranges it takes. Collections from before databases
belong to the default one here, as everywhere (Milvus' own past reads by name leave them out).

A collection key that does not decode is left out of lists and searches, with a line in the log; asked for
directly, or a part of it, it raises.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go (GetCollectionByID,
GetCollectionByName, ListCollections).
"""

from coordd.log import get_logger
from coordd.meta.codecs import DecodeError
from coordd.meta.keys import NO_DB_ID, CollectionKey, FieldKey, FunctionKey, PartitionKey
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import SnapshotReader
from coordd.meta.tables.collection_view import (
    CollectionRow,
    CollectionView,
    assemble,
    decode_collection,
    decode_field,
    decode_function,
    decode_partition,
)
from coordd.meta.tables.family import DEFAULT_DB_ID, home_db

log = get_logger("coordd.meta.past_collections")


class PastCollections:
    """Point-in-time counterparts of the look-ups in `CollectionTable`.

    `ts` is a hybrid timestamp. All methods raise EtcdError when etcd cannot be read; safe to cancel.
    """

    def __init__(self, reader: SnapshotReader, layout: MetaLayout) -> None:
        self._reader = reader
        self._layout = layout

    async def view(self, db_id: int, collection_id: int, ts: int) -> CollectionView | None:
        """The collection of this database and ID at `ts`, in any state.

        Raises:
            DecodeError: a value of it does not decode.
        """
        revision = 0
        for key_db_id in _key_db_ids(db_id):
            key = self._layout.collection(key_db_id, collection_id)
            found = await self._reader.read(key, ts, revision=revision)
            revision = found.revision
            if found.value is not None:
                row = decode_collection(key, found.value, key_db_id, collection_id, revision)
                return await self._assemble(row, ts, revision)
        return None

    async def find(self, db_id: int, name: str, ts: int) -> CollectionView | None:
        """The collection that had this name (not alias) at `ts`; an available one goes before others.

        Raises:
            DecodeError: a part of it does not decode.
        """
        rows, revision = await self._rows(db_id, ts)
        named = [row for row in rows if row.name == name]
        if not named:
            return None
        row = max(named, key=lambda row: (row.available, row.collection_id))
        return await self._assemble(row, ts, revision)

    async def in_db(self, db_id: int, ts: int, *, available_only: bool = True) -> list[CollectionRow]:
        """The collections of a database at `ts`, by ID."""
        rows, _ = await self._rows(db_id, ts)
        return [row for row in rows if row.available or not available_only]

    async def _rows(self, db_id: int, ts: int) -> tuple[list[CollectionRow], int]:
        """The rows by ID, and the revision they were read at."""
        revision = 0
        rows: dict[int, CollectionRow] = {}
        for key_db_id in _key_db_ids(db_id):
            found = await self._reader.read_prefix(
                self._layout.collections_of(key_db_id), ts, revision=revision
            )
            revision = found.revision
            for key, value in found.values.items():
                row = self._row(key, value, revision)
                if row is not None:
                    rows.setdefault(row.collection_id, row)
        return [rows[collection_id] for collection_id in sorted(rows)], revision

    def _row(self, key: str, value: bytes, revision: int) -> CollectionRow | None:
        parsed = self._layout.parse(key)
        if not isinstance(parsed, CollectionKey):
            return None
        try:
            return decode_collection(key, value, parsed.db_id, parsed.collection_id, revision)
        except DecodeError as error:
            log.warning("past collection left out, its value does not decode", key=key, reason=error.reason)
            return None

    async def _assemble(self, row: CollectionRow, ts: int, revision: int) -> CollectionView:
        if row.inline_partitions is not None:
            return assemble(row, fields={}, partitions={}, functions={})
        layout, collection_id = self._layout, row.collection_id
        fields, partitions, functions = [
            (await self._reader.read_prefix(prefix, ts, revision=revision)).values
            for prefix in (
                layout.fields_of(collection_id),
                layout.partitions_of(collection_id),
                layout.functions_of(collection_id),
            )
        ]
        for key, value in fields.items():
            decode_field(key, value, _part_id(layout, key))
        for key, value in functions.items():
            decode_function(key, value, _part_id(layout, key))
        return assemble(
            row,
            fields={_part_id(layout, key): value for key, value in fields.items()},
            partitions={
                (part_id := _part_id(layout, key)): decode_partition(key, value, collection_id, part_id)
                for key, value in partitions.items()
            },
            functions={_part_id(layout, key): value for key, value in functions.items()},
        )


def _key_db_ids(db_id: int) -> tuple[int, ...]:
    """Database IDs under whose keys the collections of a database lie, by precedence."""
    return (DEFAULT_DB_ID, NO_DB_ID) if home_db(db_id) == DEFAULT_DB_ID else (db_id,)


def _part_id(layout: MetaLayout, key: str) -> int:
    match layout.parse(key):
        case FieldKey(_, part_id) | PartitionKey(_, part_id) | FunctionKey(_, part_id):
            return part_id
        case _:
            raise DecodeError(key, "not the key of a part of a collection")
