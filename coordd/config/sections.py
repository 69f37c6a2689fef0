"""The settings that coordd shares with Milvus: etcd, metastore, common, message channels, grpc, log, tls.

Each field names its YAML path; its docstring says the meaning, the unit and why the default is what it is.
Defaults are those of the milvus.yaml that Milvus 2.3.5 ships, because that is what the other processes of a
cluster run with; where Milvus' code default differs, the docstring says so.

Source of truth: Milvus 2.3.5 configs/milvus.yaml, pkg/util/paramtable/{service,grpc,component}_param.go.
"""

import posixpath
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from coordd.config.keys import Fallback, Key

LogLevel = Literal["debug", "info", "warn", "error", "panic", "fatal"]
Port = Annotated[int, Field(ge=0, le=65535)]
NonEmpty = Annotated[str, Field(min_length=1)]
Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
MessageBytes = Annotated[int, Field(ge=1, le=2**31 - 1)]


class Section(BaseModel):
    """Base of all sections: values never change after they were read, and unknown attributes are an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # a traceback must not show a password
    )


def _endpoints(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name at least one host:port")
    return value


def _topics(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name at least one topic")
    return value


def _path_part(value: str) -> str:
    if not value.strip("/"):
        raise ValueError("must not be empty: without it coordd would share the root of etcd with others")
    return value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _level(value: object) -> object:
    return {"warning": "warn", "dpanic": "panic"}.get(str(_lower(value)), _lower(value))


def join_path(*parts: str) -> str:
    """Join key prefixes as Milvus does (Go's path.Join): empty parts and doubled slashes vanish."""
    joined = posixpath.normpath("/".join(part for part in parts if part))
    return "/" + joined.lstrip("/") if joined.startswith("/") else joined


class EtcdSslSettings(Section):
    """TLS towards etcd."""

    enabled: Annotated[bool, Key("etcd.ssl.enabled")] = False
    """Whether to speak TLS to etcd."""
    tls_cert: Annotated[Path | None, Key("etcd.ssl.tlsCert")] = None
    """PEM file of the client certificate; None (blank) = none is presented. Needs `tlsKey`."""
    tls_key: Annotated[Path | None, Key("etcd.ssl.tlsKey")] = None
    """PEM file of the client certificate's private key; None (blank) = none."""
    tls_ca_cert: Annotated[Path | None, Key("etcd.ssl.tlsCACert")] = None
    """PEM file of the authorities that sign etcd's certificate; None (blank) = those of the system."""
    tls_min_version: Annotated[Literal["1.0", "1.1", "1.2", "1.3"], Key("etcd.ssl.tlsMinVersion")] = "1.3"
    """Lowest TLS version that is accepted. etcd speaks 1.3 from 3.4.25 and 3.5.8 on; an older one needs 1.2
    here. (The default is that of Milvus.)
    """

    @model_validator(mode="after")
    def _certificate_has_key(self) -> "EtcdSslSettings":
        if self.enabled and (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("etcd.ssl.tlsCert and etcd.ssl.tlsKey must be set together, only one of them is")
        return self


class EtcdAuthSettings(Section):
    """User and password towards etcd."""

    enabled: Annotated[bool, Key("etcd.auth.enabled")] = False
    """Whether to log in to etcd. (Milvus has this since 2.4; its older versions never log in.)"""
    user_name: Annotated[str, Key("etcd.auth.userName")] = ""
    """User that logs in; must be set when `enabled`."""
    password: Annotated[SecretStr, Key("etcd.auth.password")] = SecretStr("")
    """Password of that user; must be set when `enabled`. Never shown."""

    @model_validator(mode="after")
    def _complete(self) -> "EtcdAuthSettings":
        if self.enabled and not (self.user_name and self.password.get_secret_value()):
            raise ValueError(
                "etcd.auth.enabled is true, but etcd.auth.userName or etcd.auth.password is not set"
            )
        return self


class EtcdSettings(Section):
    """Where etcd is and which part of it belongs to this cluster."""

    endpoints: Annotated[
        tuple[NonEmpty, ...], AfterValidator(_endpoints), Key("etcd.endpoints")
    ] = ("localhost:2379",)  # fmt: skip
    """Client addresses of the etcd members, `host:port`, comma-separated or a YAML list. All members should
    be named: a member that fails is passed over.
    """
    root_path: Annotated[str, AfterValidator(_path_part), Key("etcd.rootPath")] = "by-dev"
    """First part of every key of this cluster. All processes of a cluster must agree on it."""
    meta_sub_path: Annotated[str, AfterValidator(_path_part), Key("etcd.metaSubPath")] = "meta"
    """Below `rootPath`: metadata and sessions."""
    kv_sub_path: Annotated[str, AfterValidator(_path_part), Key("etcd.kvSubPath")] = "kv"
    """Below `rootPath`: saved timestamp and ID windows."""
    request_timeout_ms: Annotated[Milliseconds, Key("etcd.requestTimeout")] = 10_000
    """Longest wait for one etcd request, milliseconds. Milvus' own bound; long enough for a leader change of
    etcd.
    """
    ssl: EtcdSslSettings = EtcdSslSettings()
    """TLS towards etcd."""
    auth: EtcdAuthSettings = EtcdAuthSettings()
    """User and password towards etcd."""
    use_embed: Annotated[bool, Key("etcd.use.embed")] = False
    """Start an etcd server as a child process and use that one; `endpoints` is ignored then. For trying
    coordd out.
    """
    data_dir: Annotated[Path, Key("etcd.data.dir")] = Path("default.etcd")
    """Directory of the embedded etcd's data, relative to the working directory."""

    @property
    def meta_prefix(self) -> str:
        """`<rootPath>/<metaSubPath>`, without a trailing slash; e.g. `by-dev/meta`."""
        return join_path(self.root_path, self.meta_sub_path)

    @property
    def kv_prefix(self) -> str:
        """`<rootPath>/<kvSubPath>`, without a trailing slash; e.g. `by-dev/kv`."""
        return join_path(self.root_path, self.kv_sub_path)

    @property
    def config_prefix(self) -> str:
        """Settings that all processes of the cluster read from etcd lie below it; e.g. `by-dev/config`."""
        return join_path(self.root_path, "config")


class SnapshotSettings(Section):
    """The history of metadata, from which look-ups at a past time are answered (keys of Milvus 2.5)."""

    ttl_s: Annotated[int, Field(ge=0), Key("metastore.snapshot.ttl", live=True)] = 86_400
    """How long a value is kept after a newer one has replaced it, seconds. A change takes effect at once."""
    reserve_time_s: Annotated[int, Field(ge=0), Key("metastore.snapshot.reserveTime", live=True)] = 3600
    """How long what was deleted is remembered, seconds. Nothing younger goes, however small `ttl` is. A
    change takes effect at once.
    """


class MetastoreSettings(Section):
    """Which store holds the metadata."""

    type: Annotated[Literal["etcd"], BeforeValidator(_lower), Key("metastore.type")] = "etcd"
    """Only etcd: coordd does not read the tikv or mysql metadata that Milvus can be set to."""
    snapshot: SnapshotSettings = SnapshotSettings()
    """The history of metadata, from which look-ups at a past time are answered (keys of Milvus 2.5)."""


class SecuritySettings(Section):
    """Users and encryption inside the cluster."""

    authorization_enabled: Annotated[bool, Key("common.security.authorizationEnabled")] = False
    """Whether proxies check users and privileges. Not used by coordinators."""
    default_root_password: Annotated[SecretStr, Key("common.security.defaultRootPassword")] = SecretStr(
        "Milvus"
    )
    """Password that user `root` gets when it is first created (key of Milvus 2.5; fixed to this value
    before). Never shown.
    """
    enable_public_privilege: Annotated[bool, Key("common.security.enablePublicPrivilege")] = True
    """Whether each term gives role `public` those of its default grants that it lacks, though they were
    revoked, as each start of a RootCoord does in Milvus (key of Milvus 2.5; always before).
    """
    tls_mode: Annotated[Literal[0, 1, 2], Key("common.security.tlsMode")] = 0
    """TLS between clients and proxy: 0 off, 1 server only, 2 mutual. Not used by coordinators."""
    internal_tls_enabled: Annotated[bool, Key("common.security.internaltlsEnabled")] = False
    """Whether the processes of the cluster speak TLS with each other (Milvus 2.5)."""


def _channel(name: str) -> Key:
    return Key(f"msgChannel.chanNamePrefix.{name}", fallbacks=(Fallback(f"common.chanNamePrefix.{name}"),))


class PreCreatedTopicSettings(Section):
    """Channels for inserts and deletes that were created beforehand, under names of their own."""

    enabled: Annotated[bool, Key("common.preCreatedTopic.enabled")] = False
    """Whether new collections get the channels in `names`, and not those numbered by RootCoord."""
    names: Annotated[
        tuple[NonEmpty, ...], AfterValidator(_topics), Key("common.preCreatedTopic.names")
    ] = ("topic1", "topic2")  # fmt: skip
    """The topics to use when `enabled`, comma-separated or a YAML list, each once. In Kafka they are looked
    for when a term begins, and no collection is made on one that does not exist. Pulsar does not tell; there
    brokers make what is missing, unless their `allowAutoTopicCreation` is off. (The default is that of
    Milvus, an example.)
    """

    @model_validator(mode="after")
    def _each_once(self) -> "PreCreatedTopicSettings":
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if self.enabled and twice:
            raise ValueError(f"common.preCreatedTopic.names lists {', '.join(twice)} more than once")
        return self


class CommonSettings(Section):
    """What all processes of a cluster have in common."""

    session_ttl_s: Annotated[int, Field(ge=1, le=3600), Key("common.session.ttl")] = 30
    """Lease of a session record, seconds: how long a silent process still counts as alive. etcd grants 2 s
    at least. (Milvus' code default is 60, its shipped file says 30.)
    """
    session_retry_times: Annotated[int, Field(ge=1, le=10_000), Key("common.session.retryTimes")] = 30
    """Without active-standby: how often a process tries again to get a role that another one holds, with a
    back-off of 0.2 s doubling to 3 s, before it ends.
    """
    cluster: Annotated[NonEmpty, _channel("cluster")] = "by-dev"
    """Name of the cluster: first part of every channel name; requests that name another one are refused."""
    root_coord_time_tick: Annotated[NonEmpty, _channel("rootCoordTimeTick")] = "rootcoord-timetick"
    """Second part of the name of RootCoord's time-tick channel."""
    root_coord_statistics: Annotated[NonEmpty, _channel("rootCoordStatistics")] = "rootcoord-statistics"
    """Second part of the name of RootCoord's statistics channel."""
    root_coord_dml: Annotated[NonEmpty, _channel("rootCoordDml")] = "rootcoord-dml"
    """Second part of the names of the channels that carry inserts and deletes."""
    default_partition_name: Annotated[NonEmpty, Key("common.defaultPartitionName")] = "_default"
    """Partition that every collection without a partition key has."""
    tt_msg_enabled: Annotated[bool, Key("common.ttMsgEnabled", live=True)] = True
    """Whether RootCoord sends time ticks. False only in a cluster that replicates another one, whose drops
    and ticks reach the data nodes from there. A change takes effect at once.
    """
    pre_created_topic: PreCreatedTopicSettings = PreCreatedTopicSettings()
    """Channels that somebody else creates."""
    security: SecuritySettings = SecuritySettings()
    """Users and encryption inside the cluster."""


class GrpcSettings(Section):
    """gRPC of all roles, as server and as client of other processes."""

    server_max_recv_size: Annotated[MessageBytes, Key("grpc.serverMaxRecvSize")] = 536_870_912
    """Largest request that a server takes, bytes. The role's own `grpc.serverMaxRecvSize` comes first."""
    server_max_send_size: Annotated[MessageBytes, Key("grpc.serverMaxSendSize")] = 536_870_912
    """Largest answer that a server gives, bytes. The role's own `grpc.serverMaxSendSize` comes first."""
    graceful_stop_timeout_s: Annotated[Seconds, Key("grpc.gracefulStopTimeout", live=True)] = 10.0
    """How long requests in flight may take to end when leadership is passed on or the server stops, seconds;
    then they are cut off. More than 1 counts as 1 (`coordd.daemon.MAX_DRAIN_S`)."""
    client_max_recv_size: Annotated[MessageBytes, Key("grpc.clientMaxRecvSize")] = 268_435_456
    """Largest answer that a client takes, bytes. The role's own `grpc.clientMaxRecvSize` comes first."""
    client_max_send_size: Annotated[MessageBytes, Key("grpc.clientMaxSendSize")] = 268_435_456
    """Largest request that a client sends, bytes. The role's own `grpc.clientMaxSendSize` comes first."""
    client_keep_alive_time_ms: Annotated[Milliseconds, Key("grpc.client.keepAliveTime")] = 10_000
    """How often a client pings an idle connection, milliseconds. Milvus' servers allow one ping per 5 s."""
    client_keep_alive_timeout_ms: Annotated[Milliseconds, Key("grpc.client.keepAliveTimeout")] = 20_000
    """How long a ping may stay unanswered before the connection is given up, milliseconds."""


class LogFileSettings(Section):
    """Log lines in files, besides standard output."""

    root_path: Annotated[Path | None, Key("log.file.rootPath")] = None
    """Directory of the log files; None (blank) = no files."""
    max_size_mb: Annotated[int, Field(ge=1, le=1_048_576), Key("log.file.maxSize")] = 300
    """Size at which a file is rotated, MiB."""
    max_age_days: Annotated[int, Field(ge=0, le=36_500), Key("log.file.maxAge")] = 10
    """How long rotated files are kept, days; 0 = whatever their age. Looked at when a file is rotated."""
    max_backups: Annotated[int, Field(ge=0, le=10_000), Key("log.file.maxBackups")] = 20
    """How many rotated files are kept; 0 = whatever their number."""


class LogSettings(Section):
    """What is logged, how and where to."""

    level: Annotated[LogLevel, BeforeValidator(_level), Key("log.level", live=True)] = "info"
    """Lowest level that is logged: debug, info, warn, error, panic or fatal."""
    format: Annotated[Literal["text", "json"], BeforeValidator(_lower), Key("log.format")] = "text"
    """`text` = Milvus' line format; `json` = one JSON object per line."""
    stdout: Annotated[bool, Key("log.stdout")] = True
    """Whether to log to standard output."""
    file: LogFileSettings = LogFileSettings()
    """Log lines in files."""


class TlsSettings(Section):
    """Certificates of the cluster's own servers. Read, but not used yet: coordinators do not speak TLS so
    far.
    """

    server_pem_path: Annotated[Path | None, Key("tls.serverPemPath")] = Path("configs/cert/server.pem")
    """PEM file of the server certificate. Not used yet."""
    server_key_path: Annotated[Path | None, Key("tls.serverKeyPath")] = Path("configs/cert/server.key")
    """PEM file of the server's private key. Not used yet."""
    ca_pem_path: Annotated[Path | None, Key("tls.caPemPath")] = Path("configs/cert/ca.pem")
    """PEM file of the authorities that sign client certificates. Not used yet."""
