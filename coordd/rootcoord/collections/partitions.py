"""CreatePartition and DropPartition.

A collection from before Milvus 2.1 holds its partitions inside its own key, where they have no state. The
first change of one writes them, and the fields, under keys of their own, as every Milvus since then expects
them, in the same transaction.

Not Milvus': a partition without a name is refused.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create,drop}_partition_task.go, meta_table.go,
internal/metastore/kv/rootcoord/kv_catalog.go; texts recorded from a running 2.3.5.
"""

from dataclasses import replace

from coordd.meta.codecs import encode_proto
from coordd.meta.layout import MetaLayout
from coordd.meta.snapshot import plan_put
from coordd.meta.tables import (
    CREATED,
    DEFAULT_DB_NAME,
    CollectionRow,
    Partition,
    RootCoordTables,
)
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import MsgType
from coordd.pb.etcd_meta_pb2 import PartitionState
from coordd.pb.milvus_pb2 import CreatePartitionRequest, DropPartitionRequest
from coordd.rootcoord.collections.change import (
    MAX_OPS,
    Change,
    info_of,
    put_collection,
    put_partition,
    time_of,
    tombstones,
)
from coordd.rootcoord.collections.definition import too_many_partitions
from coordd.rootcoord.collections.naming import check_partition_name, collection_named
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.errors import check_msg_type, no_collection_with_id
from coordd.rpc.status import MilvusError, PartitionNotFound


def plan_create_partition(
    tables: RootCoordTables, layout: MetaLayout, request: CreatePartitionRequest, stamp: Stamp, *, limit: int
) -> Change:
    """Write a partition that nobody sees yet, with the stamp's ID; no writes, and no ID, if it is there.

    `limit`: rootCoord.maxPartitionNum.

    Raises:
        MilvusError: refused.
        DamagedMetadata: the partitions that are there cannot all be read.
    """
    check_msg_type(request.base, MsgType.CreatePartition)
    db_name = request.db_name or DEFAULT_DB_NAME
    row = collection_named(tables, db_name, request.collection_name, stamp.timestamp)
    known = _available(tables, row)
    if request.partition_name in known:
        return Change((), db_name, (row.name,), row.collection_id)
    if len(known) >= limit:
        raise too_many_partitions(len(known), limit, row.name)
    check_partition_name(request.partition_name)
    partition = Partition(stamp.id, request.partition_name, stamp.timestamp, PartitionState.PartitionCreating)
    unfolded = _unfold(tables, layout, row, stamp.timestamp)
    writes = (*unfolded, *_put(layout, row, partition, stamp.timestamp))
    return Change(_one_transaction(writes, row), db_name, (row.name,), row.collection_id, partition.id)


def plan_finish_partition(
    tables: RootCoordTables, layout: MetaLayout, collection_id: int, partition_id: int
) -> tuple[Write, ...]:
    """The transaction that makes a partition available; none if it is. It counts from its creation.

    Raises:
        MilvusError: it or its collection is gone or being dropped, or its name was given away: to be undone.
    """
    row = tables.collections.get(collection_id)
    if row is None or not row.available:
        raise no_collection_with_id(collection_id)
    partition = _partition(tables, collection_id, partition_id)
    if partition is None or partition.state not in (CREATED, PartitionState.PartitionCreating):
        raise PartitionNotFound(partition=partition_id)
    if partition.available:
        return ()
    partitions = tables.collections.partitions(collection_id)
    if any(one.available and one.name == partition.name for one in partitions):
        raise MilvusError(f"partition already exist: {partition.name}")
    return _put(layout, row, replace(partition, state=CREATED), partition.created_timestamp)


def plan_drop_partition(
    tables: RootCoordTables,
    layout: MetaLayout,
    request: DropPartitionRequest,
    timestamp: int,
    *,
    default_partition: str,
) -> Change:
    """Mark a partition as being dropped; no writes, and no ID, if there is none of that name.

    `default_partition`: common.defaultPartitionName.

    Raises:
        MilvusError: refused.
        DamagedMetadata: the partitions that are there cannot all be read.
    """
    check_msg_type(request.base, MsgType.DropPartition)
    if request.partition_name == default_partition:
        raise MilvusError("default partition cannot be deleted")
    db_name = request.db_name or DEFAULT_DB_NAME
    row = collection_named(tables, db_name, request.collection_name, timestamp)
    partition = _available(tables, row).get(request.partition_name)
    if partition is None:
        return Change((), db_name, (row.name,), row.collection_id)
    dropping = replace(partition, state=PartitionState.PartitionDropping)
    unfolded = _unfold(tables, layout, row, timestamp, without=partition.id)
    writes = (*unfolded, *_put(layout, row, dropping, timestamp))
    return Change(_one_transaction(writes, row), db_name, (row.name,), row.collection_id, partition.id)


def plan_purge_partition(
    tables: RootCoordTables, layout: MetaLayout, collection_id: int, partition_id: int, timestamp: int
) -> tuple[Write, ...]:
    """The transaction that deletes what is left of a partition; none if nothing is.

    Raises:
        ValueError: the partition is available, so nobody asked for this.
    """
    row = tables.collections.get(collection_id)
    partition = _partition(tables, collection_id, partition_id)
    if row is None or partition is None:
        return ()
    if partition.available:
        raise ValueError(f"partition {partition_id} of {collection_id} is available: it is not to be purged")
    ts = max(time_of(row, timestamp), partition.created_timestamp)
    return tombstones(layout, (layout.partition(collection_id, partition_id),), ts)


def _available(tables: RootCoordTables, row: CollectionRow) -> dict[str, Partition]:
    """The available partitions of a collection by name; of two with one name, that with the smaller ID.

    Raises:
        DamagedMetadata: they cannot all be read.
    """
    tables.collections.check_whole(row.collection_id)
    partitions = tables.collections.partitions(row.collection_id)
    return {one.name: one for one in reversed(partitions) if one.available}


def _partition(tables: RootCoordTables, collection_id: int, partition_id: int) -> Partition | None:
    partitions = tables.collections.partitions(collection_id)
    return next((one for one in partitions if one.id == partition_id), None)


def _put(layout: MetaLayout, row: CollectionRow, partition: Partition, timestamp: int) -> tuple[Write, ...]:
    ts = max(time_of(row, timestamp), partition.created_timestamp)
    return put_partition(layout, row.collection_id, partition, ts)


def _unfold(
    tables: RootCoordTables, layout: MetaLayout, row: CollectionRow, timestamp: int, *, without: int = -1
) -> tuple[Write, ...]:
    """What gives the parts of an inline collection keys of their own; nothing for a modern one.

    `without`: ID of a partition whose key the caller writes.
    """
    view = None if row.inline_partitions is None else tables.collections.whole(row.collection_id)
    if view is None:
        return ()
    info, ts = info_of(row), time_of(row, timestamp)
    del info.schema.fields[:]
    del info.partitionIDs[:], info.partitionNames[:], info.partition_created_timestamps[:]
    writes = [*put_collection(layout, row, info, timestamp)]
    for field in view.fields:
        key = layout.field(view.id, field.fieldID)
        writes += plan_put(layout, key, encode_proto(field), ts)
    for partition in view.partitions:
        if partition.id != without:
            writes += put_partition(layout, view.id, partition, ts)
    return tuple(writes)


def _one_transaction(writes: tuple[Write, ...], row: CollectionRow) -> tuple[Write, ...]:
    if len(writes) > MAX_OPS:
        raise MilvusError(
            f"collection {row.name} is stored as before Milvus 2.1 and too large to change its partitions"
        )
    return writes
