"""The query coordinator as the replica driver sees it, and the methods that are answered in any state.

Every other method answers "not yet", by way of the dispatch table.

Source of truth: Milvus 2.3.5 internal/querycoordv2/server.go.
"""

from collections.abc import Callable, Sequence
from typing import cast

from coordd.config import LoadedConfig
from coordd.etcd import EtcdClient, Op
from coordd.ha.coordinator import Term
from coordd.ha.replica import Replica
from coordd.meta.fold import Table
from coordd.meta.layout import MetaLayout
from coordd.pb import query_coord_pb2
from coordd.pb.common_pb2 import StateCode
from coordd.pb.internal_pb2 import GetStatisticsChannelRequest, GetTimeTickChannelRequest
from coordd.pb.milvus_pb2 import ComponentInfo, ComponentStates, GetComponentStatesRequest, StringResponse
from coordd.rpc.call import Call
from coordd.rpc.gate import ServeGate
from coordd.rpc.status import success
from coordd.rpc.table import DispatchTable

ROLE = "querycoord"
TIME_TICK_CHANNEL = "queryTimeTick"


class QueryCoord:
    """Implements `coordd.ha.coordinator.Coordinator`; it keeps no metadata yet."""

    companions: tuple[str, ...] = ()

    def __init__(self, config: Callable[[], LoadedConfig], layout: MetaLayout, client: EtcdClient) -> None:
        self.role = ROLE
        self._config = config
        self._layout = layout
        self._client = client

    @property
    def follow_from(self) -> str:
        """First key of the followed range: the heartbeats, then the sessions."""
        return self._layout.heartbeat_prefix

    @property
    def tables(self) -> Sequence[Table]:
        """None yet."""
        return ()

    def add_services(self, table: DispatchTable, replica: Replica) -> None:
        """Serve QueryCoord's methods through `table`."""
        handlers = QueryCoordHandlers(replica.gate, self._config)
        table.add_service(query_coord_pb2.DESCRIPTOR.services_by_name["QueryCoord"], handlers)

    def figures(self, _replica: Replica) -> None:
        """No metrics of its own yet."""

    async def follow(self) -> None:
        """Nothing besides the tables."""

    def claim(self) -> None:
        """Nothing to do in a campaign."""

    def bequest(self) -> Sequence[Op]:
        """Nothing to do in a handover."""
        return ()

    async def activate(self, term: Term) -> None:
        """Nothing to make ready yet."""

    def deactivate(self) -> None:
        """Nothing to drop yet."""


class QueryCoordHandlers:
    """What QueryCoord's service answers."""

    def __init__(self, gate: ServeGate, config: Callable[[], LoadedConfig]) -> None:
        self._gate = gate
        self._config = config

    def get_component_states(self, _request: GetComponentStatesRequest, _call: Call) -> ComponentStates:
        """The state of this process; QueryCoord does not name its role."""
        state_code = cast("StateCode", self._gate.state_code)
        info = ComponentInfo(nodeID=self._gate.server_id, state_code=state_code)
        return ComponentStates(state=info, status=success())

    def get_time_tick_channel(self, _request: GetTimeTickChannelRequest, _call: Call) -> StringResponse:
        """Name of the channel for time ticks; unused by 2.3 nodes."""
        cluster = self._config().settings.common.cluster
        return StringResponse(status=success(), value=f"{cluster}-{TIME_TICK_CHANNEL}")

    def get_statistics_channel(self, _request: GetStatisticsChannelRequest, _call: Call) -> StringResponse:
        """There is none."""
        return StringResponse(status=success())
