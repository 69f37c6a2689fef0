"""Write collections straight into an etcd, as Milvus 2.3.5 would have written them; 50,000 keys a second.

``python -m bench.generate ETCD --collections 100000`` (an etcd without a cluster's metadata; 1.2 kB of its
quota per collection). Each collection has five fields (RowID, Timestamp, a primary key, a vector, a string),
one partition and one shard, in the default database: seven keys of RootCoord, and with ``--snapshots`` the
seven that keep their history, which Milvus loads from. The default database, users and roles are left to the
first coordinator that starts; the saved windows of timestamps and IDs are there.

Source: what a Milvus 2.3.5 cluster leaves in etcd after create_collection.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice

import uvloop

from bench.schema import system_fields, user_fields
from coordd.etcd import EtcdClient, Put
from coordd.etcd.settings import PlainSettings
from coordd.log import configure
from coordd.meta.codecs import encode_time_ns
from coordd.meta.layout import MetaLayout
from coordd.pb import common_pb2, etcd_meta_pb2, schema_pb2
from coordd.rootcoord.tso import LOGICAL_BITS, NS_PER_MS

COLLECTIONS = 100_000
FIELDS = 5
KEYS_PER_COLLECTION = 2 + FIELDS
LAYOUT = MetaLayout("by-dev", "meta", "kv")
# IDs and timestamps are hybrid times; this one is of 2023, before all that a coordinator allocates today.
FIRST_ID = 440_000_000_000_000_000
_ID_STEP = 10
_DB_ID = 1
_CHANNELS = 16
# etcd's limit of operations in a transaction, and transactions under way at once.
_BATCH = 128
_WRITERS = 8
_TIMEOUT_S = 60.0


def metadata(count: int, *, snapshots: bool = False) -> Iterator[tuple[str, bytes]]:
    """Keys and values of ``count`` collections, ``generated_0`` and so on, and the allocators' marks."""
    fields = [(field.fieldID, field.SerializeToString()) for field in (*system_fields(), *user_fields())]
    for number in range(count):
        collection_id = FIRST_ID + number * _ID_STEP
        pairs = [
            (LAYOUT.collection(_DB_ID, collection_id), _collection(collection_id, number)),
            (LAYOUT.partition(collection_id, collection_id + 1), _partition(collection_id)),
            *((LAYOUT.field(collection_id, field_id), value) for field_id, value in fields),
        ]
        yield from pairs
        if snapshots:
            yield from ((LAYOUT.snapshot(key, collection_id), value) for key, value in pairs)
    end_ms = ((FIRST_ID + count * _ID_STEP) >> LOGICAL_BITS) + 1
    yield LAYOUT.timestamp, encode_time_ns(end_ms * NS_PER_MS)
    yield LAYOUT.id_window, encode_time_ns(end_ms * NS_PER_MS)


def _collection(collection_id: int, number: int) -> bytes:
    channel = f"by-dev-rootcoord-dml_{number % _CHANNELS}"
    position = common_pb2.KeyDataPair(key=channel, data=(3).to_bytes(8, "little"))
    return etcd_meta_pb2.CollectionInfo(
        ID=collection_id,
        schema=schema_pb2.CollectionSchema(name=f"generated_{number}"),
        create_time=collection_id,
        virtual_channel_names=[f"{channel}_{collection_id}v0"],
        physical_channel_names=[channel],
        shards_num=1,
        start_positions=[position],
        consistency_level=common_pb2.ConsistencyLevel.Value("Bounded"),
        db_id=_DB_ID,
    ).SerializeToString()


def _partition(collection_id: int) -> bytes:
    return etcd_meta_pb2.PartitionInfo(
        partitionID=collection_id + 1,
        partitionName="_default",
        partition_created_timestamp=collection_id,
        collection_id=collection_id,
    ).SerializeToString()


def write(endpoint: str, pairs: Iterable[tuple[str, bytes]]) -> int:
    """Put all of them into the etcd at ``endpoint`` ("host:port"); returns how many there were.

    Raises: EtcdError, NoSpace above all when etcd's quota is too small.
    """
    return uvloop.run(_write(endpoint, pairs))


async def _write(endpoint: str, pairs: Iterable[tuple[str, bytes]]) -> int:
    rest = iter(pairs)
    written = 0

    async def writer(client: EtcdClient) -> None:
        nonlocal written
        while batch := [Put(key, value) for key, value in islice(rest, _BATCH)]:
            await client.txn([], batch, timeout_s=_TIMEOUT_S)
            written += len(batch)

    async with EtcdClient(PlainSettings(endpoints=(endpoint,))) as client, asyncio.TaskGroup() as group:
        for number in range(_WRITERS):
            group.create_task(writer(client), name=f"write-{number}")
    return written


def main() -> int:
    """Generate into one etcd."""
    parser = argparse.ArgumentParser(prog="python -m bench.generate", description=__doc__.splitlines()[0])
    parser.add_argument("etcd", metavar="HOST:PORT")
    parser.add_argument("--collections", type=int, default=COLLECTIONS, help="how many (default 100000)")
    parser.add_argument("--snapshots", action="store_true", help="with the history that Milvus loads from")
    options = parser.parse_args()
    configure(level="error", stream=sys.stderr)
    began = time.monotonic()
    count = write(options.etcd, metadata(options.collections, snapshots=options.snapshots))
    print(f"{options.collections} collections, {count} keys in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
