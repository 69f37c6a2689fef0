"""Which changes share a transaction."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from coordd.etcd import Put
from coordd.meta.transaction import Write
from coordd.rootcoord.batch import BATCH_MAX, Batch, Chosen, Decide, Member, NotTaken, choose
from coordd.rootcoord.collections.change import MAX_OPS
from coordd.rootcoord.databases import Stamp
from coordd.rpc.status import MilvusError


@pytest.fixture
async def batch() -> Batch:
    return Batch()


def puts(*keys: str) -> Decide:
    return lambda _stamp: [Put(key, b"") for key in keys]


def refuses(_stamp: Stamp) -> Sequence[Write]:
    raise MilvusError("no")


def join(batch: Batch, about: str, decide: Decide) -> Member:
    return batch.join(decide, lambda: about, 0.0, len(batch.members))


def chosen(batch: Batch) -> Chosen:
    return choose(batch.members, [Stamp(timestamp=number, id=number) for number in range(len(batch.members))])


async def test_what_is_about_different_things_shares_a_transaction(batch: Batch) -> None:
    members = [join(batch, name, puts(f"{name}/1", f"{name}/2")) for name in "abc"]
    found = chosen(batch)
    assert [write.key for write in found.writes] == ["a/1", "a/2", "b/1", "b/2", "c/1", "c/2"]
    assert (found.taken, found.left) == (members, [])
    assert found.guards == ["b/1", "c/1"], "the first key that is put is guarded anyway"


async def test_of_what_is_about_one_thing_the_first_is_decided_and_no_other(batch: Batch) -> None:
    first = join(batch, "a", puts("a/1"))
    second = join(batch, "a", refuses)
    third = join(batch, "b", puts("b/1"))
    found = chosen(batch)
    assert (found.taken, found.left) == ([first, third], [second])
    assert found.guards == ["b/1"]
    assert not second.outcome.done()


async def test_who_is_refused_or_finds_it_done_is_told_and_holds_nobody_up(batch: Batch) -> None:
    refused = join(batch, "a", refuses)
    done = join(batch, "b", puts())
    others = [join(batch, name, puts(name)) for name in "ab"]
    found = chosen(batch)
    assert (found.taken, found.left) == (others, [])
    with pytest.raises(MilvusError, match="no"):
        await refused.outcome
    assert await done.outcome == 0


async def test_each_has_a_stamp_of_its_own(batch: Batch) -> None:
    stamps: list[Stamp] = []

    def decide(stamp: Stamp) -> Sequence[Write]:
        stamps.append(stamp)
        return [Put(str(stamp.id), b"")]

    for name in "abc":
        join(batch, name, decide)
    assert len(chosen(batch).taken) == len(stamps) == len(set(stamps)) == 3


@pytest.mark.parametrize(
    "large",
    [puts(*map(str, range(MAX_OPS))), lambda _stamp: [Put("large", bytes(1_400_000))]],
    ids=["operations", "bytes"],
)
async def test_what_there_is_no_room_for_is_left(batch: Batch, large: Decide) -> None:
    first, second, third = (
        join(batch, "a", lambda _stamp: [Put("a", bytes(200_000)), Put("b", b"")]),
        join(batch, "b", large),
        join(batch, "c", lambda _stamp: [Put("c", bytes(200_000))]),
    )
    found = chosen(batch)
    assert (found.taken, found.left) == ([first, third], [second])
    alone = choose(found.left, [Stamp(1, 1)])
    assert (alone.taken, alone.left) == ([second], [])


async def test_the_first_is_taken_even_if_it_seems_too_large(batch: Batch) -> None:
    """Whether it is can only etcd tell. Nobody is to be refused with it."""
    first = join(batch, "a", lambda _stamp: [Put("large", bytes(1_600_000))])
    second = join(batch, "b", puts("b"))
    found = chosen(batch)
    assert (found.taken, found.left) == ([first], [second])


async def test_no_key_is_written_twice(batch: Batch) -> None:
    first, second = join(batch, "a", puts("k", "l")), join(batch, "b", puts("m", "l"))
    found = chosen(batch)
    assert (found.taken, found.left) == ([first], [second])


@pytest.mark.parametrize(
    "settle",
    [lambda one: one.succeed(7), lambda one: one.fail(ValueError()), lambda one: one.outcome.cancel()],
)
async def test_an_outcome_is_told_once(batch: Batch, settle: Callable[[Member], object]) -> None:
    member = join(batch, "a", puts("a"))
    settle(member)
    before = repr(member.outcome)
    member.succeed(8)
    member.fail(ValueError())
    batch.dissolve()
    assert repr(member.outcome) == before
    await asyncio.wait([member.outcome])


async def test_who_has_no_outcome_waits_for_another_turn(batch: Batch) -> None:
    member = join(batch, "a", puts("a"))
    batch.dissolve()
    with pytest.raises(NotTaken):
        await member.outcome


async def test_who_came_first_goes_first_wherever_it_joins(batch: Batch) -> None:
    members = [batch.join(puts(), str, 0.0, number) for number in (5, 9, 2, 7)]
    members[3].succeed(0)
    assert batch.waiting() == [members[2], members[0], members[1]]


async def test_a_batch_is_full_some_time(batch: Batch) -> None:
    for number in range(BATCH_MAX):
        join(batch, str(number), puts())
        assert batch.takes(0.0) == (number + 1 < BATCH_MAX)


async def test_nobody_shares_a_turn_who_can_wait_for_much_less_or_longer(batch: Batch) -> None:
    join(batch, "a", puts())
    assert [batch.takes(deadline) for deadline in (-60.0, -0.5, 0.5, 60.0)] == [False, True, True, False]
