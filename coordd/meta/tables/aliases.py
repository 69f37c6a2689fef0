"""The aliases, folded from three key families.

Of one alias several forms may be stored at once; Milvus tombstones the other two with each write, and what
it reads last at start wins: the form without a database, then the modern one, then that from before 2.1.
(The form without a database can only be newer than a modern one if an older Milvus wrote it later.)

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go (listAliasesInDefaultDb),
internal/rootcoord/meta_table.go (reload).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError, decode_proto
from coordd.meta.keys import NO_DB_ID, is_clean_path, parse_id
from coordd.meta.layout import MetaLayout
from coordd.meta.tables.family import KeyFamily, home_db, live_value, malformed, require
from coordd.pb import etcd_meta_pb2

RANK_OLDEST: Final = 0
RANK_MODERN: Final = 1
RANK_WITHOUT_DB: Final = 2


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias. `db_id`: the database it is shown in; `created_time`: hybrid timestamp, 0 if not known."""

    name: str
    db_id: int
    collection_id: int
    created_time: int
    state: int
    key: str
    rank: int


class AliasTable:
    """All aliases. Database IDs in arguments may be 0 or 1 for the default database."""

    def __init__(self, layout: MetaLayout) -> None:
        self.families = (
            KeyFamily(layout.alias_prefix, self._apply_modern),
            KeyFamily(layout.old_alias_prefix, self._apply_without_db),
            KeyFamily(layout.oldest_alias_prefix, self._apply_oldest),
        )
        self.generation = 0
        self._layout = layout
        self._forms: dict[tuple[int, str], tuple[Alias, ...]] = {}
        self._of_collection: dict[int, set[tuple[int, str]]] = {}

    def __len__(self) -> int:
        return len(self._forms)

    def __iter__(self) -> Iterator[Alias]:
        """All aliases, by database and name."""
        return (self._forms[where][0] for where in sorted(self._forms))

    def get(self, db_id: int, name: str) -> Alias | None:
        """What the alias points to."""
        forms = self._forms.get((home_db(db_id), name))
        return None if forms is None else forms[0]

    def in_db(self, db_id: int) -> list[Alias]:
        """The aliases of a database, by name."""
        return [alias for alias in self if alias.db_id == home_db(db_id)]

    def of_collection(self, collection_id: int) -> list[str]:
        """Names of the aliases of a collection, sorted (Milvus returns them in random order)."""
        return sorted(name for _, name in self._of_collection.get(collection_id, ()))

    def keys_of(self, db_id: int, name: str) -> tuple[str, ...]:
        """All keys that hold this alias in some form: what to tombstone when it is dropped."""
        return tuple(alias.key for alias in self._forms.get((home_db(db_id), name), ()))

    def keys_of_collection(self, collection_id: int) -> tuple[str, ...]:
        """All keys that hold an alias that leads to this collection, in whatever form and database."""
        return tuple(
            alias.key
            for where in sorted(self._of_collection.get(collection_id, ()))
            for alias in self._forms[where]
        )

    def _apply_modern(self, event: Event) -> None:
        db_text, _, name = event.key[len(self._layout.alias_prefix) :].partition("/")
        db_id = parse_id(db_text)
        if not db_id or not is_clean_path(name):
            raise malformed(event.key, "an alias")
        self._change(event, db_id, name, RANK_MODERN)

    def _apply_without_db(self, event: Event) -> None:
        self._change(event, NO_DB_ID, self._bare_name(event, self._layout.old_alias_prefix), RANK_WITHOUT_DB)

    def _apply_oldest(self, event: Event) -> None:
        self._change(event, NO_DB_ID, self._bare_name(event, self._layout.oldest_alias_prefix), RANK_OLDEST)

    def _bare_name(self, event: Event, prefix: str) -> str:
        name = event.key[len(prefix) :]
        if not is_clean_path(name):
            raise malformed(event.key, "an alias")
        return name

    def _change(self, event: Event, db_id: int, name: str, rank: int) -> None:
        where = home_db(db_id), name
        self.generation += 1
        forms = tuple(form for form in self._forms.get(where, ()) if form.key != event.key)
        self._replace(where, forms)
        value = live_value(event)
        if value is not None:
            alias = _decode(event.key, value, where, rank)
            self._replace(where, tuple(sorted((*forms, alias), key=lambda form: form.rank, reverse=True)))

    def _replace(self, where: tuple[int, str], forms: tuple[Alias, ...]) -> None:
        served = self._forms.pop(where, None)
        if served is not None:
            names = self._of_collection[served[0].collection_id]
            names.remove(where)
            if not names:
                del self._of_collection[served[0].collection_id]
        if forms:
            self._forms[where] = forms
            self._of_collection.setdefault(forms[0].collection_id, set()).add(where)


def _decode(key: str, value: bytes, where: tuple[int, str], rank: int) -> Alias:
    db_id, name = where
    if rank == RANK_OLDEST:
        collection = decode_proto(key, value, etcd_meta_pb2.CollectionInfo)
        require(key, condition=collection.ID != 0, reason="an alias of no collection")
        return Alias(name, db_id, collection.ID, 0, collection.state, key, rank)
    info = decode_proto(key, value, etcd_meta_pb2.AliasInfo)
    if info.alias_name != name:
        raise DecodeError(key, f"holds alias {info.alias_name!r}")
    require(key, condition=info.collection_id != 0, reason="an alias of no collection")
    return Alias(name, db_id, info.collection_id, info.created_time, info.state, key, rank)
