"""The collections with their partitions, fields and functions, folded from five key families.

Values of parts are checked when they arrive and kept as bytes; a `CollectionView` is put together when it is
asked for. Look-ups and counts come from indexes kept up to date with each event.

Of one collection there may be several keys for a moment (it moves to another database), or for good (the
legacy one next to a modern one): the modern form wins over the legacy one, then the one written last.

Damage: a part whose value is quarantined is missing from the view and named in its `damaged`; a quarantined
collection key takes the collection out of every list, while `damaged_keys` still knows of it. Whoever would
act on an incomplete schema must refuse instead: `whole` raises.

Source of truth: Milvus 2.3.5 internal/rootcoord/{meta_table,name_db}.go.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from coordd.errors import CoorddError
from coordd.etcd import Event
from coordd.meta.codecs import DecodeError
from coordd.meta.keys import NO_DB_ID, parse_id, parse_two_ids
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.collection_names import CollectionNames
from coordd.meta.tables.collection_view import (
    CollectionRow,
    CollectionView,
    Partition,
    assemble,
    decode_collection,
    decode_field,
    decode_function,
    decode_partition,
    partitions_of,
)
from coordd.meta.tables.family import KeyFamily, home_db, live_value, malformed

SHARED_FIELDS_MAX: Final = 4_096
"""Values of fields of which later equal ones are looked for: system fields are the same in every collection,
and an application that makes a collection per tenant makes all with one schema."""
SHARED_FIELD_BYTES: Final = 1_024
"""Longer values (a few hundred bytes are usual) are not looked for, so that those kept take 4 MB at most."""

_NOTHING: Final[Mapping[int, bytes]] = MappingProxyType({})
_UNDAMAGED: Final[frozenset[str]] = frozenset()  # one for all: each empty one made takes 216 bytes

T = TypeVar("T")


class DamagedMetadata(CoorddError):
    """Part of a collection's metadata is quarantined: it cannot be described faithfully."""

    def __init__(self, collection_id: int, keys: frozenset[str]) -> None:
        super().__init__(
            f"metadata of collection {collection_id} is damaged: {', '.join(sorted(keys))}",
            hint="restore these keys from a backup, or drop the collection",
        )
        self.collection_id = collection_id
        self.keys = keys


class _Record:
    """Everything of one collection ID. `rows` is in order of precedence; the first is served."""

    __slots__ = ("available_partitions", "damaged", "fields", "functions", "partitions", "rows")

    def __init__(self) -> None:
        self.rows: tuple[CollectionRow, ...] = ()
        self.fields: dict[int, bytes] = {}
        self.partitions: dict[int, Partition] = {}
        self.functions: Mapping[int, bytes] = _NOTHING
        self.available_partitions = 0
        self.damaged = _UNDAMAGED

    @property
    def row(self) -> CollectionRow | None:
        return self.rows[0] if self.rows else None

    @property
    def empty(self) -> bool:
        return not (self.rows or self.fields or self.partitions or self.functions or self.damaged)

    @property
    def unsettled(self) -> bool:
        """Whether it is, or partitions with keys of their own are, being created or dropped."""
        if not self.rows:
            return False
        row = self.rows[0]
        own_keys = row.inline_partitions is None
        return not row.available or (own_keys and self.available_partitions < len(self.partitions))

    def counted_partitions(self) -> int:
        """Available partitions, if the collection is available."""
        row = self.row
        if row is None or not row.available:
            return 0
        return self.available_partitions if row.inline_partitions is None else row.inline_partitions


