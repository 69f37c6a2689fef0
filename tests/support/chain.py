"""The chain around handlers, with a gate that the test opens and closes, and short ways to call it."""

from typing import Any, Final

import pytest

from coordd.clock import boottime
from coordd.pb import root_coord_pb2
from coordd.rpc.call import Call
from coordd.rpc.dispatch import Dispatcher, DispatchTable
from coordd.rpc.failure import RpcFailure
from tests.support.rpc import PREFIX, ROOT_COORD, FakeGate, Role

TIMESTAMP: Final = f"{PREFIX}AllocTimestamp"
"""Answered by a `def`."""
ALLOC_ID: Final = f"{PREFIX}AllocID"
"""Answered by an `async def`."""


class Chain:
    """A dispatcher with its gate and role, and short ways to call it."""

    def __init__(self) -> None:
        self.gate = FakeGate()
        self.role = Role()
        table = DispatchTable()
        table.add_service(ROOT_COORD, self.role)
        self.table = table
        self.dispatcher = Dispatcher(table, self.gate, cluster="by-dev", hold_cap_s=5.0)

    async def call(
        self, path: str, body: bytes = b"", *, deadline_in_s: float | None = 5.0, **metadata: str
    ) -> bytes:
        deadline = None if deadline_in_s is None else boottime() + deadline_in_s
        return await self.dispatcher.dispatch(path, body, Call(path, metadata, deadline))

    async def timestamp(self, **metadata: str) -> root_coord_pb2.AllocTimestampResponse:
        body = root_coord_pb2.AllocTimestampRequest(count=3).SerializeToString()
        return root_coord_pb2.AllocTimestampResponse.FromString(await self.call(TIMESTAMP, body, **metadata))

    async def alloc_id(self) -> root_coord_pb2.AllocIDResponse:
        return root_coord_pb2.AllocIDResponse.FromString(await self.call(ALLOC_ID))

    async def failure(self, path: str = TIMESTAMP, body: bytes = b"", **options: Any) -> RpcFailure:
        with pytest.raises(RpcFailure) as caught:
            await self.call(path, body, **options)
        return caught.value

    def stats(self, path: str = TIMESTAMP) -> Any:
        method = self.table.get(path)
        assert method is not None
        return method.stats
