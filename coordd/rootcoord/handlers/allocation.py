"""AllocTimestamp and AllocID: answered at once while the persisted window lasts, else after it was extended.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go, internal/tso/global_allocator.go.
"""

from collections.abc import Awaitable, Callable

from coordd import clock
from coordd.pb.root_coord_pb2 import (
    AllocIDRequest,
    AllocIDResponse,
    AllocTimestampRequest,
    AllocTimestampResponse,
)
from coordd.rootcoord import ids, tso
from coordd.rootcoord.errors import elsewhere
from coordd.rootcoord.oracle import NotHandedOutError, Oracle, TermOverError
from coordd.rootcoord.proxies import TimestampBar
from coordd.rpc.call import Call
from coordd.rpc.failure import RpcFailure
from coordd.rpc.status import MilvusError, success

SUCCESS = success()
"""Copied into each answer; messages that are fields of others are never shared."""

PATIENCE_S = 5.0
"""How long a block is waited for; Milvus' callers give 5 s for IDs and 10 s for timestamps."""


class AllocationHandlers:
    """`_oracle` gives the present term's oracle; `_bar` says which proxies get no timestamps."""

    _oracle: Callable[[], Oracle]
    _bar: TimestampBar

    def alloc_timestamp(
        self, request: AllocTimestampRequest, call: Call
    ) -> AllocTimestampResponse | Awaitable[AllocTimestampResponse]:
        """First of `count` consecutive timestamps."""
        count = request.count
        if not 0 < count <= tso.MAX_COUNT:
            raise _refused(count)
        if self._bar.ids:
            self._bar.check(request.base.sourceID)
        try:
            first = self._oracle().timestamps_now(count)
        except TermOverError as error:
            raise elsewhere(error) from error
        if isinstance(first, tso.Wait):
            return self._await_timestamps(request.base.sourceID, count, call)
        return AllocTimestampResponse(status=SUCCESS, timestamp=first, count=count)

    def alloc_id(self, request: AllocIDRequest, call: Call) -> AllocIDResponse | Awaitable[AllocIDResponse]:
        """First of `count` consecutive IDs."""
        count = request.count
        if not 0 < count <= ids.MAX_COUNT:
            raise _refused(count)
        try:
            first = self._oracle().ids_now(count)
        except TermOverError as error:
            raise elsewhere(error) from error
        if isinstance(first, tso.Wait):
            return self._await_ids(count, call)
        return AllocIDResponse(status=SUCCESS, ID=first, count=count)

    async def _await_timestamps(self, source: int, count: int, call: Call) -> AllocTimestampResponse:
        try:
            first = await self._oracle().wait_timestamps(count, _deadline(call))
        except NotHandedOutError as error:
            raise _in_milvus_words(error) from error
        self._bar.check(source)  # which may have been barred meanwhile
        return AllocTimestampResponse(status=SUCCESS, timestamp=first, count=count)

    async def _await_ids(self, count: int, call: Call) -> AllocIDResponse:
        try:
            first = await self._oracle().wait_ids(count, _deadline(call))
        except NotHandedOutError as error:
            raise _in_milvus_words(error) from error
        return AllocIDResponse(status=SUCCESS, ID=first, count=count)


def _in_milvus_words(error: NotHandedOutError) -> MilvusError | RpcFailure:
    if isinstance(error, TermOverError):
        return elsewhere(error)
    return MilvusError("can not get timestamp")


def _refused(count: int) -> MilvusError:
    """Milvus tries ten times, 50 ms apart, for a block beyond the logical part before it says so."""
    return MilvusError("tso count should be positive" if count == 0 else "can not get timestamp")


def _deadline(call: Call) -> float:
    patience = clock.boottime() + PATIENCE_S
    return patience if call.deadline is None else min(patience, call.deadline)
