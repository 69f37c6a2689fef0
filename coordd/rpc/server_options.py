"""What a gRPC server takes and how it keeps connections.

Source of the numbers: Milvus 2.3.5 internal/distributed/rootcoord/service.go (keep-alive policy) and
pkg/util/paramtable/grpc_param.go (sizes).
"""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The options of the server of one role.

    Attributes:
        max_receive_bytes: largest request.
        max_send_bytes: largest answer.
        max_concurrent_rpcs: calls under way at once, held ones included; None = no limit.
        min_ping_interval_ms: a client that pings more often (twice over) is told GOAWAY. Milvus' clients ping
            idle connections every 10 s; gRPC's own default of 5 minutes would cut them off.
        keepalive_time_ms: the server pings a connection that was silent for so long.
        keepalive_timeout_ms: and drops it when the answer takes longer than this.
        credentials: TLS, as `coordd.rpc.tls.server_credentials` makes it; None = plain text.
    """

    max_receive_bytes: int = 512 << 20
    max_send_bytes: int = 512 << 20
    max_concurrent_rpcs: int | None = None
    min_ping_interval_ms: int = 5_000
    keepalive_time_ms: int = 60_000
    keepalive_timeout_ms: int = 10_000
    credentials: ssl.SSLContext | None = None
