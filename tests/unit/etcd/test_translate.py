import pytest

from coordd.etcd import errors
from coordd.etcd.translate import Failure, Verdict, as_write_failure, translate
from coordd.http2.outcome import CallFailed
from coordd.http2.status import RpcCode

REFUSED, NOT_TAKEN = Verdict.REFUSED, Verdict.NOT_TAKEN
UNKNOWN, BROKEN, REAUTHENTICATE = Verdict.UNKNOWN, Verdict.BROKEN, Verdict.REAUTHENTICATE

CASES = [
    # etcd's messages, with the codes that 3.5.1 or newer versions give them
    ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", REFUSED, errors.Compacted),
    (
        "OUT_OF_RANGE",
        "etcdserver: mvcc: required revision is a future revision",
        REFUSED,
        errors.FutureRevision,
    ),
    ("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded", BROKEN, errors.NoSpace),
    ("NOT_FOUND", "etcdserver: requested lease not found", REFUSED, errors.LeaseLost),
    ("INVALID_ARGUMENT", "etcdserver: too many operations in txn request", REFUSED, errors.TooManyOperations),
    ("INVALID_ARGUMENT", "etcdserver: request is too large", REFUSED, errors.RequestTooLarge),
    ("INVALID_ARGUMENT", "etcdserver: duplicate key given in txn request", REFUSED, errors.InvalidRequest),
    ("INVALID_ARGUMENT", "etcdserver: key is not provided", REFUSED, errors.InvalidRequest),
    (
        "RESOURCE_EXHAUSTED",
        "grpc: received message larger than max (9 vs. 8)",
        REFUSED,
        errors.RequestTooLarge,
    ),
    ("RESOURCE_EXHAUSTED", "etcdserver: too many requests", NOT_TAKEN, errors.TooManyRequests),
    ("UNKNOWN", "etcdserver: too many requests", NOT_TAKEN, errors.TooManyRequests),
    ("UNAVAILABLE", "etcdserver: no leader", NOT_TAKEN, errors.NoLeader),
    ("FAILED_PRECONDITION", "etcdserver: not leader", NOT_TAKEN, errors.NoLeader),
    ("UNKNOWN", "raft proposal dropped", NOT_TAKEN, errors.NoLeader),
    ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner", NOT_TAKEN, errors.Unavailable),
    ("FAILED_PRECONDITION", "etcdserver: not capable", NOT_TAKEN, errors.Unavailable),
    ("PERMISSION_DENIED", "etcdserver: permission denied", REFUSED, errors.PermissionDenied),
    (
        "INVALID_ARGUMENT",
        "etcdserver: authentication failed, invalid user ID or password",
        REFUSED,
        errors.AuthenticationFailed,
    ),
    ("UNAUTHENTICATED", "etcdserver: invalid auth token", REAUTHENTICATE, errors.AuthenticationFailed),
    (
        "INVALID_ARGUMENT",
        "etcdserver: revision of auth store is old",
        REAUTHENTICATE,
        errors.AuthenticationFailed,
    ),
    ("INVALID_ARGUMENT", "etcdserver: user name is empty", REAUTHENTICATE, errors.AuthenticationFailed),
    ("DATA_LOSS", "etcdserver: corrupt cluster", REFUSED, errors.Corrupt),
    # sent, and then? (etcd has answered)
    ("UNAVAILABLE", "etcdserver: request timed out", UNKNOWN, errors.Unavailable),
    (
        "UNAVAILABLE",
        "etcdserver: request timed out, possibly due to previous leader failure",
        UNKNOWN,
        errors.Unavailable,
    ),
    ("UNAVAILABLE", "etcdserver: leader changed", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "etcdserver: server stopped", UNKNOWN, errors.Unavailable),
    ("CANCELLED", "etcdserver: request canceled", UNKNOWN, errors.Unavailable),
    ("UNKNOWN", "something new", BROKEN, errors.EtcdError),
    # no message that is known: the code decides
    ("UNAUTHENTICATED", "who are you", REAUTHENTICATE, errors.AuthenticationFailed),
    ("UNIMPLEMENTED", "unknown service", REFUSED, errors.InvalidRequest),
]

