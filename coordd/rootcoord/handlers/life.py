"""CreateCollection, DropCollection, CreatePartition and DropPartition: changes of several steps.

A call whose caller left, or whose time was up, goes on (`coordd.rootcoord.operations`); repeated, it waits
for its turn and finds what the first one has made. All four are idempotent.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; recorded replies.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from coordd.pb.common_pb2 import Status
from coordd.pb.milvus_pb2 import (
    CreateCollectionRequest,
    CreatePartitionRequest,
    DropCollectionRequest,
    DropPartitionRequest,
)
from coordd.rootcoord.handlers.changing import PEERS_PATIENCE_S, deadline_of, why_not
from coordd.rootcoord.life import Life
from coordd.rpc.call import Call
from coordd.rpc.status import success


class LifeHandlers:
    """`_life` gives what belongs to the present term."""

    _life: Callable[[], Life]

    async def create_collection(self, request: CreateCollectionRequest, call: Call) -> Status:
        """Make a collection; one that is there already with the same definition is success."""
        deadline = deadline_of(call, PEERS_PATIENCE_S)
        return await _answer(lambda: self._life().create_collection(request, deadline))

    async def drop_collection(self, request: DropCollectionRequest, call: Call) -> Status:
        """Drop a collection; its name is free when this is answered."""
        return await _answer(lambda: self._life().drop_collection(request, deadline_of(call)))

    async def create_partition(self, request: CreatePartitionRequest, call: Call) -> Status:
        """Make a partition; one that is there already is success."""
        deadline = deadline_of(call, PEERS_PATIENCE_S)
        return await _answer(lambda: self._life().create_partition(request, deadline))

    async def drop_partition(self, request: DropPartitionRequest, call: Call) -> Status:
        """Drop a partition; its name is free when this is answered."""
        return await _answer(lambda: self._life().drop_partition(request, deadline_of(call)))


async def _answer(change: Callable[[], Coroutine[Any, Any, None]]) -> Status:
    with why_not():
        await change()
    return success()
