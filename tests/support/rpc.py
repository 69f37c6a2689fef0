"""A serve gate that tests open and close by hand, and a role to put behind it."""

import asyncio
from typing import Any

from coordd.clock import boottime
from coordd.errors import CoorddError
from coordd.pb import common_pb2, milvus_pb2, root_coord_pb2
from coordd.rpc.call import Call

ROOT_COORD = root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]
PREFIX = "/milvus.proto.rootcoord.RootCoord/"


class FakeGate:
    """Serving in epoch 7 as rootcoord 4 unless told otherwise. `change()` wakes those who wait."""

    def __init__(self) -> None:
        self.role = "rootcoord"
        self.server_id = 4
        self.state_code: int = common_pb2.StateCode.Healthy
        self.epoch = 7
        self.deposed = False
        self.guard_valid = True
        self.holding = False
        self.forwarder: Any = None
        self.running = 0
        self.waiting = 0
        self.someone_waits = asyncio.Event()
        self._changed = asyncio.Event()

    def serving(self) -> bool:
        return self.guard_valid and self.state_code == common_pb2.StateCode.Healthy and not self.deposed

    def call_began(self) -> None:
        self.running += 1

    def call_ended(self) -> None:
        self.running -= 1

    async def wait_change(self, deadline: float) -> None:
        self.waiting += 1
        self.someone_waits.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - boottime())):
                await self._changed.wait()
        except TimeoutError:
            return
        finally:
            self.waiting -= 1

    def change(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)
        self._changed.set()
        self._changed = asyncio.Event()

    def depose(self) -> None:
        self.change(deposed=True, epoch=0, state_code=common_pb2.StateCode.StandBy)


class Role:
    """Handlers that do what a test wants: a `def`, an `async def`, and errors of every kind."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Call]] = []
        self.error: Exception | None = None
        self.entered = asyncio.Event()
        self.proceed = asyncio.Event()
        self.proceed.set()
        self.between: Any = None

    def get_component_states(
        self, _request: milvus_pb2.GetComponentStatesRequest, _call: Call
    ) -> milvus_pb2.ComponentStates:
        return milvus_pb2.ComponentStates(status=common_pb2.Status())

    def get_metrics(
        self, _request: milvus_pb2.GetMetricsRequest, _call: Call
    ) -> milvus_pb2.GetMetricsResponse:
        return milvus_pb2.GetMetricsResponse(status=common_pb2.Status(), component_name="rootcoord4")

    def alloc_timestamp(
        self, request: root_coord_pb2.AllocTimestampRequest, call: Call
    ) -> root_coord_pb2.AllocTimestampResponse:
        self.calls.append((request, call))
        if self.error is not None:
            raise self.error
        if self.between is not None:
            self.between()
        return root_coord_pb2.AllocTimestampResponse(
            status=common_pb2.Status(), timestamp=1000 + len(self.calls), count=request.count
        )

    async def alloc_id(
        self, request: root_coord_pb2.AllocIDRequest, call: Call
    ) -> root_coord_pb2.AllocIDResponse:
        self.calls.append((request, call))
        self.entered.set()
        await self.proceed.wait()
        if self.error is not None:
            raise self.error
        return root_coord_pb2.AllocIDResponse(status=common_pb2.Status(), ID=42, count=request.count)

    def check_health(
        self, _request: milvus_pb2.CheckHealthRequest, _call: Call
    ) -> milvus_pb2.CheckHealthResponse:
        return milvus_pb2.CheckHealthResponse(status=common_pb2.Status(), isHealthy=True)

    def has_collection(self, _request: milvus_pb2.HasCollectionRequest, _call: Call) -> common_pb2.Status:
        return common_pb2.Status()  # the wrong response type: a bug the chain must survive


class SomethingElse(CoorddError):
    """An expected failure that no code is known for."""
