"""The physical channels that carry inserts and deletes: how many there are, who gets which, who uses them.

A collection is shared out over `shards_num` physical channels, which many collections share; in each it has a
virtual channel of its own. Time ticks and DDL messages go only to channels that some collection uses.

Who uses a channel is not kept in a counter of its own. It follows from the metadata: every stored collection,
in whatever state, counts once. What the metadata does not say is held here for the term: collections that are
being created and not stored yet (`reserve`), and collections that are stored and done with their channels
(`release`). Both are kept by collection ID: doing either twice, or again after a takeover, changes nothing.
(Milvus counts a collection that is being dropped once more when it goes on with the drop after a restart, and
takes it away once, so that its channels tick for ever.)

Pure. Source of truth: Milvus 2.3.5 internal/rootcoord/{dml_channels,timeticksync,create_collection_task}.go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordd.rpc.status import MilvusError


class StoredRow(Protocol):
    """A collection in the metadata, in any state."""

    @property
    def physical_channels(self) -> tuple[str, ...]:
        """The physical channels of its shards."""


class StoredCollections(Protocol):
    """What the metadata says; see `coordd.meta.tables.collections.CollectionTable`."""

    @property
    def channel_uses(self) -> Mapping[str, int]:
        """Physical channel -> number of stored collections that use it."""

    @property
    def generation(self) -> int:
        """Another one after every change."""

    def get(self, collection_id: int) -> StoredRow | None:
        """The stored collection with this ID."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of one collection, in order of its shards."""

    physical: tuple[str, ...]
    virtual: tuple[str, ...]


def physical_name(prefix: str, index: int) -> str:
    """`by-dev-rootcoord-dml`, 3 -> `by-dev-rootcoord-dml_3`."""
    return f"{prefix}_{index}"


def virtual_name(physical: str, collection_id: int, shard: int) -> str:
    """`by-dev-rootcoord-dml_3`, 446, 0 -> `by-dev-rootcoord-dml_3_446v0`."""
    return f"{physical}_{collection_id}v{shard}"


def index_of(prefix: str, name: str) -> int | None:
    """The index in a physical channel's name; None for a name of another form."""
    start, _, digits = name.rpartition("_")
    canonical = digits.isascii() and digits.isdecimal() and str(int(digits)) == digits
    return int(digits) if start == prefix and canonical else None


def pool_names(prefix: str, configured: int, stored: Mapping[str, int]) -> tuple[str, ...]:
    """The pool's channels: as many as are configured, and none fewer than stored collections use.

    `configured`: rootCoord.dmlChannelNum. `stored`: the names in use, as keys; names of another form, say of
    topics that were created beforehand, do not count.
    """
    used = (index for name in stored if (index := index_of(prefix, name)) is not None)
    return tuple(physical_name(prefix, index) for index in range(max(configured, max(used, default=-1) + 1)))


class ChannelPool:
    """The channels of one term. `names`: those that new collections may get, in order of preference."""

    def __init__(self, names: Sequence[str], stored: StoredCollections) -> None:
        self._order = {name: index for index, name in enumerate(names)}
        self._stored = stored
        self._chosen: dict[str, int] = {}
        self._reserved: dict[int, tuple[str, ...]] = {}
        self._released: dict[int, tuple[str, ...]] = {}
        self._released_uses: dict[str, int] = {}
        self._counted_at: tuple[int, int] | None = None
        self._changes = 0
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """How many channels new collections can be put on."""
        return len(self._order)

    @property
    def names(self) -> tuple[str, ...]:
        """Those channels, in order."""
        return tuple(self._order)

    def reserve(self, collection_id: int, shards_num: int) -> Channels:
        """Choose the channels of a collection that is about to be created, and count it as their user.

        The distinct channels with the fewest users, then those chosen least often in this term, then by
        index. Give it back with `release` if the collection does not come to be; once it is stored there is
        nothing to give back until it is dropped. Idempotent: asked again for the same ID, also when it is
        stored by then, the answer is the same.

        Raises:
            MilvusError: there are fewer channels.
        """
        stored = self._stored.get(collection_id)
        physical = self._reserved.get(collection_id) if stored is None else stored.physical_channels
        if physical is None:
            if shards_num > len(self._order):
                raise MilvusError(f"no enough channels, want: {shards_num}, got: 0")
            counts, chosen = self._users(), self._chosen
            ranked = sorted(
                self._order, key=lambda name: (counts.get(name, 0), chosen.get(name, 0), self._order[name])
            )
            physical = tuple(ranked[:shards_num])
            _add(chosen, physical, 1)
            self._reserved[collection_id] = physical
            self._changes += 1
        virtual = (virtual_name(name, collection_id, shard) for shard, name in enumerate(physical))
        return Channels(physical, tuple(virtual))

    def release(self, collection_id: int) -> None:
        """The collection sends nothing on its channels any more, stored or not. Idempotent."""
        self._reserved.pop(collection_id, None)
        row = self._stored.get(collection_id)
        if row is not None and collection_id not in self._released:
            self._released[collection_id] = row.physical_channels
            _add(self._released_uses, set(row.physical_channels), 1)
        self._changes += 1

    def users(self, name: str) -> int:
        """How many collections use a channel."""
        return self._users().get(name, 0)

    def in_use(self) -> list[str]:
        """The channels that somebody uses, in the pool's order; those outside of it last, by name."""
        last = len(self._order)
        return sorted(
            (name for name, count in self._users().items() if count > 0),
            key=lambda name: (self._order.get(name, last), name),
        )

    def _users(self) -> dict[str, int]:
        """Users by channel, counted anew only when something has changed."""
        now = (self._stored.generation, self._changes)
        if self._counted_at != now:
            self._counts = self._count()
            self._counted_at = now
        return self._counts

    def _count(self) -> dict[str, int]:
        counts = dict(self._stored.channel_uses)
        for collection_id in tuple(self._reserved):
            if self._stored.get(collection_id) is None:
                _add(counts, self._reserved[collection_id], 1)
            else:
                del self._reserved[collection_id]
        # Thousands may be being dropped: all that is done for each is to see whether it is still there.
        for collection_id in [one for one in self._released if self._stored.get(one) is None]:
            _add(self._released_uses, set(self._released.pop(collection_id)), -1)
        for name, uses in self._released_uses.items():
            counts[name] = counts.get(name, 0) - uses
        return counts


def _add(counts: dict[str, int], names: Iterable[str], change: int) -> None:
    for name in names:
        counts[name] = counts.get(name, 0) + change
