"""The typed settings of a coordd process: one frozen tree, all values checked.

Reads nothing by itself: `Settings()` is all defaults, `coordd.config.load_config` fills it from files,
environment and etcd.
"""

from typing import Annotated

from coordd.config.access import BuiltinRolesSettings, ProxySettings
from coordd.config.coordinators import (
    CoordinatorSettings,
    DataCoordSettings,
    MixCoordSettings,
    QueryCoordSettings,
    RootCoordSettings,
)
from coordd.config.keys import Role
from coordd.config.message_queue import KafkaSettings, MqSettings, PulsarSettings
from coordd.config.own import CoorddSettings
from coordd.config.quota import QuotaAndLimitsSettings
from coordd.config.sections import (
    CommonSettings,
    EtcdSettings,
    GrpcSettings,
    LogSettings,
    MetastoreSettings,
    Section,
    TlsSettings,
)

ROLE_ATTRIBUTES = {"rootcoord": "root_coord", "datacoord": "data_coord", "querycoord": "query_coord"}


class Settings(Section):
    """Everything that coordd reads from milvus.yaml, the environment and etcd."""

    etcd: EtcdSettings = EtcdSettings()
    """Where etcd is and which part of it belongs to this cluster."""
    metastore: MetastoreSettings = MetastoreSettings()
    """Which store holds the metadata."""
    common: CommonSettings = CommonSettings()
    """What all processes of a cluster have in common."""
    root_coord: Annotated[RootCoordSettings, Role("rootCoord")] = RootCoordSettings()
    """Databases, collections, users, timestamps, IDs."""
    data_coord: Annotated[DataCoordSettings, Role("dataCoord")] = DataCoordSettings()
    """Segments, flush, compaction, indexes."""
    query_coord: Annotated[QueryCoordSettings, Role("queryCoord")] = QueryCoordSettings()
    """Loading and balancing of collections on query nodes."""
    mix_coord: Annotated[MixCoordSettings, Role("mixCoord")] = MixCoordSettings()
    """A process that runs the three roles."""
    mq: MqSettings = MqSettings()
    """Which message queue carries inserts, deletes, schema changes and time ticks."""
    kafka: KafkaSettings = KafkaSettings()
    """Where Kafka is and how to log in there."""
    pulsar: PulsarSettings = PulsarSettings()
    """Where Pulsar is and how to log in there."""
    proxy: ProxySettings = ProxySettings()
    """The part of the proxies' settings that coordinators keep."""
    builtin_roles: BuiltinRolesSettings = BuiltinRolesSettings()
    """Roles that are made when a term begins and cannot be dropped."""
    quota_and_limits: QuotaAndLimitsSettings = QuotaAndLimitsSettings()
    """Bounds on what a cluster holds and takes."""
    grpc: GrpcSettings = GrpcSettings()
    """gRPC of all roles."""
    log: LogSettings = LogSettings()
    """What is logged, how and where to."""
    tls: TlsSettings = TlsSettings()
    """Certificates of the cluster's own servers."""
    coordd: CoorddSettings = CoorddSettings()
    """Settings that Milvus does not have."""

    def coordinator(self, role: str) -> CoordinatorSettings:
        """The section of `rootcoord`, `datacoord` or `querycoord`.

        Raises:
            KeyError: any other role.
        """
        section: CoordinatorSettings = getattr(self, ROLE_ATTRIBUTES[role])
        return section

    def active_standby(self, role: str, *, mixed: bool = False) -> bool:
        """Whether `role` runs with standbys; `mixed` = inside a process that runs all three roles.

        Raises:
            KeyError: not one of the three roles.
        """
        if mixed and self.mix_coord.enable_active_standby is not None:
            return self.mix_coord.enable_active_standby
        return self.coordinator(role).enable_active_standby
