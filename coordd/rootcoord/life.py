"""The life of collections and partitions: made and dropped step by step, with the other components.

What a step has done is in the metadata before the next one begins, so that a term which ends in between
leaves something to go on from: what is Creating is undone by the next term, what is Dropping is finished.

| CreateCollection | CreatePartition |
|---|---|
| IDs and channels are taken, the CreateCollection message is sent | – |
| written, Creating | written, Creating |
| proxies forget the name | proxies forget the collection |
| DataCoord watches the channels | QueryCoord loads it if the collection is loaded |
| written, Created | written, Created |

Undone by: the DropCollection message if DataCoord may know of it, the keys, the channels; for a partition its
release and its key. An undone collection is nobody's name any more, so nobody waits for the undoing.

A drop is answered when it is written and the proxies have forgotten; QueryCoord's release, the indexes, the
message and its tick, DataCoord's confirmation that no segment is left, and the end of the keys follow.

Without a message queue (`mq.type: none`) there are no data nodes, and the other components are not asked.

Not Milvus': the proxies forget after the change is written, not before (see `coordd.rootcoord.proxies`);
segments are asked for after a minute and not after twenty, since DataCoord knows of each from its allocation.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create,drop}_{collection,partition}_task.go, step.go,
garbage_collector.go, root_coord.go (restore).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from coordd.clock import boottime
from coordd.config import LoadedConfig
from coordd.log import get_logger
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.milvus_pb2 import (
    CreateCollectionRequest,
    CreatePartitionRequest,
    DropCollectionRequest,
    DropPartitionRequest,
)
from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord import messages
from coordd.rootcoord.broadcast import Broadcaster
from coordd.rootcoord.channels import ChannelPool, Channels
from coordd.rootcoord.collections import (
    Change,
    Definition,
    Limits,
    Placement,
    define,
    existing,
    plan_begin,
    plan_create_partition,
    plan_drop,
    plan_drop_partition,
    plan_finish,
    plan_finish_partition,
    plan_purge,
    plan_purge_partition,
    unfinished,
    watch_channels,
)
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.operations import Operation, Operations, Step
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.proxies.manager import SessionsNotKnown

log = get_logger("coordd.rootcoord.life")

STEP_TIMEOUT_S = 10.0
"""What a step in the background may take before it is begun anew."""
SEGMENTS_EVERY_S = 60.0
"""Between two questions whether segments of what was dropped are left."""

DROP_COLLECTION = MsgType.DropCollection


class SegmentsLeft(Exception):
    """DataCoord still has segments of what was dropped."""


class NotMade(Exception):
    """An equal collection came about meanwhile; what was taken for ours is given back."""


@dataclass(slots=True)
class _Creation:
    """A collection on its way."""

    definition: Definition
    deadline: float
    collection_id: int = 0
    channels: Channels = field(default_factory=lambda: Channels((), ()))
    placement: Placement | None = None
    watched: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Life:
    """See the module. Of one term; `broadcaster` None: there is no message queue."""

    tables: RootCoordTables
    layout: MetaLayout
    config: Callable[[], LoadedConfig]
    ddl: Ddl
    oracle: Oracle
    pool: ChannelPool
    peers: Peers
    operations: Operations
    broadcaster: Broadcaster | None
    server_id: int

    # --- what clients ask for ---

    async def create_collection(self, request: CreateCollectionRequest, deadline: float) -> None:
        """Make a collection, unless an equal one is there. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            MilvusError: refused, here or by another component.
            CoorddError: see `Operations.carry_out`.
        """

        def decide() -> Operation | None:
            definition = define(
                self.tables, request, limits=self._limits(), default_partition=self._default_partition()
            )
            if existing(self.tables, definition):
                return None
            return Operation(self._creation(_Creation(definition, deadline)))

        await self._carry_out("create collection", request.db_name, request.collection_name, decide, deadline)

    async def drop_collection(self, request: DropCollectionRequest, deadline: float) -> None:
        """Drop a collection; one that is not there is success. Raises: as `create_collection`."""
        made: list[tuple[Change, int]] = []

        async def write() -> None:
            await self._change(lambda stamp: self._plan_drop(request, stamp), deadline, made)

        async def forget() -> None:
            await self._forget(*made[0], msg_type=DROP_COLLECTION)

        async def finish() -> None:
            if made[0][0].collection_id:
                self._finish_drop(made[0][0].collection_id)

        async def resume() -> None:
            if made and made[0][0].collection_id:
                self._resume_drop(made[0][0], DROP_COLLECTION)

        def decide() -> Operation:
            steps = [Step("write", write, resume), Step("proxies forget", forget)]
            return Operation(steps, [Step("finish", finish)])

        await self._carry_out("drop collection", request.db_name, request.collection_name, decide, deadline)

    async def create_partition(self, request: CreatePartitionRequest, deadline: float) -> None:
        """Make a partition, unless it is there. Raises: as `create_collection`."""
        made: list[tuple[Change, int]] = []

        async def write() -> None:
            await self._change(lambda stamp: self._plan_create_partition(request, stamp), deadline, made)

        async def undo() -> None:
            if made and made[0][0].partition_id:
                self._undo_partition(made[0][0].collection_id, made[0][0].partition_id)

        async def forget() -> None:
            await self._forget(*made[0])

        async def load() -> None:
            change = made[0][0]
            if change.partition_id and self.broadcaster is not None:
                await self.peers.query_coord.sync_new_created_partition(
                    change.collection_id, change.partition_id, deadline=deadline
                )

        async def finish() -> None:
            change = made[0][0]
            if change.partition_id:
                await self._commit(
                    lambda _stamp: plan_finish_partition(
                        self.tables, self.layout, change.collection_id, change.partition_id
                    ),
                    deadline,
                )

        def decide() -> Operation:
            return Operation(
                [
                    Step("write", write, undo),
                    Step("proxies forget", forget),
                    Step("load", load),
                    Step("finish", finish),
                ]
            )

        await self._carry_out("create partition", request.db_name, request.collection_name, decide, deadline)

    async def drop_partition(self, request: DropPartitionRequest, deadline: float) -> None:
        """Drop a partition; one that is not there is success. Raises: as `create_collection`."""
        made: list[tuple[Change, int]] = []

        async def write() -> None:
            await self._change(lambda stamp: self._plan_drop_partition(request, stamp), deadline, made)

        async def forget() -> None:
            await self._forget(*made[0])

        async def finish() -> None:
            change = made[0][0]
            if change.partition_id:
                self._finish_drop_partition(change.collection_id, change.partition_id)

        async def resume() -> None:
            if made and made[0][0].partition_id:
                self._resume_drop(made[0][0], 0)

        def decide() -> Operation:
            steps = [Step("write", write, resume), Step("proxies forget", forget)]
            return Operation(steps, [Step("finish", finish)])

        await self._carry_out("drop partition", request.db_name, request.collection_name, decide, deadline)

    def go_on(self, first_id: int) -> None:
        """Finish, or undo, what earlier terms left. `first_id`: the first that this one may hand out, so what
        is being created with a later one is its own. To finish a drop of its own twice does no harm.
        """
        left = unfinished(self.tables)
        for collection_id in left.creating:
            if collection_id >= first_id:
                continue
            self._undo_collection(collection_id, watched=True)
        for collection_id in left.dropping:
            self._finish_drop(collection_id)
        for collection_id, partition_id in left.creating_partitions:
            if partition_id >= first_id:
                continue
            self._undo_partition(collection_id, partition_id)
        for collection_id, partition_id in left.dropping_partitions:
            self._finish_drop_partition(collection_id, partition_id)
        if any((left.creating, left.dropping, left.creating_partitions, left.dropping_partitions)):
            log.info(
                "going on with what earlier terms began",
                creating=len(left.creating) + len(left.creating_partitions),
                dropping=len(left.dropping) + len(left.dropping_partitions),
            )

    # --- creating a collection ---

    def _creation(self, creation: _Creation) -> Sequence[Step]:
        async def undo() -> None:
            if creation.collection_id:
                self._undo_collection(creation.collection_id, watched=creation.watched)

        return [
            Step("announce", lambda: self._announce(creation), undo),
            Step("write", lambda: self._begin(creation)),
            Step("watch", lambda: self._watch(creation)),
            Step("finish", lambda: self._finish(creation)),
        ]

    async def _announce(self, creation: _Creation) -> None:
        definition, deadline = creation.definition, creation.deadline
        partitions = range(1, 1 + len(definition.partition_names))
        first_id = await self.oracle.wait_ids(1 + len(partitions), deadline)
        channels = self.pool.reserve(first_id, definition.shards_num)
        creation.collection_id, creation.channels = first_id, channels
        stamp = definition.replicated_at
        positions: dict[str, bytes] = {}
        if self.broadcaster is not None:
            stamp, positions = await self.broadcaster.send(
                channels.physical,
                lambda timestamp: messages.create_collection(
                    timestamp,
                    collection_id=first_id,
                    schema=definition.schema,
                    virtual_channels=channels.virtual,
                    physical_channels=channels.physical,
                    partition_ids=[first_id + number for number in partitions],
                ),
                deadline=deadline,
                stamp=definition.replicated_at,
            )
        creation.placement = Placement(
            collection_id=first_id,
            first_partition_id=first_id + 1,
            timestamp=stamp or await self.oracle.wait_timestamps(1, deadline),
            virtual_channels=channels.virtual,
            physical_channels=channels.physical,
            start_positions=tuple(positions.items()),
        )

    async def _begin(self, creation: _Creation) -> None:
        placement, definition = _placed(creation), creation.definition
        done = 0
        while True:
            transactions = plan_begin(self.tables, self.layout, definition, placement)
            if not transactions:
                raise NotMade
            if done == len(transactions):
                break
            await self._write(transactions[done], creation.deadline)
            done += 1
        change = Change((), definition.db_name, (definition.name,))
        await self._forget(change, 0)

    async def _watch(self, creation: _Creation) -> None:
        if self.broadcaster is None:
            return
        creation.watched = True
        message = watch_channels(creation.definition, _placed(creation))
        await self.peers.data_coord.watch_channels(message, deadline=creation.deadline)

    async def _finish(self, creation: _Creation) -> None:
        await self._commit(
            lambda stamp: plan_finish(self.tables, self.layout, creation.collection_id, stamp.timestamp),
            creation.deadline,
        )
        log.info(
            "collection created",
            database=creation.definition.db_name,
            collection=creation.definition.name,
            collection_id=creation.collection_id,
        )

    # --- what nobody waits for ---

    def _undo_collection(self, collection_id: int, *, watched: bool) -> None:
        steps = [Step("release channels", self._released(collection_id)), *self._purge(collection_id)]
        if watched:
            steps.insert(0, Step("send message", lambda: self._send_drop(collection_id)))
        self.operations.in_background(f"undo collection {collection_id}", steps)

    def _finish_drop(self, collection_id: int) -> None:
        steps = [
            Step("release", lambda: self._release(collection_id)),
            Step("drop indexes", lambda: self._drop_indexes(collection_id)),
            Step("send message", lambda: self._send_drop(collection_id)),
            Step("release channels", self._released(collection_id)),
            Step("no segments", lambda: self._no_segments(collection_id)),
            *self._purge(collection_id),
        ]
        self.operations.in_background(f"drop collection {collection_id}", steps)

    def _resume_drop(self, change: Change, msg_type: int) -> None:
        """A drop whose outcome is unknown, or that a proxy refused to hear of: it cannot be taken back, and a
        repeated call would find nothing of that name. Finish it if it was written."""

        async def settle() -> None:
            await self._commit(lambda _stamp: (), _soon())

        async def finish() -> None:
            if change.partition_id:
                view = self.tables.collections.view(change.collection_id)
                left = [one for one in (view.partitions if view else ()) if one.id == change.partition_id]
                if left and not left[0].available:
                    self._finish_drop_partition(change.collection_id, change.partition_id)
                return
            row = self.tables.collections.get(change.collection_id)
            if row is not None and not row.available:
                self._finish_drop(change.collection_id)

        steps = [
            Step("settle", settle),
            Step("proxies forget", lambda: self._forget(change, 0, msg_type=msg_type)),
            Step("finish", finish),
        ]
        self.operations.in_background(f"resume drop {change.partition_id or change.collection_id}", steps)

    def _undo_partition(self, collection_id: int, partition_id: int) -> None:
        async def release() -> None:
            if self.broadcaster is not None:
                await self.peers.query_coord.release_partitions(
                    collection_id, [partition_id], deadline=_soon()
                )

        steps = [Step("release", release), self._purge_partition(collection_id, partition_id)]
        self.operations.in_background(f"undo partition {partition_id}", steps)

    def _finish_drop_partition(self, collection_id: int, partition_id: int) -> None:
        steps = [
            Step("send message", lambda: self._send_drop_partition(collection_id, partition_id)),
            Step("no segments", lambda: self._no_segments(collection_id, partition_id)),
            self._purge_partition(collection_id, partition_id),
        ]
        self.operations.in_background(f"drop partition {partition_id}", steps)

    async def _release(self, collection_id: int) -> None:
        if self.broadcaster is not None:
            await self.peers.query_coord.release_collection(collection_id, deadline=_soon())

    async def _drop_indexes(self, collection_id: int) -> None:
        if self.broadcaster is not None:
            await self.peers.data_coord.drop_indexes(collection_id, deadline=_soon())

    async def _send_drop(self, collection_id: int) -> None:
        row = self.tables.collections.get(collection_id)
        if row is None:
            return
        await self._tell_channels(
            row.physical_channels,
            lambda timestamp: messages.drop_collection(
                timestamp,
                server_id=self.server_id,
                collection_id=collection_id,
                collection_name=row.name,
            ),
        )

    async def _send_drop_partition(self, collection_id: int, partition_id: int) -> None:
        row, view = self.tables.collections.get(collection_id), self.tables.collections.view(collection_id)
        found = [one for one in (view.partitions if view else ()) if one.id == partition_id]
        if row is None or not found:
            return
        await self._tell_channels(
            row.physical_channels,
            lambda timestamp: messages.drop_partition(
                timestamp,
                server_id=self.server_id,
                collection_id=collection_id,
                partition_id=partition_id,
                partition_name=found[0].name,
            ),
        )

    async def _tell_channels(self, channels: Sequence[str], build: Callable[[int], bytes]) -> None:
        """Send a message and wait until the readers of the channels are told that they have it."""
        if self.broadcaster is None:
            return
        deadline = _soon()
        timestamp, _ids = await self.broadcaster.send(channels, build, deadline=deadline)
        await self.broadcaster.until_heard(channels, timestamp, deadline=deadline)

    async def _no_segments(self, collection_id: int, partition_id: int | None = None) -> None:
        if self.broadcaster is None:
            return
        while True:
            await asyncio.sleep(SEGMENTS_EVERY_S)
            data_coord, soon = self.peers.data_coord, _soon()
            if partition_id is None:
                gone = await data_coord.gc_confirm(collection_id, deadline=soon)
            else:
                gone = await data_coord.gc_confirm(collection_id, partition_id, deadline=soon)
            if gone:
                return

    def _released(self, collection_id: int) -> Callable[[], Awaitable[None]]:
        async def release() -> None:
            self.pool.release(collection_id)

        return release

    def _purge(self, collection_id: int) -> Sequence[Step]:
        def next_part(stamp: Stamp) -> Sequence[Write]:
            return next(iter(plan_purge(self.tables, self.layout, collection_id, stamp.timestamp)), ())

        async def purge() -> None:
            while await self._commit(next_part, _soon()):
                pass

        return [Step("purge", purge)]

    def _purge_partition(self, collection_id: int, partition_id: int) -> Step:
        async def purge() -> None:
            await self._commit(
                lambda stamp: plan_purge_partition(
                    self.tables, self.layout, collection_id, partition_id, stamp.timestamp
                ),
                _soon(),
            )

        return Step("purge", purge)

    # --- small parts ---

    async def _carry_out(
        self,
        name: str,
        db_name: str,
        collection: str,
        decide: Callable[[], Operation | None],
        deadline: float,
    ) -> None:
        key = f"{db_name or 'default'}/{collection}"
        try:
            await self.operations.carry_out(f"{name} {key}", [key], decide, deadline=deadline)
        except NotMade:
            return

    async def _change(
        self, plan: Callable[[Stamp], Change], deadline: float, made: list[tuple[Change, int]]
    ) -> None:
        """Commit a change; `made` gets it and its revision, 0 if nothing was written or that is not known."""

        def decide(stamp: Stamp) -> Sequence[Write]:
            made[:] = [(plan(stamp), 0)]
            return made[0][0].writes

        revision = await self.ddl.carry_out(decide, deadline=deadline)
        made[:] = [(made[0][0], revision)]

    async def _write(self, writes: Sequence[Write], deadline: float) -> None:
        await self._commit(lambda _stamp: writes, deadline)

    async def _commit(self, decide: Callable[[Stamp], Sequence[Write]], deadline: float) -> int:
        """The revision, 0 if there was nothing to write. A write of unknown outcome is settled first."""
        return await self.ddl.carry_out(decide, deadline=deadline)

    async def _forget(self, change: Change, revision: int, *, msg_type: int = 0) -> None:
        """Have the proxies forget what the change is about."""
        for name in change.names or ("",):
            base = MsgBase(sourceID=self.server_id)
            if msg_type:
                base.msg_type = DROP_COLLECTION
            request = InvalidateCollMetaCacheRequest(
                base=base,
                db_name=change.db_name,
                collection_name=name,
                collectionID=change.collection_id,
            )
            await self._tell_proxies(request, revision)

    async def _tell_proxies(self, request: InvalidateCollMetaCacheRequest, revision: int) -> None:
        while True:
            try:
                await self.peers.proxies.invalidate_collection_meta_cache(request, committed_at=revision)
            except SessionsNotKnown as error:
                log.warning("the proxies cannot be told yet", reason=str(error))
            else:
                return

    def _plan_drop(self, request: DropCollectionRequest, stamp: Stamp) -> Change:
        return plan_drop(self.tables, self.layout, request, stamp.timestamp)

    def _plan_create_partition(self, request: CreatePartitionRequest, stamp: Stamp) -> Change:
        limit = self.config().settings.root_coord.max_partition_num
        return plan_create_partition(self.tables, self.layout, request, stamp, limit=limit)

    def _plan_drop_partition(self, request: DropPartitionRequest, stamp: Stamp) -> Change:
        return plan_drop_partition(
            self.tables, self.layout, request, stamp.timestamp, default_partition=self._default_partition()
        )

    def _default_partition(self) -> str:
        return self.config().settings.common.default_partition_name

    def _limits(self) -> Limits:
        settings = self.config().settings
        return Limits(
            dml_channels=len(self.pool),
            shards=settings.proxy.max_shard_num,
            collections_per_db=settings.quota_and_limits.limits.max_collection_num_per_db,
            collections=settings.quota_and_limits.limits.max_collection_num,
            partitions=settings.root_coord.max_partition_num,
        )


def _placed(creation: _Creation) -> Placement:
    if creation.placement is None:
        raise RuntimeError("the collection has no channels yet")
    return creation.placement


def _soon() -> float:
    return boottime() + STEP_TIMEOUT_S
