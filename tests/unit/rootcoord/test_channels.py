"""Physical channels: names, who gets which, and who uses them, against a model."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordd.etcd import Event
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.tables.collections import CollectionTable
from coordd.pb import etcd_meta_pb2, schema_pb2
from coordd.rootcoord.channels import ChannelPool, index_of, physical_name, pool_names, virtual_name
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import CREATED, CREATING, DROPPING, LAYOUT

PREFIX = "by-dev-rootcoord-dml"
NAMES = pool_names(PREFIX, 4, {})


@dataclass
class Stored:
    """A table of collections, and the ways in which it changes."""

    table: CollectionTable = field(default_factory=lambda: CollectionTable(LAYOUT))
    revision: int = 0

    def put(self, collection_id: int, channels: tuple[str, ...], state: int = CREATED) -> None:
        info = etcd_meta_pb2.CollectionInfo(
            ID=collection_id,
            schema=schema_pb2.CollectionSchema(name=f"c{collection_id}"),
            physical_channel_names=channels,
            state=state,
        )
        self._write(collection_id, info.SerializeToString())

    def drop(self, collection_id: int) -> None:
        self._write(collection_id, TOMBSTONE)

    def _write(self, collection_id: int, value: bytes) -> None:
        self.revision += 1
        key = LAYOUT.collection(1, collection_id)
        [family] = [one for one in self.table.families if one.prefix == LAYOUT.collection_prefix]
        family.apply(Event(key, value, self.revision, 0, 0, 0))


class TestNames:
    def test_milvus_names(self) -> None:
        assert physical_name(PREFIX, 3) == "by-dev-rootcoord-dml_3"
        assert virtual_name("by-dev-rootcoord-dml_3", 446, 0) == "by-dev-rootcoord-dml_3_446v0"

    @pytest.mark.parametrize(
        ("name", "index"),
        [
            (f"{PREFIX}_0", 0),
            (f"{PREFIX}_255", 255),
            (f"{PREFIX}_", None),
            (f"{PREFIX}_01", None),
            (f"{PREFIX}_x", None),
            (f"{PREFIX}_²", None),
            ("other-rootcoord-dml_3", None),
            ("topic1", None),
            ("", None),
        ],
    )
    def test_the_index_of_a_name(self, name: str, index: int | None) -> None:
        assert index_of(PREFIX, name) == index

    @pytest.mark.parametrize(
        ("configured", "used", "number"),
        [(16, (), 16), (16, (3,), 16), (2, (3,), 4), (4, (3,), 4), (1, (0, 9), 10)],
    )
    def test_the_pool_holds_what_is_configured_and_what_is_used(
        self, configured: int, used: tuple[int, ...], number: int
    ) -> None:
        stored = {physical_name(PREFIX, index): 1 for index in used} | {"topic1": 5}
        assert pool_names(PREFIX, configured, stored) == tuple(
            physical_name(PREFIX, n) for n in range(number)
        )


class TestChoice:
    def test_collections_are_spread(self) -> None:
        pool = ChannelPool(NAMES, Stored().table)
        assert [pool.reserve(n, 1).physical[0] for n in range(1, 6)] == [*NAMES, NAMES[0]]

    def test_a_channel_that_was_given_back_comes_after_those_chosen_less_often(self) -> None:
        pool = ChannelPool(NAMES, Stored().table)
        assert pool.reserve(1, 1).physical == NAMES[:1]
        pool.release(1)
        assert pool.reserve(2, 1).physical == NAMES[1:2]

    def test_shards_get_distinct_channels_and_virtual_ones_of_their_own(self) -> None:
        stored = Stored()
        stored.put(7, NAMES[:1])
        channels = ChannelPool(NAMES, stored.table).reserve(9, 4)
        assert channels.physical == (*NAMES[1:], NAMES[0])
        assert channels.virtual == tuple(f"{name}_9v{n}" for n, name in enumerate(channels.physical))

    def test_more_shards_than_channels_are_refused_and_change_nothing(self) -> None:
        pool = ChannelPool(NAMES, Stored().table)
        with pytest.raises(MilvusError, match=r"^no enough channels, want: 5, got: 0$"):
            pool.reserve(1, 5)
        assert pool.in_use() == []

    def test_asked_again_it_answers_the_same(self) -> None:
        stored = Stored()
        pool = ChannelPool(NAMES, stored.table)
        channels = pool.reserve(1, 2)
        assert pool.reserve(1, 2) == channels
        stored.put(1, channels.physical, CREATING)
        assert pool.in_use() == list(NAMES[:2])
        assert pool.reserve(1, 2) == channels
        assert pool.users(NAMES[0]) == 1


class TestPitfall11CountedOnceRemovedOnce:
    @pytest.mark.parametrize("state", [CREATED, CREATING, DROPPING])
    def test_a_stored_collection_counts_in_any_state(self, state: int) -> None:
        stored = Stored()
        stored.put(1, NAMES[:2], state)
        pool = ChannelPool(NAMES, stored.table)
        assert [pool.users(name) for name in NAMES] == [1, 1, 0, 0]

    def test_a_drop_that_goes_on_after_a_takeover_leaves_no_user_behind(self) -> None:
        stored = Stored()
        stored.put(1, NAMES[:1], DROPPING)
        ChannelPool(NAMES, stored.table).release(1)
        successor = ChannelPool(NAMES, stored.table)
        assert successor.in_use() == [NAMES[0]]
        successor.release(1)
        successor.release(1)
        assert successor.in_use() == []
        stored.drop(1)
        assert [successor.users(name) for name in NAMES] == [0, 0, 0, 0]

    def test_channels_outside_the_pool_are_in_use_too(self) -> None:
        stored = Stored()
        stored.put(1, ("topic1",))
        pool = ChannelPool(NAMES, stored.table)
        pool.reserve(2, 1)
        assert pool.in_use() == [NAMES[0], "topic1"]
        assert len(pool) == 4


IDS = st.integers(1, 6)


class PoolAgainstSets(RuleBasedStateMachine):
    """The model: who uses a channel is a set of collection IDs."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()
        self.in_table: dict[int, tuple[str, ...]] = {}
        self.reserved: dict[int, tuple[str, ...]] = {}
        self.released: set[int] = set()
        self.chosen: Counter[str] = Counter()
        self.next_id = 10
        self.pool = ChannelPool(NAMES, self.stored.table)

    def users(self) -> dict[str, set[int]]:
        used = {**self.reserved, **self.in_table}
        return {
            name: {one for one in used if name in used[one] and one not in self.released} for name in NAMES
        }

    @rule(shards=st.integers(1, 4))
    def create(self, shards: int) -> None:
        users = self.users()
        self.next_id += 1
        physical = self.pool.reserve(self.next_id, shards).physical
        rank = [(len(users[name]), self.chosen[name], NAMES.index(name)) for name in physical]
        others = [
            (len(users[name]), self.chosen[name], NAMES.index(name)) for name in NAMES if name not in physical
        ]
        assert rank == sorted(rank)
        assert not others or rank[-1] < min(others)
        self.chosen.update(physical)
        self.reserved[self.next_id] = physical

    @rule(pick=st.integers(0, 100), state=st.sampled_from([CREATED, CREATING]))
    def store(self, pick: int, state: int) -> None:
        if self.reserved:
            collection_id = sorted(self.reserved)[pick % len(self.reserved)]
            self.in_table[collection_id] = self.reserved[collection_id]
            self.stored.put(collection_id, self.in_table[collection_id], state)

    @rule(pick=st.integers(0, 100))
    def release(self, pick: int) -> None:
        known = sorted({*self.reserved, *self.in_table})
        if known:
            collection_id = known[pick % len(known)]
            self.pool.release(collection_id)
            self.reserved.pop(collection_id, None)
            self.released.add(collection_id)

    @rule(pick=st.integers(0, 100))
    def forget(self, pick: int) -> None:
        if self.in_table:
            collection_id = sorted(self.in_table)[pick % len(self.in_table)]
            del self.in_table[collection_id]
            self.reserved.pop(collection_id, None)
            self.stored.drop(collection_id)

    @rule()
    def take_over(self) -> None:
        self.pool = ChannelPool(NAMES, self.stored.table)
        self.reserved.clear()
        self.released.clear()
        self.chosen.clear()

    @invariant()
    def same(self) -> None:
        users = self.users()
        assert [self.pool.users(name) for name in NAMES] == [len(users[name]) for name in NAMES]
        assert self.pool.in_use() == [name for name in NAMES if users[name]]


PoolAgainstSets.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestPoolAgainstSets = PoolAgainstSets.TestCase
