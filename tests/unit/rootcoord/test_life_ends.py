"""The ends of collections and partitions: what is left of a drop, or of what did not come to be."""

import asyncio
from typing import Any

import pytest

from coordd.rootcoord.chores import AT_ONCE
from coordd.rootcoord.life.ends import CollectionEnd, PartitionEnd
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.meta.samples import DROPPING, collection
from tests.unit.rootcoord.recorded import LAYOUT
from tests.unit.rootcoord.test_life import (
    ASK,
    ORDER,
    Effects,
    create,
    drop,
    drop_partition,
    leftovers,
    prepared,
    replica,
    running,
    seen,
    soon,
)


@pytest.mark.parametrize("what", ["drop collection", "drop partition"])
async def test_what_an_earlier_term_dropped_the_proxies_hear_first(what: str) -> None:
    """It may have ended before it told them, and nobody need repeat the call."""
    etcd = await prepared(what)
    async with running(etcd, Effects(crash_at=1)) as term:  # written, and nobody told
        asked = asyncio.ensure_future(ASK[what](term.life))
        await eventually(term.effects.crashed.is_set)
        asked.cancel()
    effects = Effects()
    async with running(etcd, effects) as term:
        await term.life.go_on(term.first_id)
        await term.quiet()
        assert effects.done == ["forget", *ORDER[what][2:]]


def without_messages(what: str) -> list[str]:
    return [effect for effect in ORDER[what] if not effect.startswith("send")]


@pytest.mark.parametrize("what", ["drop collection", "drop partition"])
async def test_readers_hear_of_a_replicated_drop_from_its_own_cluster(what: str) -> None:
    etcd = await prepared(what)
    request: Any = drop() if what == "drop collection" else drop_partition("p")
    request.base.replicateInfo.isReplicate = True
    async with running(etcd, Effects()) as term:
        await (term.life.drop_collection if what == "drop collection" else term.life.drop_partition)(
            request, soon()
        )
        await term.quiet()
        assert term.effects.done == without_messages(what)
        assert leftovers(term.place) == 0


@pytest.mark.parametrize("what", ["drop collection", "drop partition"])
async def test_in_a_replica_a_later_term_tells_readers_of_no_drop(what: str) -> None:
    """It does not know who asked for it. The term that was asked here tells them."""
    etcd = await prepared(what)
    async with running(etcd, Effects(), config=replica) as term:
        await ASK[what](term.life)
        await term.quiet()
        assert term.effects.done == ORDER[what]
    etcd = await prepared(what)
    async with running(etcd, Effects(crash_at=1), config=replica) as term:
        asked = asyncio.ensure_future(ASK[what](term.life))
        await eventually(term.effects.crashed.is_set)
        asked.cancel()
    async with running(etcd, Effects(), config=replica) as term:
        await term.life.go_on(term.first_id)
        await term.quiet()
        assert term.effects.done == without_messages(what)[1:]
        assert leftovers(term.place) == 0


async def test_in_a_replica_an_undoing_is_not_told() -> None:
    etcd = await prepared("create collection")
    async with running(etcd, Effects(failing={"watch channels"}), config=replica) as term:
        with pytest.raises(MilvusError):
            await ASK["create collection"](term.life)
        await term.quiet()
        assert "send CreateCollection" in term.effects.done
        assert "send DropCollection" not in term.effects.done
        assert leftovers(term.place) == 0


@pytest.mark.parametrize("what", ["drop collection", "drop partition"])
async def test_segments_are_asked_for_when_readers_have_heard_of_the_drop(what: str) -> None:
    etcd = await prepared(what)
    effects = Effects(ticks=False)
    async with running(etcd, effects) as term:
        await ASK[what](term.life)
        await term.quiet()
        message = next(number for number, one in enumerate(ORDER[what]) if one.startswith("send"))
        assert effects.done == ORDER[what][: message + 1]
        assert len(term.pool.in_use()) == 2
        effects.ticks = True
        await eventually(lambda: effects.done == ORDER[what], 10)
        await eventually(lambda: leftovers(term.place) == 0, 10)


