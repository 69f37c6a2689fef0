"""The end of a collection or a partition: of one that was dropped, or that was begun and did not come to be.

Nobody waits for it. Each step is done until it succeeds, and finds nothing to do if it is done once more; a
term that ends in the middle leaves what is not purged yet to the next one. Callers go first, and of thousands
of ends few are at work at a time (`coordd.rootcoord.chores`).

So much may happen before a step has its turn. What is to be undone may turn out to be made, since what became
of the last write need not be known when the undoing begins; it may even have been dropped by then, and that
drop has an end of its own. So an undoing touches only what is still being created, and the end of a drop only
what is dropped.

A drop that another cluster has replicated hither is not told to the data nodes: the message of that cluster
follows, or has come. A later term does not know who asked for a drop. So in a replica (`common.ttMsgEnabled`
false) it tells of none, and of nothing that is undone, as Milvus; elsewhere it may tell them twice.

Source of truth: Milvus 2.3.5 internal/rootcoord/{drop_collection,drop_partition,create_collection}_task.go,
garbage_collector.go (isSkip).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from coordd.meta.tables import CollectionRow, Partition
from coordd.meta.transaction import Write
from coordd.pb.etcd_meta_pb2 import CollectionState, PartitionState
from coordd.rootcoord import messages
from coordd.rootcoord.collections import Change, plan_purge, plan_purge_partition
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.life.means import Means, soon
from coordd.rootcoord.life.waits import Message, Segments
from coordd.rootcoord.steps import Lane, NotYet, Step


@dataclass(frozen=True, slots=True)
class CollectionEnd:
    """The end of one collection."""

    means: Means
    collection_id: int

    def __str__(self) -> str:
        return f"collection {self.collection_id}"

    @property
    def dropped(self) -> bool:
        """Whether it is in the metadata, and was dropped."""
        row = self._row()
        return row is not None and _is_dropped(row)

    def undo(self, *, watched: bool = True) -> None:
        """Take back what was made of it. `watched`: DataCoord, and so the data nodes, may know of it."""
        self.means.operations.in_background(
            f"undo {self}",
            [
                Step("settle", self.means.settle),
                *(self._tell_readers(undoing=True) if watched and not self.means.is_replica else ()),
                Step("release channels", partial(self._release_channels, undoing=True), lane=Lane.LOOK),
                Step("purge", partial(self._purge, undoing=True)),
            ],
            urgent=True,
        )

    def finish(self, *, replicated: bool, told: bool = True) -> None:
        """Do what is left of its drop, once that is written.

        `replicated`: the data nodes hear of it from another cluster. `told`: the proxies have forgotten it.
        """
        segments = Segments(self.means, self.collection_id)
        self.means.operations.in_background(
            f"drop {self}",
            [
                *(() if told else (Step("proxies forget", self._tell_proxies, lane=Lane.PROXIES),)),
                Step("release", self._release, lane=Lane.QUERY_COORD),
                Step("drop indexes", self._drop_indexes, lane=Lane.DATA_COORD),
                *(() if replicated else self._tell_readers(undoing=False)),
                Step("release channels", partial(self._release_channels, undoing=False), lane=Lane.LOOK),
                Step("wait for segments", segments.wait, lane=Lane.LOOK),
                Step("no segments", segments.gone, lane=Lane.DATA_COORD),
                Step("purge", partial(self._purge, undoing=False)),
            ],
        )

    async def _tell_proxies(self) -> None:
        """By its ID, which they have under each of its names."""
        await self.means.word(Change((), "", (), self.collection_id), drops_collection=True).spread(0)

    async def _release(self) -> None:
        if self.means.others_are_asked:
            await self.means.peers.query_coord.release_collection(self.collection_id, deadline=soon())

    async def _drop_indexes(self) -> None:
        if self.means.others_are_asked:
            await self.means.peers.data_coord.drop_indexes(self.collection_id, deadline=soon())

    def _tell_readers(self, *, undoing: bool) -> Sequence[Step]:
        message = Message(self.means)
        return (
            Step("send message", partial(self._send, message, undoing=undoing), lane=Lane.QUEUE),
            Step("message heard", partial(self._heard, message), lane=Lane.LOOK),
        )

    async def _send(self, message: Message, *, undoing: bool) -> None:
        row = self._row()
        if row is not None and _concerns(row, undoing=undoing):
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

    async def _heard(self, message: Message) -> NotYet | None:
        """Once its keys are gone there is nothing to wait for: another end of it has seen to all."""
        return None if self._row() is None else await message.heard()

    async def _release_channels(self, *, undoing: bool) -> None:
        row = self._row()
        if row is None or _concerns(row, undoing=undoing):
            self.means.pool.release(self.collection_id)

    async def _purge(self, *, undoing: bool) -> NotYet | None:
        """One transaction; others have their turn before the next. Thousands of partitions take many."""
        more = await self.means.commit(partial(self._next_purge, undoing=undoing))
        return NotYet(0) if more and self._row() is not None else None

    def _next_purge(self, stamp: Stamp, *, undoing: bool) -> Sequence[Write]:
        row = self._row()
        if row is None or not _concerns(row, undoing=undoing):
            return ()
        transactions = plan_purge(self.means.tables, self.means.layout, self.collection_id, stamp.timestamp)
        return next(transactions, ())

    def _row(self) -> CollectionRow | None:
        return self.means.tables.collections.get(self.collection_id)


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """The end of one partition of a collection that stays."""

    means: Means
    collection_id: int
    partition_id: int

    def __str__(self) -> str:
        return f"partition {self.partition_id}"

    @property
    def dropped(self) -> bool:
        """Whether it is in the metadata, and was dropped."""
        partition = self._partition()
        return partition is not None and _is_dropped(partition)

    def undo(self, *, loaded: bool = True) -> None:
        """Take back what was made of it. `loaded`: QueryCoord may know of it."""
        self.means.operations.in_background(
            f"undo {self}",
            [
                Step("settle", self.means.settle),
                *((Step("release", self._release, lane=Lane.QUERY_COORD),) if loaded else ()),
                Step("purge", partial(self._purge, undoing=True)),
            ],
            urgent=True,
        )

    def finish(self, *, replicated: bool, told: bool = True) -> None:
        """Do what is left of its drop, once that is written.

        `replicated`: the data nodes hear of it from another cluster. `told`: the proxies have forgotten it.
        """
        segments = Segments(self.means, self.collection_id, self.partition_id)
        self.means.operations.in_background(
            f"drop {self}",
            [
                *(() if told else (Step("proxies forget", self._tell_proxies, lane=Lane.PROXIES),)),
                *(() if replicated else self._tell_readers()),
                Step("wait for segments", segments.wait, lane=Lane.LOOK),
                Step("no segments", segments.gone, lane=Lane.DATA_COORD),
                Step("purge", partial(self._purge, undoing=False)),
            ],
        )

    async def _tell_proxies(self) -> None:
        await self.means.word(Change((), "", (), self.collection_id)).spread(0)

    async def _release(self) -> None:
        """Of what is being undone."""
        partition = self._partition()
        wanted = partition is not None and not _concerns(partition, undoing=True)
        if self.means.others_are_asked and not wanted:
            await self.means.peers.query_coord.release_partitions(
                self.collection_id, [self.partition_id], deadline=soon()
            )

    def _tell_readers(self) -> Sequence[Step]:
        message = Message(self.means)
        return (
            Step("send message", partial(self._send, message), lane=Lane.QUEUE),
            Step("message heard", partial(self._heard, message), lane=Lane.LOOK),
        )

    async def _send(self, message: Message) -> None:
        row, partition = self.means.tables.collections.get(self.collection_id), self._partition()
        if row is not None and partition is not None and _is_dropped(partition):
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

    async def _heard(self, message: Message) -> NotYet | None:
        """Once its key is gone there is nothing to wait for: another end of it has seen to all."""
        return None if self._partition() is None else await message.heard()

    async def _purge(self, *, undoing: bool) -> None:
        await self.means.commit(partial(self._next_purge, undoing=undoing))

    def _next_purge(self, stamp: Stamp, *, undoing: bool) -> Sequence[Write]:
        partition = self._partition()
        if partition is None or not _concerns(partition, undoing=undoing):
            return ()
        ids = self.collection_id, self.partition_id
        return plan_purge_partition(self.means.tables, self.means.layout, *ids, stamp.timestamp)

    def _partition(self) -> Partition | None:
        partitions = self.means.tables.collections.partitions(self.collection_id)
        return next((one for one in partitions if one.id == self.partition_id), None)


def _concerns(what: CollectionRow | Partition, *, undoing: bool) -> bool:
    """Whether it is for an undoing, or for the end of a drop, to touch what is in the metadata."""
    return _is_being_created(what) if undoing else _is_dropped(what)


def _is_being_created(what: CollectionRow | Partition) -> bool:
    collection = isinstance(what, CollectionRow)
    creating = CollectionState.CollectionCreating if collection else PartitionState.PartitionCreating
    return what.state == creating


def _is_dropped(what: CollectionRow | Partition) -> bool:
    return not what.available and not _is_being_created(what)