class CollectionTable:
    """All collections. Database IDs in arguments may be 0 or 1 for the default database."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (
            KeyFamily(layout.collection_prefix, self._apply_collection),
            KeyFamily(layout.old_collection_prefix, self._apply_old_collection),
            KeyFamily(layout.partition_prefix, self._apply_partition),
            KeyFamily(layout.field_prefix, self._apply_field),
            KeyFamily(layout.function_prefix, self._apply_function),
        )
        self.generation = 0
        self._layout = layout
        self._records: dict[int, _Record] = {}
        self._names = CollectionNames()
        self._partition_count = 0
        self._channel_uses: Counter[str] = Counter()
        self._shared_fields: dict[tuple[int, bytes], bytes] = {}
        self._unsettled: set[int] = set()  # IDs; few at any time

    def __len__(self) -> int:
        """Number of collections in any state."""
        return len(self._names)

    def __iter__(self) -> Iterator[CollectionRow]:
        """All collections in any state, unordered; do not apply events meanwhile."""
        return (record.rows[0] for record in self._records.values() if record.rows)

    def ids(self) -> list[int]:
        """IDs of all collections in any state, unordered, and of some of which only parts are there."""
        return list(self._records)

    @property
    def available_count(self) -> int:
        """Number of available collections."""
        return self._names.available_count

    @property
    def partition_count(self) -> int:
        """Number of available partitions of available collections."""
        return self._partition_count

    @property
    def channel_uses(self) -> Mapping[str, int]:
        """Physical channel -> how many collections in any state use it; only those in use. Do not modify."""
        return self._channel_uses

    def get(self, collection_id: int) -> CollectionRow | None:
        """The collection with this ID, in any state."""
        record = self._records.get(collection_id)
        return None if record is None else record.row

    def find(self, db_id: int, name: str) -> CollectionRow | None:
        """The available collection of this name (not alias)."""
        return self._names.available(home_db(db_id), name)

    def holders(self, db_id: int, name: str) -> tuple[CollectionRow, ...]:
        """All collections of this name in any state: at most one available, any number being dropped."""
        return self._names.holders(home_db(db_id), name)

    def in_db(self, db_id: int, *, available_only: bool = True) -> list[CollectionRow]:
        """The collections of a database, by ID."""
        rows = self._names.in_db(home_db(db_id))
        return sorted(
            (row for row in rows if row.available or not available_only), key=lambda row: row.collection_id
        )

    def any_available(self, db_id: int) -> bool:
        """Whether a database has an available collection."""
        return any(row.available for row in self._names.in_db(home_db(db_id)))

    def available_in_db(self, db_id: int) -> int:
        """Number of available collections of a database."""
        return self._names.available_in_db(home_db(db_id))

    def unsettled(self) -> Iterator[tuple[CollectionRow, tuple[Partition, ...]]]:
        """Collections that are, or some of whose partitions are, being created or dropped; unordered.

        With each those of its partitions. Partitions in a collection's own key are always available. Costs
        as much as there are of these, not of all collections; do not apply events meanwhile.
        """
        for collection_id in self._unsettled:
            record = self._records[collection_id]
            row = record.rows[0]
            partitions: tuple[Partition, ...] = ()
            if row.inline_partitions is None:
                partitions = tuple(one for one in record.partitions.values() if not one.available)
            yield row, partitions

    def view(self, collection_id: int) -> CollectionView | None:
        """The collection with all parts that can be served (see its `damaged`), made anew by each call."""
        record = self._records.get(collection_id)
        if record is None or record.row is None:
            return None
        return assemble(
            record.row,
            fields=record.fields,
            partitions=record.partitions,
            functions=record.functions,
            damaged=record.damaged,
        )

    def whole(self, collection_id: int) -> CollectionView | None:
        """Like `view`, for those who rely on every field and partition being there.

        Raises:
            DamagedMetadata: a key of the collection is quarantined.
        """
        self.check_whole(collection_id)
        return self.view(collection_id)

    def check_whole(self, collection_id: int) -> None:
        """For those who rely on every part being there.

        Raises:
            DamagedMetadata: a key of the collection is quarantined.
        """
        damaged = self.damaged_keys(collection_id)
        if damaged:
            raise DamagedMetadata(collection_id, damaged)

    def partitions(self, collection_id: int) -> tuple[Partition, ...]:
        """Those of `view`, which makes far more; none if there is no such collection."""
        record = self._records.get(collection_id)
        if record is None or record.row is None:
            return ()
        return partitions_of(record.row, record.partitions)

    def damaged_keys(self, collection_id: int) -> frozenset[str]:
        """The quarantined keys of a collection, its own one included."""
        record = self._records.get(collection_id)
        return frozenset() if record is None else record.damaged

    def keys_of(self, collection_id: int) -> tuple[str, ...]:
        """All keys that hold a row of this collection; more than one if a legacy form is still there."""
        record = self._records.get(collection_id)
        rows = () if record is None else record.rows
        return tuple(self._layout.collection(row.db_id, collection_id) for row in rows)

    def part_keys(self, collection_id: int) -> tuple[str, ...]:
        """All keys of its partitions, fields and functions, in this order; at last those quarantined."""
        record = self._records.get(collection_id)
        if record is None:
            return ()
        layout = self._layout
        keys = [layout.partition(collection_id, one) for one in record.partitions]
        keys += [layout.field(collection_id, one) for one in record.fields]
        keys += [layout.function(collection_id, one) for one in record.functions]
        if record.damaged:
            keys += sorted(record.damaged.difference(keys, self.keys_of(collection_id)))
        return tuple(keys)

    def _apply_collection(self, event: Event) -> None:
        ids = parse_two_ids(event.key[len(self._layout.collection_prefix) :])
        if ids is None or ids[0] == NO_DB_ID:
            raise malformed(event.key, "a collection")
        self._apply_row(event, *ids)

    def _apply_old_collection(self, event: Event) -> None:
        collection_id = parse_id(event.key[len(self._layout.old_collection_prefix) :])
        if collection_id is None:
            raise malformed(event.key, "a collection")
        self._apply_row(event, NO_DB_ID, collection_id)

    # In each of the following a value that does not decode leaves nothing of the old part.

    def _apply_row(self, event: Event, db_id: int, collection_id: int) -> None:
        record = self._record(collection_id)
        others = tuple([row for row in record.rows if row.db_id != db_id])
        revision = event.mod_revision
        try:
            row = self._decoded(
                record,
                event,
                lambda key, value: decode_collection(key, value, db_id, collection_id, revision),
            )
        except Exception:
            self._set_rows(collection_id, record, others)
            raise
        rows = others if row is None else tuple(sorted((*others, row), key=_precedence, reverse=True))
        self._set_rows(collection_id, record, rows)
        if row is None and record.empty:
            del self._records[collection_id]

    def _apply_partition(self, event: Event) -> None:
        collection_id, partition_id = _part_ids(event, self._layout.partition_prefix, "a partition")
        record = self._record(collection_id)
        partition = None
        try:
            partition = self._decoded(
                record, event, lambda key, value: decode_partition(key, value, collection_id, partition_id)
            )
        finally:
            self._set_partition(collection_id, record, partition_id, partition)
        if partition is None and record.empty:
            del self._records[collection_id]

    def _apply_field(self, event: Event) -> None:
        collection_id, field_id = _part_ids(event, self._layout.field_prefix, "a field")
        record = self._record(collection_id)
        record.fields.pop(field_id, None)
        field = self._decoded(record, event, lambda key, value: self._checked_field(key, value, field_id))
        if field is not None:
            record.fields[field_id] = field
        elif record.empty:
            del self._records[collection_id]

    def _apply_function(self, event: Event) -> None:
        collection_id, function_id = _part_ids(event, self._layout.function_prefix, "a function")
        record = self._record(collection_id)
        functions = dict(record.functions)
        functions.pop(function_id, None)
        record.functions = functions or _NOTHING
        function = self._decoded(record, event, lambda key, value: decode_function(key, value, function_id))
        if function is not None:
            record.functions = {**functions, function_id: event.value or b""}
        elif record.empty:
            del self._records[collection_id]

    def _record(self, collection_id: int) -> _Record:
        record = self._records.get(collection_id)
        if record is None:
            record = self._records[collection_id] = _Record()
        return record

    def _decoded(self, record: _Record, event: Event, decode: Callable[[str, bytes], T]) -> T | None:
        """The event's value decoded, None if the key is gone; keeps track of damage."""
        self.generation += 1
        value = live_value(event)
        try:
            decoded = None if value is None else decode(event.key, value)
        except DecodeError:
            record.damaged |= {event.key}
            raise
        if record.damaged:
            record.damaged = record.damaged - {event.key} or _UNDAMAGED
        return decoded

    def _set_rows(self, collection_id: int, record: _Record, rows: tuple[CollectionRow, ...]) -> None:
        if not rows and not record.rows:
            return
        counted = record.counted_partitions()
        if record.rows:
            self._names.remove(record.rows[0])
            self._count_channels(record.rows[0], -1)
        record.rows = rows
        if rows:
            self._names.add(rows[0])
            self._count_channels(rows[0], 1)
        self._partition_count += record.counted_partitions() - counted
        self._note_unsettled(collection_id, record)

    def _count_channels(self, row: CollectionRow, change: int) -> None:
        for channel in set(row.physical_channels):
            self._channel_uses[channel] += change
            if not self._channel_uses[channel]:
                del self._channel_uses[channel]

    def _set_partition(
        self, collection_id: int, record: _Record, partition_id: int, partition: Partition | None
    ) -> None:
        if partition is None and partition_id not in record.partitions:
            return
        counted = record.counted_partitions()
        gone = record.partitions.pop(partition_id, None)
        if gone is not None:
            record.available_partitions -= gone.available
        if partition is not None:
            record.partitions[partition_id] = partition
            record.available_partitions += partition.available
        self._partition_count += record.counted_partitions() - counted
        self._note_unsettled(collection_id, record)

    def _note_unsettled(self, collection_id: int, record: _Record) -> None:
        if record.unsettled:
            self._unsettled.add(collection_id)
        else:
            self._unsettled.discard(collection_id)

    def _checked_field(self, key: str, value: bytes, field_id: int) -> bytes:
        """The value if it decodes; equal values are kept, and checked, only once."""
        shared = self._shared_fields.get((field_id, value))
        if shared is not None:
            return shared
        decode_field(key, value, field_id)
        if len(value) <= SHARED_FIELD_BYTES:
            if len(self._shared_fields) == SHARED_FIELDS_MAX:
                self._shared_fields.clear()  # anew, with the schemas that are in use now
            self._shared_fields[field_id, value] = value
        return value


def _precedence(row: CollectionRow) -> tuple[bool, int, int]:
    return row.db_id != NO_DB_ID, row.mod_revision, row.db_id


def _part_ids(event: Event, prefix: str, what: str) -> tuple[int, int]:
    ids = parse_two_ids(event.key[len(prefix) :])
    if ids is None:
        raise malformed(event.key, what)
    return ids
