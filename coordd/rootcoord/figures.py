"""RootCoord's numbers for Milvus' metrics, read from tables and allocators at the moment of a scrape.

Source of the names: Milvus 2.3.5 pkg/metrics/rootcoord_metrics.go.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from coordd.ha.leadership import SessionTable
from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import ErrorCode
from coordd.rootcoord.oracle import Oracle
from coordd.rootcoord.parts import Services, TermParts
from coordd.rootcoord.quota.state import QuotaState
from coordd.rootcoord.quota.writing import Reason
from coordd.rootcoord.snapshots import SnapshotFigures
from coordd.rpc.stats import MethodStats, QueueStats

_SHOWN_REASONS = (Reason.MEMORY, Reason.DISK, Reason.TICKS)
"""Those for which Milvus has a gauge."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Implements `coordd.management.metrics.RootCoordFigures`. `parts`: of a term, None outside one."""

    tables: RootCoordTables
    sessions: SessionTable
    parts: Callable[[], TermParts | None]
    snapshots: SnapshotFigures = field(default_factory=SnapshotFigures)

    def collection_num(self) -> int:
        """Collections that exist, in all databases."""
        return self.tables.collections.available_count

    def partition_num(self) -> int:
        """Partitions of those collections."""
        return self.tables.collections.partition_count

    def credential_num(self) -> int:
        """Users."""
        return len(self.tables.users)

    def role_num(self) -> int:
        """Roles."""
        return len(self.tables.roles)

    def proxy_num(self) -> int:
        """Proxies that are registered."""
        return len(self.sessions.of_role("proxy"))

    def last_timestamp(self) -> int | None:
        """The hybrid timestamp handed out last; None before the first of this term."""
        oracle = self._oracle()
        return None if oracle is None or oracle.timestamps.last < 0 else oracle.timestamps.last

    def saved_timestamp_s(self) -> float | None:
        """End of the saved window of timestamps, Unix seconds."""
        oracle = self._oracle()
        return None if oracle is None else oracle.timestamps.window_end_ms / 1000

    def ids_allocated(self) -> int | None:
        """IDs handed out in this term."""
        oracle = self._oracle()
        return None if oracle is None else oracle.ids.handed_out

    def dml_channel_num(self) -> int | None:
        """Physical channels that new collections can get."""
        parts = self.parts()
        return None if parts is None else len(parts.channels)

    def queue_waits(self) -> Mapping[str, QueueStats]:
        """By method, how long changes of this term waited for earlier ones of the same collection."""
        parts = self.parts()
        return {} if parts is None else parts.operations.waits

    def tick_lags_ms(self) -> Mapping[str, float]:
        """By channel, how old the newest time tick was when the message queue had taken it."""
        served = self._served()
        return {} if served is None else served.time_ticks.lag_ms

    def tick_latency(self) -> MethodStats | None:
        """How long time ticks took to be sent to all channels; None before the first."""
        served = self._served()
        latency = None if served is None else served.time_ticks.latency
        return latency if latency is not None and latency.answered else None

    def quota_states(self) -> Mapping[str, bool]:
        """By Milvus' name of a reason, whether writing is denied somewhere because of it."""
        state = self._quota_state()
        return {} if state is None else {_name(reason): reason in state.denied for reason in _SHOWN_REASONS}

    def rate_limit_ratios(self) -> Mapping[int, float]:
        """By collection, the share of its rates that is taken away; those that are written to as they may are
        left out."""
        state = self._quota_state()
        return {} if state is None else state.slowed

    def node_tick_delays_s(self) -> Mapping[tuple[str, int], float]:
        """By role and server ID of a node, how old the newest time ticks are that it has consumed."""
        state = self._quota_state()
        return {} if state is None else state.tick_delays_s

    def snapshots_deleted(self) -> int:
        """Snapshots that this process has deleted."""
        return self.snapshots.snapshots

    def keys_forgotten(self) -> int:
        """Deleted keys of which this process has left nothing."""
        return self.snapshots.keys

    def snapshot_rounds(self) -> Mapping[str, int]:
        """Rounds of deletion by their outcome."""
        return {"done": self.snapshots.rounds, "failed": self.snapshots.failures}

    def _oracle(self) -> Oracle | None:
        parts = self.parts()
        return None if parts is None else parts.oracle

    def _served(self) -> Services | None:
        parts = self.parts()
        return None if parts is None else parts.served

    def _quota_state(self) -> QuotaState | None:
        served = self._served()
        return None if served is None else served.quota.state


def _name(reason: Reason) -> str:
    return ErrorCode.Name(cast("ErrorCode", int(reason)))
