"""Which etcd failures waiting cannot mend."""

from coordd.etcd.errors import (
    AuthenticationFailed,
    EndpointInvalid,
    EtcdError,
    InvalidRequest,
    PermissionDenied,
    TlsError,
)

_PERMANENT = (AuthenticationFailed, EndpointInvalid, InvalidRequest, PermissionDenied, TlsError)


def is_permanent(error: EtcdError) -> bool:
    """True when a person has to change something: credentials, permissions, certificates, addresses.

    Everything else passes: etcd comes back, a leader is elected, an unknown outcome is read back.
    """
    return isinstance(error, _PERMANENT)
