"""The end of a collection or a partition: of one that was dropped, or that was begun and did not come to be.

Nobody waits for it. Each step is done until it succeeds, and finds nothing to do if it is done once more; a
term that ends in the middle leaves what is not purged yet to the next one. Callers go first, and of thousands
of ends few are at work at a time (`coordd.rootcoord.chores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordd.meta.tables import Partition
from coordd.meta.transaction import Write
from coordd.rootcoord import messages
from coordd.rootcoord.collections import Change, plan_purge, plan_purge_partition
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.life.means import Means, soon
from coordd.rootcoord.life.waits import Message, Segments
from coordd.rootcoord.steps import Lane, Step


@dataclass(frozen=True, slots=True)
class CollectionEnd:
    """The end of one collection."""

    means: Means
    collection_id: int

    def __str__(self) -> str:
        return f"collection {self.collection_id}"

    @property
    def made(self) -> bool:
        """Whether it is in the metadata, and everybody sees it."""
        row = self.means.tables.collections.get(self.collection_id)
        return row is not None and row.available

    @property
    def dropping(self) -> bool:
        """Whether it is in the metadata, and nobody sees it."""
        row = self.means.tables.collections.get(self.collection_id)
        return row is not None and not row.available

    def undo(self, *, watched: bool = True) -> None:
        """Take back what was made of it, unless it turns out that everybody sees it: what became of the last
        write need not be known yet. `watched`: DataCoord, and so the data nodes, may know of it.
        """
        self.means.operations.in_background(
            f"undo {self}",
            [
                Step("settle", self.means.settle),
                *(self._tell_readers() if watched else ()),
                Step("release channels", self._release_channels, lane=Lane.LOOK),
                Step("purge", self._purge),
            ],
        )

    def finish(self, *, told: bool = True) -> None:
        """Do what is left of its drop, once that is written. `told`: the proxies have forgotten it."""
        segments = Segments(self.means, self.collection_id)
        self.means.operations.in_background(
            f"drop {self}",
            [
                *(() if told else (Step("proxies forget", self._tell_proxies, lane=Lane.PROXIES),)),
                Step("release", self._release, lane=Lane.QUERY_COORD),
                Step("drop indexes", self._drop_indexes, lane=Lane.DATA_COORD),
                *self._tell_readers(),
                Step("release channels", self._release_channels, lane=Lane.LOOK),
                Step("wait for segments", segments.wait, lane=Lane.LOOK),
                Step("no segments", segments.gone, lane=Lane.DATA_COORD),
                Step("purge", self._purge),
            ],
        )

    async def _tell_proxies(self) -> None:
        """By its ID, which they have under each of its names."""
        await self.means.forget(Change((), "", (), self.collection_id), 0, drops_collection=True)

    async def _release(self) -> None:
        if self.means.others_are_asked:
            await self.means.peers.query_coord.release_collection(self.collection_id, deadline=soon())

    async def _drop_indexes(self) -> None:
        if self.means.others_are_asked:
            await self.means.peers.data_coord.drop_indexes(self.collection_id, deadline=soon())

    def _tell_readers(self) -> Sequence[Step]:
        message = Message(self.means)
        return (
            Step("send message", lambda: self._send(message), lane=Lane.QUEUE),
            Step("message heard", message.heard, lane=Lane.LOOK),
        )

    async def _send(self, message: Message) -> None:
        row = self.means.tables.collections.get(self.collection_id)
        if row is not None and not row.available:
            name = row.name
            await message.send(
                row.physical_channels,
                lambda timestamp: messages.drop_collection(
                    timestamp,
                    server_id=self.means.server_id,
                    collection_id=self.collection_id,
                    collection_name=name,
                ),
            )

    async def _release_channels(self) -> None:
        if not self.made:
            self.means.pool.release(self.collection_id)

    async def _purge(self) -> None:
        while await self.means.commit(self._next_purge):
            pass

    def _next_purge(self, stamp: Stamp) -> Sequence[Write]:
        if self.made:
            return ()
        transactions = plan_purge(self.means.tables, self.means.layout, self.collection_id, stamp.timestamp)
        return next(iter(transactions), ())


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """The end of one partition of a collection that stays."""

    means: Means
    collection_id: int
    partition_id: int

    def __str__(self) -> str:
        return f"partition {self.partition_id}"

    @property
    def dropping(self) -> bool:
        """Whether it is in the metadata, and nobody sees it."""
        partition = self._partition()
        return partition is not None and not partition.available

    @property
    def made(self) -> bool:
        """Whether it is in the metadata, and everybody sees it."""
        partition = self._partition()
        return partition is not None and partition.available

    def undo(self, *, loaded: bool = True) -> None:
        """Take back what was made of it, unless it turns out that everybody sees it. `loaded`: QueryCoord may
        know of it.
        """
        self.means.operations.in_background(
            f"undo {self}",
            [
                Step("settle", self.means.settle),
                *((Step("release", self._release, lane=Lane.QUERY_COORD),) if loaded else ()),
                Step("purge", self._purge),
            ],
        )

    def finish(self, *, told: bool = True) -> None:
        """Do what is left of its drop, once that is written. `told`: the proxies have forgotten it."""
        message = Message(self.means)
        segments = Segments(self.means, self.collection_id, self.partition_id)
        self.means.operations.in_background(
            f"drop {self}",
            [
                *(() if told else (Step("proxies forget", self._tell_proxies, lane=Lane.PROXIES),)),
                Step("send message", lambda: self._send(message), lane=Lane.QUEUE),
                Step("message heard", message.heard, lane=Lane.LOOK),
                Step("wait for segments", segments.wait, lane=Lane.LOOK),
                Step("no segments", segments.gone, lane=Lane.DATA_COORD),
                Step("purge", self._purge),
            ],
        )

    async def _tell_proxies(self) -> None:
        await self.means.forget(Change((), "", (), self.collection_id), 0)

    async def _release(self) -> None:
        if self.means.others_are_asked and not self.made:
            await self.means.peers.query_coord.release_partitions(
                self.collection_id, [self.partition_id], deadline=soon()
            )

    async def _send(self, message: Message) -> None:
        row, partition = self.means.tables.collections.get(self.collection_id), self._partition()
        if row is not None and partition is not None:
            name = partition.name
            await message.send(
                row.physical_channels,
                lambda timestamp: messages.drop_partition(
                    timestamp,
                    server_id=self.means.server_id,
                    collection_id=self.collection_id,
                    partition_id=self.partition_id,
                    partition_name=name,
                ),
            )

    async def _purge(self) -> None:
        await self.means.commit(self._next_purge)

    def _next_purge(self, stamp: Stamp) -> Sequence[Write]:
        if self.made:
            return ()
        ids = self.collection_id, self.partition_id
        return plan_purge_partition(self.means.tables, self.means.layout, *ids, stamp.timestamp)

    def _partition(self) -> Partition | None:
        view = self.means.tables.collections.view(self.collection_id)
        partitions = () if view is None else view.partitions
        return next((one for one in partitions if one.id == self.partition_id), None)
