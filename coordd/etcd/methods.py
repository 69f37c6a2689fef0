"""The methods of etcd that are used here: how each is called on the wire, and what it answers with.

Source of truth: etcd api/etcdserverpb/rpc.proto.
"""

from dataclasses import dataclass
from typing import Any

from coordd.etcd.messages import rpc


@dataclass(frozen=True, slots=True)
class Method:
    """`name` is etcd's, for errors and figures; `answer` the class of one answer."""

    name: str
    path: str
    answer: Any


def _method(service: str, name: str, answer: Any) -> Method:
    return Method(name, f"/etcdserverpb.{service}/{name}", answer)


RANGE = _method("KV", "Range", rpc.RangeResponse)
PUT = _method("KV", "Put", rpc.PutResponse)
DELETE_RANGE = _method("KV", "DeleteRange", rpc.DeleteRangeResponse)
TXN = _method("KV", "Txn", rpc.TxnResponse)
LEASE_GRANT = _method("Lease", "LeaseGrant", rpc.LeaseGrantResponse)
LEASE_REVOKE = _method("Lease", "LeaseRevoke", rpc.LeaseRevokeResponse)
LEASE_TIME_TO_LIVE = _method("Lease", "LeaseTimeToLive", rpc.LeaseTimeToLiveResponse)
LEASE_KEEP_ALIVE = _method("Lease", "LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
"""A bidirectional stream, as the next."""
WATCH = _method("Watch", "Watch", rpc.WatchResponse)
AUTHENTICATE = _method("Auth", "Authenticate", rpc.AuthenticateResponse)
STATUS = _method("Maintenance", "Status", rpc.StatusResponse)
