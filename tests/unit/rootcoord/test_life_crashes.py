"""A crash between the transactions of one change, and around changes of a single one; see `test_life`."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from coordd.meta.codecs import TOMBSTONE
from coordd.meta.keys import FieldKey, PartitionKey
from coordd.pb import milvus_pb2, schema_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgBase, MsgType, Status
from coordd.pb.root_coord_pb2 import AlterDatabaseRequest
from coordd.pb.schema_pb2 import DataType
from tests.support.etcd import eventually
from tests.unit.rootcoord.memory_etcd import MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, World
from tests.unit.rootcoord.test_handlers import ask
from tests.unit.rootcoord.test_life import (
    NAME,
    Effects,
    Running,
    drop,
    leftovers,
    prepared,
    running,
    seen,
    soon,
    with_a_database,
)

PARTITIONS = 64
"""As many as a partition key has by default: their keys do not fit into one transaction."""


def create_with_key() -> milvus_pb2.CreateCollectionRequest:
    fields = [
        schema_pb2.FieldSchema(name="pk", data_type=DataType.Int64, is_primary_key=True),
        schema_pb2.FieldSchema(name="part", data_type=DataType.Int64, is_partition_key=True),
    ]
    return milvus_pb2.CreateCollectionRequest(
        base=MsgBase(msg_type=MsgType.CreateCollection),
        collection_name=NAME,
        schema=schema_pb2.CollectionSchema(name=NAME, fields=fields).SerializeToString(),
        shards_num=1,
        num_partitions=PARTITIONS,
    )


CREATION = ["send CreateCollection", "txn", "txn", "forget", "watch channels", "txn"]
END = ["forget", "release collection", "drop indexes", "send DropCollection", "confirm", "txn", "txn"]
MADE = {NAME: sorted(f"_default_{number}" for number in range(PARTITIONS))}


async def crashed(etcd: MemoryEtcd, effects: Effects, change: Callable[[Running], Any]) -> None:
    """A term that ends at one effect, in the middle of a change."""
    async with running(etcd, effects) as term:
        asked = asyncio.ensure_future(change(term))
        await eventually(effects.crashed.is_set, 10)
        asked.cancel()


def go_on(term: Running) -> Any:
    """What a term begins with."""
    return term.life.go_on(term.first_id)


def make(term: Running) -> Any:
    """A collection whose keys take two transactions."""
    return term.life.create_collection(create_with_key(), soon())


def parts(etcd: MemoryEtcd) -> int:
    """Keys of partitions and fields."""
    found = ((key, etcd.at(key)) for key in etcd.history)
    return sum(
        1
        for key, kv in found
        if kv is not None and kv.value != TOMBSTONE and isinstance(LAYOUT.parse(key), PartitionKey | FieldKey)
    )


async def test_a_creation_of_two_transactions_in_its_order() -> None:
    etcd, effects = with_a_database(), Effects()
    async with running(etcd, effects) as term:
        await make(term)
        assert effects.done == CREATION
        assert seen(term.place) == MADE
        effects.done.clear()
        await term.life.drop_collection(drop(), soon())
        await term.quiet()
        assert effects.done == ["txn", *END]
    assert parts(etcd) == 0


@pytest.mark.parametrize("purge_too", [False, True])
@pytest.mark.parametrize("number", [1, 2])
async def test_a_crash_between_the_transactions_of_a_creation_leaves_nothing(
    number: int, *, purge_too: bool
) -> None:
    """Nor does another one between those of the undoing."""
    etcd = with_a_database()
    await crashed(etcd, Effects(crash_at=number, after=True), make)
    assert parts(etcd) > 0
    if purge_too:
        await crashed(etcd, Effects(crash_at=1, after=True), go_on)  # 0: the message
    async with running(etcd, Effects()) as term:
        await go_on(term)
        await term.quiet()
        assert seen(term.place) == {}
        assert leftovers(term.place) == 0
        assert parts(term.place.etcd) == 0
        await make(term)
        assert seen(term.place) == MADE
        assert len(term.pool.in_use()) == 1


async def test_a_crash_between_the_transactions_of_a_purge_leaves_nothing() -> None:
    etcd = with_a_database()
    async with running(etcd, Effects()) as term:
        await make(term)
    last = len(END) - 1
    assert END[last - 1 :] == ["txn", "txn"]
    await crashed(
        etcd, Effects(crash_at=last, after=True), lambda term: term.life.drop_collection(drop(), soon())
    )
    assert parts(etcd) > 0
    async with running(etcd, Effects()) as term:
        await go_on(term)
        await term.quiet()
        assert leftovers(term.place) == 0
        assert parts(term.place.etcd) == 0
        assert term.pool.in_use() == []


PAIR = KeyValuePair(key="mmap.enabled", value="true")
COLLECTION = {"collection_name": NAME, "properties": [PAIR]}
ALTERATIONS: dict[str, Any] = {
    "AlterCollection": milvus_pb2.AlterCollectionRequest(
        base=MsgBase(msg_type=MsgType.AlterCollection), **COLLECTION
    ),
    "AlterCollectionField": milvus_pb2.AlterCollectionFieldRequest(
        base=MsgBase(msg_type=MsgType.AlterCollectionField), field_name="vec", **COLLECTION
    ),
    "AlterDatabase": AlterDatabaseRequest(db_name="default", properties=[PAIR]),
}


def altered(place: World, method: str) -> bool:
    """Whether clients see it."""
    if method == "AlterDatabase":
        database = place.tables.databases.by_name("default")
        return database is not None and (PAIR.key, PAIR.value) in database.properties
    [row] = place.tables.collections
    view = place.tables.collections.whole(row.collection_id)
    assert view is not None
    if method == "AlterCollection":
        return PAIR in view.info.properties
    return any(PAIR in field.type_params for field in view.fields)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", list(ALTERATIONS))
async def test_an_alteration_is_made_or_not_and_its_repetition_succeeds(method: str, *, after: bool) -> None:
    etcd = await prepared("drop collection")
    order = Effects()
    async with running(copy.deepcopy(etcd), order) as term:
        assert await ask(term.place, method, ALTERATIONS[method]) == Status()
        assert altered(term.place, method)
    effects = Effects(crash_at=order.done.index("txn"), after=after)
    await crashed(etcd, effects, lambda term: ask(term.place, method, ALTERATIONS[method]))
    async with running(etcd, Effects()) as term:
        await go_on(term)
        assert altered(term.place, method) == after
        assert await ask(term.place, method, ALTERATIONS[method]) == Status()
        assert altered(term.place, method)
        assert ("broadcast" in term.effects.done) == (method != "AlterDatabase")
