"""The errors of the etcd client: one class per thing a caller may want to tell apart.

`retriable` on the class says whether the same call, made again later, can succeed and is safe: nothing was
written. `OutcomeUnknown` and what derives from it is the only family raised when a write *may* have been
applied; every other error of a transaction means that it was not.
"""

from coordd.errors import CoorddError


class EtcdError(CoorddError):
    """etcd, or the way to it, failed; not one of the causes below."""

    retriable: bool = False


class Unavailable(EtcdError):
    """No endpoint could take the request until its deadline. Nothing was written."""

    retriable = True


class NoLeader(Unavailable):
    """The members that answer see no leader: an election is under way, or the quorum is lost."""


class TooManyRequests(Unavailable):
    """etcd refuses new proposals because it has too many in its queue."""


class RequestTimeout(EtcdError):
    """The request was not answered in time. Only raised for requests that write nothing, but for
    `NotSentInTime`."""

    retriable = True


class NotSentInTime(Unavailable, RequestTimeout):
    """The time was up before the connection had taken the request: etcd takes no more requests at once, or
    does not read. Nothing was written, and nothing is known against the connection."""


class OutcomeUnknown(EtcdError):
    """A write was sent and not answered: it may or may not have been applied, or may yet be.

    Never repeat it blindly: read back what it would have written (under the fence) first.
    """


class NoSpace(OutcomeUnknown):
    """etcd's database quota is used up. Reads and deletes go on working; puts do not.

    etcd applies the one put that crosses the quota and answers with this error all the same, so the outcome
    is unknown here too.
    """


class Compacted(EtcdError):
    """The revision asked for has been compacted away; start again from a range read.

    `compact_revision` is the oldest revision still there, 0 if etcd did not say.
    """

    def __init__(self, message: str, *, compact_revision: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.compact_revision = compact_revision


class FutureRevision(EtcdError):
    """The revision asked for does not exist yet (or etcd was restored from an older backup)."""


class LeaseLost(EtcdError):
    """The lease has ended or was revoked, and with it all its keys. Nothing was written."""


class PermissionDenied(EtcdError):
    """The user is known but may not do this to these keys."""


class AuthenticationFailed(EtcdError):
    """User or password are wrong, or etcd wants one and none is configured."""


class WatchCancelled(EtcdError):
    """etcd ended the watch for a reason other than compaction or permission; `reason` is etcd's text."""

    def __init__(self, message: str, *, reason: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class InvalidRequest(EtcdError):
    """etcd refuses the request as malformed, for instance one key put twice in one transaction."""


class TooManyOperations(InvalidRequest):
    """A transaction has more operations than etcd takes (`MAX_TXN_OPS`)."""


class RequestTooLarge(InvalidRequest):
    """A request is larger than etcd takes (`MAX_REQUEST_BYTES`)."""


class Corrupt(EtcdError):
    """etcd has found its members' data to differ and refuses to serve."""


class TlsError(EtcdError):
    """The TLS set-up is unusable: a file cannot be read, or the two sides do not trust each other."""


class TlsVersionTooLow(TlsError):
    """An endpoint cannot speak `etcd.ssl.tlsMinVersion`."""


class EndpointInvalid(EtcdError):
    """`etcd.endpoints` is empty or holds something that is no host:port."""


class EmbeddedEtcdError(EtcdError):
    """The embedded etcd could not be started, or ended by itself."""


class EtcdBinaryNotFound(EmbeddedEtcdError):
    """There is no etcd server binary on this machine."""
