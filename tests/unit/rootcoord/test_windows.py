"""Windows are saved before they are used, survive unknown outcomes and strangers, and are never guessed."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from coordd import clock
from coordd.etcd.errors import PermissionDenied, Unavailable
from coordd.meta.codecs import encode_time_ns
from coordd.meta.commit import FenceLost
from coordd.rootcoord.known import SLICE_ROWS, KnownInTables
from coordd.rootcoord.oracle import NotHandedOutError, Oracle, TermOverError
from coordd.rootcoord.tso import LOGICAL_BITS, MAX_COUNT, NS_PER_MS
from coordd.rootcoord.windows import WindowCorruptError
from tests.support.etcd import eventually
from tests.unit.meta.samples import collection
from tests.unit.rootcoord.memory_etcd import LOST_ANSWER, LOST_REQUEST, Fault, MemoryEtcd
from tests.unit.rootcoord.milvus_oracle import MilvusOracle
from tests.unit.rootcoord.recorded import LAYOUT, World, world
from tests.unit.rootcoord.term import ACTIVE_KEY, FencedTerm, begin_term, start_oracle

START_MS = 1_705_000_000_000
CORRUPT = [b"", b"\0" * 8, b"1234567", b"123456789", b"\xff" * 8, b"\x7f" * 8]


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


async def empty() -> World:
    return await world({})


async def begin(place: World, now: Clock) -> tuple[Oracle, FencedTerm]:
    term = begin_term(place)
    known = KnownInTables(place.tables)
    return await Oracle.start(place.client, LAYOUT, term.committer, known, now_ms=now), term


def saved_ms(etcd: MemoryEtcd, key: str) -> int:
    kv = etcd.at(key)
    assert kv is not None
    return int.from_bytes(kv.value, "big") // NS_PER_MS


def at_ms(end_ms: int) -> bytes:
    return encode_time_ns(end_ms * NS_PER_MS)


async def test_a_new_cluster_starts_at_the_clock_with_both_windows_saved() -> None:
    place, now = await empty(), Clock()
    place.etcd.ranges = 0
    oracle, _ = await begin(place, now)
    assert saved_ms(place.etcd, LAYOUT.timestamp) == START_MS + 3000
    assert saved_ms(place.etcd, LAYOUT.id_window) == START_MS + 3000
    assert oracle.timestamps_now(1) == START_MS << LOGICAL_BITS
    assert oracle.ids_now(5) == START_MS << LOGICAL_BITS
    assert (place.etcd.transactions, place.etcd.ranges) == (3, 0)


async def test_a_term_starts_above_what_milvus_saved() -> None:
    place, now = await empty(), Clock()
    milvus = MilvusOracle.start(None, START_MS * NS_PER_MS + 123_456)
    place.etcd.put_now(LAYOUT.timestamp, milvus.saved)
    place.etcd.put_now(LAYOUT.id_window, milvus.saved)
    oracle, _ = await begin(place, now)
    assert oracle.timestamps_now(1) == (START_MS + 3001) << LOGICAL_BITS
    assert oracle.ids_now(1) == (START_MS + 3001) << LOGICAL_BITS


async def test_the_timestamp_key_of_milvus_2_2_counts_while_the_present_one_is_absent() -> None:
    place, now = await empty(), Clock()
    place.etcd.put_now(LAYOUT.old_timestamp, at_ms(START_MS + 60_000))
    oracle, _ = await begin(place, now)
    assert oracle.timestamps_now(1) == (START_MS + 60_001) << LOGICAL_BITS
    assert saved_ms(place.etcd, LAYOUT.old_timestamp) == START_MS + 60_000
    later, _ = await begin(place, now)
    assert later.timestamps.physical_ms > oracle.timestamps.physical_ms


async def test_without_saved_windows_the_metadata_bounds_the_start() -> None:
    place = await world()
    place.etcd.delete_now(LAYOUT.timestamp)
    place.etcd.delete_now(LAYOUT.id_window)
    known = KnownInTables(place.tables)
    oracle, _ = await begin(place, Clock(1000))
    first, first_id = oracle.timestamps_now(1), oracle.ids_now(1)
    assert isinstance(first, int)
    assert isinstance(first_id, int)
    assert first > await known.newest_timestamp() > 0
    assert first_id > await known.newest_id() > 0


@pytest.mark.parametrize("key", [LAYOUT.timestamp, LAYOUT.id_window])
@pytest.mark.parametrize("value", CORRUPT)
async def test_a_corrupt_window_is_looked_up_in_the_history(key: str, value: bytes) -> None:
    place, now = await empty(), Clock()
    place.etcd.put_now(key, at_ms(START_MS + 9000))
    place.etcd.put_now(key, b"broken too")
    place.etcd.put_now(key, value)
    oracle, _ = await begin(place, now)
    first = oracle.timestamps_now(1) if key == LAYOUT.timestamp else oracle.ids_now(1)
    assert first == (START_MS + 9001) << LOGICAL_BITS


@pytest.mark.parametrize("key", [LAYOUT.timestamp, LAYOUT.id_window])
async def test_a_corrupt_window_without_history_refuses_the_term_and_names_the_key(key: str) -> None:
    place, now = await empty(), Clock()
    place.etcd.put_now(key, at_ms(START_MS))
    place.etcd.put_now(key, b"bad")
    place.etcd.compacted = place.etcd.revision
    with pytest.raises(WindowCorruptError, match=f"{key} cannot be read: 3 bytes instead of 8"):
        await begin(place, now)
    kept = place.etcd.at(key)
    assert kept is not None
    assert kept.value == b"bad"


async def test_a_window_that_was_corrupt_from_the_start_refuses_the_term() -> None:
    place, now = await empty(), Clock()
    place.etcd.put_now(LAYOUT.timestamp, b"bad")
    with pytest.raises(WindowCorruptError):
        await begin(place, now)


async def test_a_corrupt_window_that_an_operator_deletes_lets_the_term_begin() -> None:
    place, now = await empty(), Clock()
    place.etcd.put_now(LAYOUT.timestamp, b"bad")
    place.etcd.delete_now(LAYOUT.timestamp)
    oracle, _ = await begin(place, now)
    assert oracle.timestamps_now(1) == START_MS << LOGICAL_BITS


@pytest.mark.parametrize("fault", [LOST_REQUEST, LOST_ANSWER])
async def test_an_unknown_outcome_is_found_out(fault: Fault) -> None:
    place, now = await empty(), Clock()
    async with start_oracle(place, now_ms=now) as oracle:
        place.etcd.faults.append(fault)
        now.now_ms += 5000
        first = await oracle.wait_timestamps(1, clock.boottime() + 2)
        assert first == now.now_ms << LOGICAL_BITS
        assert saved_ms(place.etcd, LAYOUT.timestamp) == now.now_ms + 3000


async def test_a_stranger_who_raises_the_window_is_passed() -> None:
    """A Milvus RootCoord that was paused and is deposed renews its window, unfenced."""
    place, now = await empty(), Clock()
    async with start_oracle(place, now_ms=now) as oracle:
        before = oracle.timestamps_now(1)
        place.etcd.put_now(LAYOUT.timestamp, at_ms(START_MS + 50_000))
        now.now_ms += 3000
        first = await oracle.wait_timestamps(1, clock.boottime() + 2)
        assert isinstance(before, int)
        assert first == (START_MS + 50_001) << LOGICAL_BITS
        assert saved_ms(place.etcd, LAYOUT.timestamp) > START_MS + 50_001


@pytest.mark.parametrize("value", [at_ms(START_MS - 1000), b"bad", None])
async def test_a_stranger_who_lowers_breaks_or_deletes_it_changes_nothing(
    value: bytes | None,
) -> None:
    place, now = await empty(), Clock()
    async with start_oracle(place, now_ms=now) as oracle:
        if value is None:
            place.etcd.delete_now(LAYOUT.timestamp)
        else:
            place.etcd.put_now(LAYOUT.timestamp, value)
        now.now_ms += 3000
        assert await oracle.wait_timestamps(1, clock.boottime() + 2) == now.now_ms << LOGICAL_BITS
        assert saved_ms(place.etcd, LAYOUT.timestamp) == now.now_ms + 3000


async def test_a_deposed_term_persists_nothing_and_hands_out_no_more_than_it_saved() -> None:
    place, now = await empty(), Clock()
    oracle, term = await begin(place, now)
    place.etcd.put_now(ACTIVE_KEY, b"somebody else")
    before = place.etcd.at(LAYOUT.timestamp)
    now.now_ms += 2500
    assert isinstance(oracle.timestamps_now(1), int)
    now.now_ms += 500
    await oracle.keep_timestamps()
    assert term.lost == [True]
    assert place.etcd.at(LAYOUT.timestamp) == before
    assert not isinstance(oracle.timestamps_now(1), int)


async def test_a_term_that_is_lost_before_it_reads_does_not_begin() -> None:
    place = await empty()
    term = begin_term(place)
    place.etcd.put_now(ACTIVE_KEY, b"somebody else")
    with pytest.raises(FenceLost):
        await Oracle.start(place.client, LAYOUT, term.committer, KnownInTables(place.tables))


async def test_a_permanent_failure_ends_the_start_by_itself() -> None:
    place = await empty()
    term = begin_term(place)
    place.etcd.faults.extend([Fault(), Fault(before=PermissionDenied("no")), Fault()])
    with pytest.raises(PermissionDenied):
        await Oracle.start(place.client, LAYOUT, term.committer, KnownInTables(place.tables))


async def test_the_window_is_extended_in_the_background() -> None:
    place, now = await empty(), Clock()
    async with start_oracle(place, now_ms=now):
        now.now_ms += 1500
        deadline = clock.boottime() + 2
        while saved_ms(place.etcd, LAYOUT.timestamp) < START_MS + 4500 and clock.boottime() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert saved_ms(place.etcd, LAYOUT.timestamp) == START_MS + 4500
        assert saved_ms(place.etcd, LAYOUT.id_window) == START_MS + 3000


async def test_etcd_out_of_reach_is_waited_for_and_the_wait_has_an_end() -> None:
    place, now = await empty(), Clock()
    async with start_oracle(place, now_ms=now) as oracle:
        place.etcd.faults.extend(Fault(before=Unavailable("down")) for _ in range(10_000))
        now.now_ms += 5000
        with pytest.raises(NotHandedOutError):
            await oracle.wait_timestamps(1, clock.boottime() + 0.1)
        place.etcd.faults.clear()
        assert isinstance(await oracle.wait_timestamps(1, clock.boottime() + 5), int)


async def test_the_end_of_the_term_wakes_those_who_wait() -> None:
    place, now = await empty(), Clock()
    oracle, _ = await begin(place, now)
    now.now_ms += 5000
    waiting = [
        asyncio.create_task(oracle.wait_timestamps(1, clock.boottime() + 60), name="waits"),
        asyncio.create_task(oracle.wait_ids(1 << 32 - 1, clock.boottime() + 60), name="waits too"),
    ]
    await asyncio.sleep(0)
    oracle.close()
    async with asyncio.timeout(2):
        results: list[Any] = [await _outcome(task) for task in waiting]
    assert [type(result) for result in results] == [TermOverError, TermOverError]


async def _outcome(task: asyncio.Task[int]) -> int | Exception:
    try:
        return await task
    except NotHandedOutError as error:
        return error


async def test_pitfall_17_a_block_of_ids_larger_than_the_window_is_served() -> None:
    place = await empty()
    async with start_oracle(place, now_ms=Clock()) as oracle:
        first = await oracle.wait_ids(1 << 31, clock.boottime() + 2)
        second = await oracle.wait_ids(1 << 31, clock.boottime() + 2)
        assert second == first + (1 << 31)
        assert (second + (1 << 31)) <= saved_ms(place.etcd, LAYOUT.id_window) << LOGICAL_BITS


async def test_demand_beyond_the_clock_waits_for_it() -> None:
    place = await empty()
    async with start_oracle(place) as oracle:
        blocks = [await oracle.wait_timestamps(MAX_COUNT, clock.boottime() + 5) for _ in range(20)]
    assert all(later >= earlier + MAX_COUNT for earlier, later in itertools.pairwise(blocks))


@pytest.mark.parametrize("seed", range(12))
async def test_terms_with_lost_messages_and_clocks_that_jump_never_repeat(seed: int) -> None:
    """Terms of several replicas and of Milvus follow each other; whatever is handed out only grows."""
    rng = random.Random(seed)
    place, now = await empty(), Clock()
    newest, newest_id = -1, -1
    for _ in range(6):
        now.now_ms = max(1_000_000_000_000, now.now_ms + rng.randint(-4000, 4000))
        if rng.random() < 0.3:
            newest = milvus_term(place.etcd, now, newest, rng)
            continue
        async with start_oracle(place, now_ms=now) as oracle:
            for _ in range(4):
                place.etcd.faults.extend(
                    rng.choice([Fault(), Fault(), LOST_REQUEST, LOST_ANSWER]) for _ in range(2)
                )
                now.now_ms += rng.randint(-2000, 3500)
                count = rng.choice([1, 1, 100, MAX_COUNT])
                first = await oracle.wait_timestamps(count, clock.boottime() + 10)
                assert first > newest
                newest = first + count - 1
                count = rng.choice([1, 200_000, 1 << 31])
                first_id = await oracle.wait_ids(count, clock.boottime() + 10)
                assert first_id > newest_id
                newest_id = first_id + count - 1
                assert newest >> LOGICAL_BITS < saved_ms(place.etcd, LAYOUT.timestamp)
            place.etcd.faults.clear()


def milvus_term(etcd: MemoryEtcd, now: Clock, newest: int, rng: random.Random) -> int:
    saved = etcd.at(LAYOUT.timestamp)
    milvus = MilvusOracle.start(
        saved.value if saved else None, now.now_ms * NS_PER_MS + rng.randint(0, 999_999)
    )
    etcd.put_now(LAYOUT.timestamp, milvus.saved)
    for _ in range(5):
        count = rng.randint(1, 1000)
        first = milvus.allocate(count)
        assert first is not None
        assert first > newest
        newest = first + count - 1
        now.now_ms += rng.randint(0, 200)
        milvus.tick(now.now_ms * NS_PER_MS)
        etcd.put_now(LAYOUT.timestamp, milvus.saved)
    return newest


async def test_a_permanent_failure_in_a_term_is_waited_out() -> None:
    """An etcd whose quota is used up must not cost leadership: nobody could take it there."""
    place, now = await empty(), Clock()
    oracle, _ = await begin(place, now)
    place.etcd.faults.extend(Fault(before=PermissionDenied("not for now")) for _ in range(1000))
    now.now_ms += 2500
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(oracle.keep_timestamps())
        await asyncio.sleep(0.05)
        assert not keeping.done()
        assert saved_ms(place.etcd, LAYOUT.timestamp) == START_MS + 3000
        place.etcd.faults.clear()
        await eventually(lambda: saved_ms(place.etcd, LAYOUT.timestamp) > START_MS + 3000)
        keeping.cancel()


async def test_a_look_through_many_collections_lets_the_loop_turn() -> None:
    """A supervising parent takes a loop that stands still for a hang."""
    keys: dict[str, bytes] = {}
    for collection_id in range(10, 10_010, 10):
        keys |= collection(collection_id, f"c{collection_id}")
    place = await world(keys)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    assert await KnownInTables(place.tables).newest_id() == 10_001
    counting.cancel()
    assert turns >= 1000 / SLICE_ROWS
