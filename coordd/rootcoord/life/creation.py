"""A new collection: announced on its channels, written, watched by DataCoord, and only then visible."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from coordd.log import get_logger
from coordd.meta.transaction import Write
from coordd.rootcoord import messages
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.channels import Channels
from coordd.rootcoord.collections import (
    Change,
    Definition,
    Placement,
    check_room,
    plan_begin,
    plan_finish,
    watch_channels,
)
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.life.ends import CollectionEnd
from coordd.rootcoord.life.means import Means, both
from coordd.rootcoord.operations import Operation, Step
from coordd.rpc.peer import PeerUnavailable

log = get_logger("coordd.rootcoord.life")


class NotMade(Exception):
    """An equal collection came about meanwhile; what was taken for ours is given back."""


@dataclass(slots=True)
class Creation:
    """One collection on its way. `deadline`: seconds on CLOCK_BOOTTIME."""

    means: Means
    definition: Definition
    deadline: float
    _collection_id: int = field(default=0, init=False)
    _placement: Placement | None = field(default=None, init=False)
    _watched: bool = field(default=False, init=False)

    def operation(self) -> Operation:
        """The steps; they raise `NotMade` if an equal collection is there by then."""
        return Operation(
            [
                Step("announce", self._announce, self._undo),
                Step("write", self._write),
                Step("proxies forget, watch", self._forget_and_watch),
                Step("finish", self._finish),
            ]
        )

    async def _announce(self) -> None:
        """Take IDs and channels, and send the message; the collection's data begins where it lies."""
        means, definition = self.means, self.definition
        first_id = await means.oracle.wait_ids(1 + len(definition.partition_names), self.deadline)
        channels = means.pool.reserve(first_id, definition.shards_num)
        self._collection_id = first_id
        if means.topics is not None:
            await means.topics.check(channels.physical)
        timestamp, positions = await self._send(first_id, channels)
        self._placement = Placement(
            collection_id=first_id,
            first_partition_id=first_id + 1,
            timestamp=timestamp or await means.oracle.wait_timestamps(1, self.deadline),
            virtual_channels=channels.virtual,
            physical_channels=channels.physical,
            start_positions=tuple(positions.items()),
        )

    async def _send(self, collection_id: int, channels: Channels) -> tuple[int, dict[str, bytes]]:
        """The message's timestamp, 0 for none yet, and by channel its ID."""
        definition = self.definition
        if self.means.broadcaster is None:
            return definition.replicated_at, {}
        partition_ids = range(collection_id + 1, collection_id + 1 + len(definition.partition_names))
        return await self.means.broadcaster.send(
            channels.physical,
            lambda timestamp: messages.create_collection(
                timestamp,
                collection_id=collection_id,
                schema=definition.schema,
                virtual_channels=channels.virtual,
                physical_channels=channels.physical,
                partition_ids=partition_ids,
            ),
            deadline=self.deadline,
            stamp=definition.replicated_at,
        )

    async def _write(self) -> None:
        """Each transaction is decided in its turn: what became of an earlier call may be known only then."""
        means, done, count = self.means, 0, 1

        def decide(_stamp: Stamp) -> Sequence[Write]:
            nonlocal count
            transactions = plan_begin(means.tables, means.layout, self.definition, self._placed)
            if not transactions:
                raise NotMade
            count = len(transactions)
            return transactions[done]

        while done < count:
            await self._commit(decide)
            done += 1

    async def _forget_and_watch(self) -> None:
        """At the same time; see the package."""
        change = Change((), self.definition.db_name, (self.definition.name,))
        await both(lambda: self.means.word(change).spread(0), self._watch)

    async def _watch(self) -> None:
        if self.means.others_are_asked:
            self._watched = True
            message = watch_channels(self.definition, self._placed)
            try:
                await self.means.peers.data_coord.watch_channels(message, deadline=self.deadline)
            except PeerUnavailable as error:
                self._watched = error.asked
                raise

    async def _finish(self) -> None:
        """Only what is available counts, so that the limits on collections are kept here."""
        means = self.means

        def decide(stamp: Stamp) -> Sequence[Write]:
            writes = plan_finish(means.tables, means.layout, self._collection_id, stamp.timestamp)
            database = means.tables.databases.get(self.definition.db_id)
            if writes and database is not None:
                check_room(means.tables, database, means.limits)
            return writes

        await self._commit(decide, counts=True)
        log.info(
            "collection created",
            database=self.definition.db_name,
            collection=self.definition.name,
            collection_id=self._collection_id,
        )

    async def _commit(self, decide: Decide, *, counts: bool = False) -> None:
        """The operation holds the name: nothing else is about the collection."""
        names = {"db_name": self.definition.db_name, "name": self.definition.name}
        await self.means.commit_beside(decide, self.deadline, **names, counts=counts)

    async def _undo(self) -> None:
        if self._collection_id:
            CollectionEnd(self.means, self._collection_id).undo(watched=self._watched)

    @property
    def _placed(self) -> Placement:
        if self._placement is None:
            raise RuntimeError("the collection has no channels yet")
        return self._placement
