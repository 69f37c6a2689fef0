"""The four changes that clients ask for, and what a new term finds begun."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

from coordd.log import get_logger
from coordd.meta.tables import DEFAULT_DB_NAME
from coordd.pb.milvus_pb2 import (
    CreateCollectionRequest,
    CreatePartitionRequest,
    DropCollectionRequest,
    DropPartitionRequest,
)
from coordd.rootcoord.collections import (
    Change,
    define,
    existing,
    plan_create_partition,
    plan_drop,
    plan_drop_partition,
    unfinished,
)
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.life.creation import Creation, NotMade
from coordd.rootcoord.life.ends import CollectionEnd, PartitionEnd
from coordd.rootcoord.life.means import STEP_MARGIN_S, Means
from coordd.rootcoord.life.planned import Planned, collection_end, dropping, making, partition_end
from coordd.rootcoord.operations import Operation, collection_key

log = get_logger("coordd.rootcoord.life")

SLICE_ENDS = 200
"""Ends that a new term takes up between two yields to the event loop: a few milliseconds of work."""

Request: TypeAlias = (
    CreateCollectionRequest | DropCollectionRequest | CreatePartitionRequest | DropPartitionRequest
)


class Life:
    """Of one term. Every method but `go_on` takes a `deadline`, in seconds on CLOCK_BOOTTIME, and raises:

    MilvusError: refused, here or by another component.
    CoorddError: see `Operations.carry_out`.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def create_collection(self, request: CreateCollectionRequest, deadline: float) -> None:
        """Make a collection, unless an equal one is there."""
        means = self._means

        def decide() -> Operation | None:
            definition = define(
                means.tables, request, limits=means.limits, default_partition=means.default_partition
            )
            if existing(means.tables, definition):
                return None
            return Creation(means, definition, deadline - STEP_MARGIN_S).operation()

        with suppress(NotMade):
            await self._carry_out("create collection", request, decide, deadline)

    async def drop_collection(self, request: DropCollectionRequest, deadline: float) -> None:
        """Drop a collection; one that is not there is success."""
        means = self._means

        def plan(stamp: Stamp) -> Change:
            return plan_drop(means.tables, means.layout, request, stamp.timestamp)

        drop = Planned(means, plan, collection_end, deadline, *_names(request), drops_collection=True)
        await self._carry_out(
            "drop collection", request, lambda: dropping(drop, replicated=_is_replicated(request)), deadline
        )

    async def create_partition(self, request: CreatePartitionRequest, deadline: float) -> None:
        """Make a partition, unless it is there."""
        means = self._means

        def plan(stamp: Stamp) -> Change:
            limit = means.config().settings.root_coord.max_partition_num
            return plan_create_partition(means.tables, means.layout, request, stamp, limit=limit)

        partition = Planned(means, plan, partition_end, deadline - STEP_MARGIN_S, *_names(request))
        await self._carry_out("create partition", request, lambda: making(partition), deadline)

    async def drop_partition(self, request: DropPartitionRequest, deadline: float) -> None:
        """Drop a partition; one that is not there is success."""
        means = self._means

        def plan(stamp: Stamp) -> Change:
            return plan_drop_partition(
                means.tables,
                means.layout,
                request,
                stamp.timestamp,
                default_partition=means.default_partition,
            )

        drop = Planned(means, plan, partition_end, deadline, *_names(request))
        await self._carry_out(
            "drop partition", request, lambda: dropping(drop, replicated=_is_replicated(request)), deadline
        )

    async def go_on(self, first_id: int) -> None:
        """Take up what earlier terms left, to be finished or undone. `first_id`: the first that this one may
        hand out, so what is being created with a later one is its own. To finish a drop of its own twice does
        no harm.

        Of what was dropped the proxies are told first: the term may have ended before it did that.
        """
        means, left = self._means, unfinished(self._means.tables)
        drop = {"told": False, "replicated": means.is_replica}
        beginnings: list[Callable[[], None]] = [
            *(CollectionEnd(means, one).undo for one in left.creating if one < first_id),
            *(partial(CollectionEnd(means, one).finish, **drop) for one in left.dropping),
            *(PartitionEnd(means, *ids).undo for ids in left.creating_partitions if ids[1] < first_id),
            *(partial(PartitionEnd(means, *ids).finish, **drop) for ids in left.dropping_partitions),
        ]
        for number, begin in enumerate(beginnings, 1):
            begin()
            if number % SLICE_ENDS == 0:
                await asyncio.sleep(0)
        creating = len(left.creating) + len(left.creating_partitions)
        dropped = len(left.dropping) + len(left.dropping_partitions)
        if creating or dropped:
            log.info("going on with what earlier terms began", creating=creating, dropping=dropped)

    async def _carry_out(
        self, name: str, request: Request, decide: Callable[[], Operation | None], deadline: float
    ) -> None:
        """Under the collection's name: changes of one collection take turns."""
        key = collection_key(*_names(request))
        function = request.DESCRIPTOR.name.removesuffix("Request")
        await self._means.operations.carry_out(
            f"{name} {key}", [key], decide, deadline=deadline, function=function
        )


def _names(request: Request) -> tuple[str, str]:
    """Of the database, and in it of the collection, or an alias."""
    return request.db_name or DEFAULT_DB_NAME, request.collection_name


def _is_replicated(request: DropCollectionRequest | DropPartitionRequest) -> bool:
    return request.base.replicateInfo.isReplicate