async def test_of_many_ends_few_are_at_work_at_a_time() -> None:
    etcd = await prepared("create collection")
    async with running(etcd, Effects()) as term:
        for number in range(3 * AT_ONCE):
            await term.life.create_collection(create(f"c{number}"), soon())
    held = Effects(held={"release collection"})
    async with running(etcd, held) as term:
        for number in range(3 * AT_ONCE):
            await term.life.drop_collection(drop(f"c{number}"), soon())
        await term.quiet()
        assert seen(term.place) == {}
        assert held.done.count("release collection") == AT_ONCE
    effects = Effects(held={"release collection"})
    async with running(etcd, effects) as term:
        await term.life.go_on(term.first_id)
        await term.quiet()
        assert effects.done.count("release collection") == AT_ONCE, "a successor begins with as many"
        effects.held.clear()
        effects.let_go.set()
        await eventually(lambda: leftovers(term.place) == 0, 15)
        assert effects.done.count("release collection") == 3 * AT_ONCE
        assert term.pool.in_use() == []


async def test_a_small_purge_waits_for_no_large_one() -> None:
    """Of 600 partitions each, so that one takes ten transactions; as many as are purged at a time."""
    etcd = await prepared("create collection")
    larges, small = range(1_000, 1_000 * (AT_ONCE + 1), 1_000), 9_000
    for large in larges:
        partitions = {large + number: f"p{number}" for number in range(1, 601)}
        for key, value in collection(large, f"c{large}", state=DROPPING, partitions=partitions).items():
            etcd.put_now(key, value)
    for key, value in collection(small, "small", state=DROPPING).items():
        etcd.put_now(key, value)
    async with running(etcd, Effects()) as term:
        term.place.etcd.remote = True
        await term.life.go_on(term.first_id)
        await eventually(lambda: leftovers(term.place) == 0, 15)
        ended = {one: term.place.etcd.history[LAYOUT.collection(1, one)][-1][0] for one in (*larges, small)}
    assert ended[small] < min(ended[one] for one in larges)


async def test_an_undoing_leaves_a_collection_alone_that_was_dropped_meanwhile() -> None:
    """It begins without knowing what became of the last write, and may have to wait for its turn."""
    etcd = await prepared("drop collection")
    effects = Effects(held={"release collection"})
    async with running(etcd, effects) as term:
        (row,) = term.place.tables.collections
        await term.life.drop_collection(drop(), soon())
        CollectionEnd(term.means, row.collection_id).undo()
        await term.quiet()
        assert leftovers(term.place) == 1, "it is not released yet"
        assert len(term.pool.in_use()) == 2
        assert "send DropCollection" not in effects.done
        effects.let_go.set()
        await eventually(lambda: leftovers(term.place) == 0, 10)
        assert effects.done.count("send DropCollection") == 1
        assert "confirm" in effects.done


async def test_an_undoing_leaves_a_partition_alone_that_was_dropped_meanwhile() -> None:
    etcd = await prepared("drop partition")
    effects = Effects(held={"send DropPartition"})
    async with running(etcd, effects) as term:
        (row,) = term.place.tables.collections
        view = term.place.tables.collections.whole(row.collection_id)
        assert view is not None
        (partition,) = [one for one in view.partitions if one.name == "p"]
        await term.life.drop_partition(drop_partition("p"), soon())
        PartitionEnd(term.means, row.collection_id, partition.id).undo()
        await term.quiet()
        assert leftovers(term.place) == 1, "no reader has been told yet"
        effects.let_go.set()
        await eventually(lambda: leftovers(term.place) == 0, 10)
        assert "confirm" in effects.done
        assert "release partitions" not in effects.done


async def test_a_second_end_of_one_collection_waits_for_nothing_that_will_not_come() -> None:
    """Its channels belong to nobody any more, so no tick is sent on them."""
    etcd = await prepared("drop collection")
    effects = Effects(ticks=False)
    async with running(etcd, effects) as term:
        (row,) = term.place.tables.collections
        await term.life.drop_collection(drop(), soon())
        CollectionEnd(term.means, row.collection_id).finish(replicated=False)
        await eventually(lambda: effects.done.count("send DropCollection") == 2, 10)
        CollectionEnd(term.means, row.collection_id + 1).finish(
            replicated=False
        )  # of one whose keys are gone
        await eventually(lambda: effects.done.count("confirm") == 1, 10)
