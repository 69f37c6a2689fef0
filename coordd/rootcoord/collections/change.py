"""What the plans have in common: their result, and how a collection's keys are rewritten.

A stored value is changed in place: what an older or newer Milvus keeps in it, fields and partitions of the
inline form included, stays as it is. (Milvus' RootCoord rewrites a collection key without its inline parts,
and has lost them when it restarts.)

Timestamps: a change is written as of its own timestamp, which the oracle has made newer than all earlier
ones. Only a collection that was replicated from another cluster can carry a later one, its creation time;
what is changed of it is then written as of that time, so that the newest snapshot is always the present
value.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/kv_catalog.go.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from coordd.etcd import MAX_TXN_OPS
from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_delete, plan_put
from coordd.meta.tables import CollectionRow, Partition
from coordd.meta.transaction import Write, split
from coordd.pb.etcd_meta_pb2 import CollectionInfo, PartitionInfo, PartitionState

MAX_OPS: Final = MAX_TXN_OPS - 1
"""Writes in one transaction: one more is taken by the mark of the order of changes."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a request changes.

    `writes`: to be kept in one transaction; none if all is as the request wants it. `names`, `collection_id`:
    what proxies must forget, by name and, unless 0, by ID, all in `db_name`. `partition_id`: of the
    partition that is made or dropped, else 0. `led_to`: ID of the collection that an alias leaves, else 0.
    """

    writes: tuple[Write, ...]
    db_name: str
    names: tuple[str, ...] = ()
    collection_id: int = 0
    partition_id: int = 0
    led_to: int = 0


def info_of(row: CollectionRow) -> CollectionInfo:
    """A new message of what the collection key holds."""
    return CollectionInfo.FromString(row.value)


def time_of(row: CollectionRow, timestamp: int) -> int:
    """When a change of this collection is written as of; see the module."""
    return max(timestamp, row.create_time)


def put_collection(
    layout: MetaLayout, row: CollectionRow, info: CollectionInfo, timestamp: int
) -> tuple[Write, ...]:
    """Rewrite the collection key that `row` was read from."""
    key = layout.collection(row.db_id, row.collection_id)
    ts = time_of(row, timestamp)
    return plan_put(layout, key, encode_proto(info), ts)


def put_partition(layout: MetaLayout, collection_id: int, partition: Partition, ts: int) -> tuple[Write, ...]:
    """Write a partition's key."""
    info = PartitionInfo(
        partitionID=partition.id,
        partitionName=partition.name,
        partition_created_timestamp=partition.created_timestamp,
        collection_id=collection_id,
        state=cast("PartitionState", partition.state),
    )
    return plan_put(layout, layout.partition(collection_id, partition.id), encode_proto(info), ts)


def tombstones(layout: MetaLayout, keys: Iterable[str], ts: int) -> tuple[Write, ...]:
    """Delete exactly these keys, which exist."""
    return tuple(write for key in keys for write in plan_delete(layout, key, ts))


def in_transactions(groups: Iterable[tuple[Write, ...]]) -> tuple[tuple[Write, ...], ...]:
    """Cut groups into transactions that etcd takes, in their order.

    Raises:
        TransactionTooLarge: a single group is too large.
    """
    return tuple(split([group for group in groups if group], max_ops=MAX_OPS))
