"""What RootCoord tells of itself: states, channels, settings, metrics, health.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go; recorded replies.
"""

from collections.abc import Callable
from typing import cast

from coordd import clock
from coordd.config import LoadedConfig
from coordd.ha.leadership import SessionTable
from coordd.pb.common_pb2 import KeyValuePair, StateCode
from coordd.pb.internal_pb2 import (
    GetStatisticsChannelRequest,
    GetTimeTickChannelRequest,
    ShowConfigurationsRequest,
    ShowConfigurationsResponse,
)
from coordd.pb.milvus_pb2 import (
    CheckHealthRequest,
    CheckHealthResponse,
    ComponentInfo,
    ComponentStates,
    GetComponentStatesRequest,
    GetMetricsRequest,
    GetMetricsResponse,
    ShowSegmentsRequest,
    ShowSegmentsResponse,
    StringResponse,
)
from coordd.rootcoord.configurations import listed
from coordd.rootcoord.proxies import ProxyAddress, ProxyClient, unhealthy_reasons
from coordd.rootcoord.system_info import Component, SystemInfo, check_metric_type
from coordd.rpc.call import Call
from coordd.rpc.gate import ServeGate
from coordd.rpc.status import success

HEALTH_PATIENCE_S = 10.0
"""How long proxies may take to answer when the caller of CheckHealth sets no deadline."""

HEALTH_MARGIN_S = 0.2
"""Kept back of the caller's deadline, so that what a silent proxy leaves unsaid can still be told."""


def component_states(gate: ServeGate) -> ComponentStates:
    """This process as every coordinator describes itself: one component that is its own subcomponent."""
    state_code = cast("StateCode", gate.state_code)
    info = ComponentInfo(nodeID=gate.server_id, role=gate.role, state_code=state_code)
    return ComponentStates(state=info, subcomponent_states=[info], status=success())


class SystemHandlers:
    """`_config` gives the present settings; `_component` describes this process."""

    _gate: ServeGate
    _config: Callable[[], LoadedConfig]
    _component: Callable[[], Component]
    _system_info: SystemInfo
    _sessions: SessionTable
    _proxies: ProxyClient

    def get_component_states(self, _request: GetComponentStatesRequest, _call: Call) -> ComponentStates:
        """The state of this process; answered in every state."""
        return component_states(self._gate)

    def get_time_tick_channel(self, _request: GetTimeTickChannelRequest, _call: Call) -> StringResponse:
        """Name of the channel that carries time ticks; unused by 2.3 nodes."""
        common = self._config().settings.common
        return StringResponse(status=success(), value=f"{common.cluster}-{common.root_coord_time_tick}")

    def get_statistics_channel(self, _request: GetStatisticsChannelRequest, _call: Call) -> StringResponse:
        """Name of the channel for statistics; unused by 2.3 nodes."""
        common = self._config().settings.common
        return StringResponse(status=success(), value=f"{common.cluster}-{common.root_coord_statistics}")

    def show_segments(self, _request: ShowSegmentsRequest, _call: Call) -> ShowSegmentsResponse:
        """Always empty: RootCoord knows no segments."""
        return ShowSegmentsResponse(status=success())

    def show_configurations(
        self, request: ShowConfigurationsRequest, _call: Call
    ) -> ShowConfigurationsResponse:
        """The settings whose name contains the pattern; secrets are masked, which Milvus does not do."""
        loaded = self._config()
        pairs = listed(
            loaded.items,
            loaded.spellings,
            role=self._gate.role,
            pattern=request.pattern,
            metrics_port=loaded.settings.coordd.management.port,
        )
        return ShowConfigurationsResponse(
            status=success(),
            configuations=[KeyValuePair(key=key, value=value) for key, value in pairs.items()],
        )

    def get_metrics(self, request: GetMetricsRequest, _call: Call) -> GetMetricsResponse:
        """`system_info` of this process; answered while standing by, too."""
        check_metric_type(request.request)
        component = self._component()
        return GetMetricsResponse(
            status=success(), response=self._system_info.json(component), component_name=component.name
        )

    async def check_health(self, _request: CheckHealthRequest, call: Call) -> CheckHealthResponse:
        """Whether all registered proxies say that they are Healthy."""
        proxies = [
            ProxyAddress(entry.record.server_id, entry.record.address)
            for entry in self._sessions.of_role("proxy")
            if entry.record is not None
        ]
        reasons = await unhealthy_reasons(self._proxies, proxies, _health_timeout_s(call))
        return CheckHealthResponse(status=success(), isHealthy=not reasons, reasons=reasons)


def _health_timeout_s(call: Call) -> float:
    if call.deadline is None:
        return HEALTH_PATIENCE_S
    return max(call.deadline - clock.boottime() - HEALTH_MARGIN_S, HEALTH_MARGIN_S)
