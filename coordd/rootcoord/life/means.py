"""What the steps of a change work with: the metadata, the proxies and the channels of one term."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from coordd.clock import boottime
from coordd.config import LoadedConfig
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.rootcoord.batch import BATCH_MAX, Decide
from coordd.rootcoord.broadcast import Broadcaster
from coordd.rootcoord.channels import ChannelPool
from coordd.rootcoord.collections import Change, Limits, room_left
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.looks import Looks
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.peers import Peers
from coordd.rootcoord.settling import settle
from coordd.rootcoord.steps import Action
from coordd.rootcoord.topics import MadeBeforehand
from coordd.rootcoord.word import Telling, Word

STEP_TIMEOUT_S = 10.0
"""What a step in the background may take before it is begun anew."""
SEGMENTS_EVERY_S = 60.0
"""Until it is first asked whether segments of what was dropped are left; the pauses grow from there."""
LAST_ONES = "the last collections that there may be"
"""What changes are about that make collections when there may be few more. (No collection is called so: names
follow that of a database and a slash.)"""
STEP_MARGIN_S = 0.1
"""Kept back of a caller's time, so that a step that ran out of it is told as what it was, and undone."""


@dataclass(frozen=True, slots=True, repr=False)
class Means:
    """Of one term. `broadcaster` None: there is no message queue. `config` gives the present settings.
    `topics` None: channels are made on first use.

    Whatever changes metadata or tells others raises `CoorddError` if that fails, `FenceLost` when the term is
    over.
    """

    tables: RootCoordTables
    layout: MetaLayout
    config: Callable[[], LoadedConfig]
    ddl: Ddl
    oracle: Oracle
    pool: ChannelPool
    peers: Peers
    looks: Looks
    operations: Operations
    broadcaster: Broadcaster | None
    server_id: int
    topics: MadeBeforehand | None = None
    segments_every_s: float = SEGMENTS_EVERY_S

    @property
    def others_are_asked(self) -> bool:
        """Whether there are data nodes, and so a DataCoord and a QueryCoord to ask."""
        return self.broadcaster is not None

    @property
    def is_replica(self) -> bool:
        """Whether the cluster is a copy of another one, from which its data nodes' messages come."""
        return not self.config().settings.common.tt_msg_enabled

    @property
    def default_partition(self) -> str:
        """Name of the partition that every collection without a partition key has."""
        return self.config().settings.common.default_partition_name

    @property
    def limits(self) -> Limits:
        """The bounds on a new collection."""
        settings = self.config().settings
        return Limits(
            dml_channels=settings.root_coord.dml_channel_num,
            shards=settings.proxy.max_shard_num,
            collections_per_db=settings.quota_and_limits.limits.max_collection_num_per_db,
            collections=settings.quota_and_limits.limits.max_collection_num,
            partitions=settings.root_coord.max_partition_num,
        )

    async def commit(self, decide: Decide, deadline: float | None = None) -> int:
        """Commit what `decide` says; the revision, 0 if there was nothing to write.

        A write of unknown outcome is settled first. `deadline`: by default that of a step in the background.
        """
        return await self.ddl.carry_out(decide, deadline=soon() if deadline is None else deadline)

    async def commit_beside(
        self, decide: Decide, deadline: float, *, db_name: str, name: str, counts: bool = False
    ) -> int:
        """As `commit`; other collections' changes may share the transaction.

        `db_name`, `name`: of the collection that it is about, which `decide` may be about to make. `counts`:
        it makes one of those of which there may only be so many, and decides by how many there are. Then
        nothing else that is about the collection may be carried out meanwhile.
        """

        def about() -> str:
            """One collection may have several names. The last ones that there may be are decided singly."""
            database = self.tables.databases.by_name(db_name)
            if counts and (database is None or room_left(self.tables, database, self.limits) < BATCH_MAX):
                return LAST_ONES
            row = None if database is None else self.tables.resolve(database.id, name)
            return f"{db_name}/{name}" if row is None else str(row.collection_id)

        return await self.ddl.carry_out_beside(decide, about=about, deadline=deadline)

    async def settle(self) -> None:
        """Return when it is known what has become of all earlier writes."""
        await settle(self.ddl)

    def word(self, change: Change, *, drops_collection: bool = False) -> Word:
        """What the proxies are to be told of a change; `drops_collection`: that is the collection's end."""
        return Word(
            self.peers.proxies,
            change,
            server_id=self.server_id,
            timestamp=lambda: self.oracle.newest_timestamp,
            drops_collection=drops_collection,
        )

    def telling(self, *, drops_collection: bool = False) -> Telling:
        """A change that is written with the proxies told beside that. Otherwise as `word`."""
        new_word = partial(self.word, drops_collection=drops_collection)
        return Telling(new_word, self.looks, self.operations.start)


def soon() -> float:
    """Until when a step in the background may take, in seconds on CLOCK_BOOTTIME."""
    return boottime() + STEP_TIMEOUT_S


async def both(first: Action, second: Action) -> None:
    """Do two things at the same time; raises what failed first.

    The failure of one does not cut the other short: what has become of it must be known for the undoing.
    """
    failures: list[Exception] = []

    async def do(action: Action) -> None:
        try:
            await action()
        except Exception as error:  # noqa: BLE001 - raised when both have ended
            failures.append(error)

    async with asyncio.TaskGroup() as group:
        group.create_task(do(second), name="rootcoord:at the same time")
        await do(first)
    if failures:
        raise failures[0]
