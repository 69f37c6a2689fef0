"""DropCollection's metadata, the end of what is dropped or was never finished, and what a new term finds so.

A drop marks the collection: from then on nobody sees it, and its name is free. When nothing else knows it
any more, its keys are tombstoned, the collection's own last, so that an interrupted purge is found and
resumed. So is one whose database was dropped meanwhile, which Milvus allows, and then never finds again.

Keys are deleted exactly, and aliases only if they still lead to the collection. (Milvus deletes by prefix:
with alias `a` also `ab`, and with one of another database the alias of that name from before databases.)

Not Milvus': an alias is refused also by a request without a database name.

Source of truth: Milvus 2.3.5 internal/rootcoord/{drop_collection_task,root_coord,meta_table}.go,
internal/metastore/kv/rootcoord/kv_catalog.go; texts recorded from a running 2.3.5.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coordd.meta.layout import MetaLayout
from coordd.meta.tables import DEFAULT_DB_NAME, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import MsgType
from coordd.pb.etcd_meta_pb2 import CollectionState, PartitionState
from coordd.pb.milvus_pb2 import DropCollectionRequest
from coordd.rootcoord.collections.change import (
    MAX_OPS,
    Change,
    in_transactions,
    info_of,
    put_collection,
    time_of,
    tombstones,
)
from coordd.rootcoord.errors import check_msg_type
from coordd.rpc.status import MilvusError

KEYS_AT_ONCE: Final = MAX_OPS // 2
"""Keys in one transaction: to delete one takes two writes, its own and its snapshot's."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What earlier terms began: collections by ID, partitions by collection's and own ID, all sorted."""

    creating: tuple[int, ...]
    dropping: tuple[int, ...]
    creating_partitions: tuple[tuple[int, int], ...]
    dropping_partitions: tuple[tuple[int, int], ...]


def unfinished(tables: RootCoordTables) -> Unfinished:
    """What is to be undone (creating) or completed (dropping); partitions of available collections only."""
    creating, dropping = [], []
    creating_partitions: list[tuple[int, int]] = []
    dropping_partitions: list[tuple[int, int]] = []
    for row, partitions in tables.collections.unsettled():
        if row.state == CollectionState.CollectionCreating:
            creating.append(row.collection_id)
        elif not row.available:
            dropping.append(row.collection_id)
        else:
            for partition in partitions:
                undo = partition.state == PartitionState.PartitionCreating
                (creating_partitions if undo else dropping_partitions).append(
                    (row.collection_id, partition.id)
                )
    return Unfinished(
        tuple(sorted(creating)),
        tuple(sorted(dropping)),
        tuple(sorted(creating_partitions)),
        tuple(sorted(dropping_partitions)),
    )


def plan_drop(
    tables: RootCoordTables, layout: MetaLayout, request: DropCollectionRequest, timestamp: int
) -> Change:
    """Mark a collection as being dropped; no writes, and no ID, if there is none of that name.

    The name is to be forgotten even then: a term may have dropped it and ended before it told anybody.

    Raises:
        MilvusError: refused.
    """
    check_msg_type(request.base, MsgType.DropCollection)
    db_name, name = request.db_name or DEFAULT_DB_NAME, request.collection_name
    database = tables.databases.by_name(db_name)
    if database is not None and tables.aliases.get(database.id, name) is not None:
        raise MilvusError(f"cannot drop the collection via alias = {name}")
    row = None if database is None else tables.collections.find(database.id, name)
    if row is None:
        return Change((), db_name, (name,) if name else ())
    info = info_of(row)
    info.state = CollectionState.CollectionDropping
    return Change(
        put_collection(layout, row, info, timestamp),
        db_name,
        (*tables.aliases.of_collection(row.collection_id), name),
        row.collection_id,
    )


def plan_purge(
    tables: RootCoordTables, layout: MetaLayout, collection_id: int, timestamp: int
) -> Iterator[tuple[Write, ...]]:
    """The transactions, in this order, that delete all that is left of a collection; none if nothing is.

    Each is planned when it is asked for: there may be thousands of partitions, and whoever looks anew after
    each transaction takes only the first.

    Raises:
        ValueError: the collection is available, so nobody asked for this.
    """
    row = tables.collections.get(collection_id)
    if row is None:
        return iter(())
    if row.available:
        raise ValueError(f"collection {collection_id} is available: it is not to be purged")
    ts = time_of(row, timestamp)
    keys = (
        *tables.aliases.keys_of_collection(collection_id),
        *tables.collections.part_keys(collection_id),
        *tables.collections.keys_of(collection_id),
    )
    return _in_transactions(layout, keys, ts)


def _in_transactions(layout: MetaLayout, keys: Sequence[str], ts: int) -> Iterator[tuple[Write, ...]]:
    for begin in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[begin : begin + KEYS_AT_ONCE]
        yield from in_transactions(tombstones(layout, (key,), ts) for key in some)