SILENT_CASES = [
    # nothing was heard of etcd; its words would prove nothing
    ("UNAVAILABLE", "the connection was lost", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "etcdserver: too many requests", UNKNOWN, errors.Unavailable),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", UNKNOWN, errors.RequestTimeout),
    ("CANCELLED", "the peer cancelled the call", UNKNOWN, errors.Unavailable),
    ("INTERNAL", "the peer ended the call with HTTP/2 error 0x2", BROKEN, errors.EtcdError),
    # a proxy's status, or an answer that cannot be read: etcd may have done what was asked
    ("UNAUTHENTICATED", "HTTP status 401", BROKEN, errors.EtcdError),
    ("PERMISSION_DENIED", "HTTP status 403", BROKEN, errors.EtcdError),
    ("UNIMPLEMENTED", "grpc-encoding 'zstd' is not supported", BROKEN, errors.EtcdError),
]


def answered(code: str, details: str) -> Failure:
    """What becomes of such an answer of etcd's."""
    failed = CallFailed(RpcCode[code], details, sent=True, from_server=True)
    return translate(failed, request="Txn", endpoint="etcd-0:2379")


def broken(code: str, details: str, *, sent: bool = True) -> Failure:
    """What becomes of a call that ended without an answer."""
    return translate(CallFailed(RpcCode[code], details, sent=sent), request="Txn", endpoint="etcd-0:2379")


@pytest.mark.parametrize(("code", "details", "verdict", "error"), CASES)
def test_what_etcd_has_answered(
    code: str, details: str, verdict: Verdict, error: type[errors.EtcdError]
) -> None:
    failure = answered(code, details)
    assert (failure.verdict, type(failure.error), failure.from_server) == (verdict, error, True)
    assert "etcd-0:2379" in str(failure.error)
    assert is_unknown(failure) == (verdict in {UNKNOWN, BROKEN})


@pytest.mark.parametrize(("code", "details", "verdict", "error"), SILENT_CASES)
def test_what_etcd_has_not_answered(
    code: str, details: str, verdict: Verdict, error: type[errors.EtcdError]
) -> None:
    failure = broken(code, details)
    assert (failure.verdict, type(failure.error), failure.from_server) == (verdict, error, False)
    assert "etcd-0:2379" in str(failure.error)
    assert is_unknown(failure)


@pytest.mark.parametrize(("code", "details"), [(code, details) for code, details, _, _ in SILENT_CASES])
def test_what_was_not_sent_was_not_applied(code: str, details: str) -> None:
    failure = broken(code, details, sent=False)
    error = errors.NotSentInTime if code == "DEADLINE_EXCEEDED" else errors.Unavailable
    assert (failure.verdict, type(failure.error), failure.from_server) == (NOT_TAKEN, error, False)
    assert isinstance(failure.error, errors.Unavailable)
    assert failure.error.retriable
    assert not is_unknown(failure)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL"])
def test_without_words_of_its_own_etcd_was_not_heard(code: str) -> None:
    """A member that hangs lets its gRPC server say so: the connection is to be given up for its silence."""
    assert not answered(code, "context deadline exceeded").from_server
    assert answered(code, "etcdserver: request timed out").from_server


def is_unknown(failure: Failure) -> bool:
    """Whether a write that fails so may have been applied; if not, its error is told as it is."""
    raised = as_write_failure(failure)
    unknown = isinstance(raised, errors.OutcomeUnknown)
    assert unknown or raised is failure.error
    return unknown


def test_messages_lose_the_frames_that_say_nothing() -> None:
    failure = answered("UNKNOWN", "rpc error: code = Unknown desc = etcdserver: mvcc: something new")
    assert failure.error.message == "etcd request Txn to etcd-0:2379 failed: something new [UNKNOWN]"


def test_retriable_is_never_true_where_a_write_may_have_happened() -> None:
    family = [one for one in vars(errors).values() if isinstance(one, type)]
    unknown = [one for one in family if issubclass(one, errors.OutcomeUnknown)]
    assert unknown
    assert not [one for one in unknown if one.retriable]
