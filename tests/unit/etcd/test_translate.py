import pytest

from coordd.etcd import errors
from coordd.etcd.translate import Verdict, as_write_failure, translate

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
    # sent, and then?
    ("UNAVAILABLE", "etcdserver: request timed out", UNKNOWN, errors.Unavailable),
    (
        "UNAVAILABLE",
        "etcdserver: request timed out, possibly due to previous leader failure",
        UNKNOWN,
        errors.Unavailable,
    ),
    ("UNAVAILABLE", "etcdserver: leader changed", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "etcdserver: server stopped", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "Socket closed", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "keepalive watchdog timeout", UNKNOWN, errors.Unavailable),
    ("UNAVAILABLE", "recvmsg:Connection reset by peer", UNKNOWN, errors.Unavailable),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", UNKNOWN, errors.RequestTimeout),
    ("CANCELLED", "etcdserver: request canceled", UNKNOWN, errors.Unavailable),
    ("INTERNAL", "Received RST_STREAM with error code 2", BROKEN, errors.EtcdError),
    ("UNKNOWN", "something new", BROKEN, errors.EtcdError),
    # never sent
    (
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:1: Connection refused",
        NOT_TAKEN,
        errors.Unavailable,
    ),
    (
        "UNAVAILABLE",
        "DNS resolution failed for etcd:2379: Domain name not found",
        NOT_TAKEN,
        errors.Unavailable,
    ),
    # no message that is known: the code decides
    ("UNAUTHENTICATED", "who are you", REAUTHENTICATE, errors.AuthenticationFailed),
    ("UNIMPLEMENTED", "unknown service", REFUSED, errors.InvalidRequest),
]


@pytest.mark.parametrize(("code", "details", "verdict", "error"), CASES)
def test_verdict_and_class(code: str, details: str, verdict: Verdict, error: type[errors.EtcdError]) -> None:
    failure = translate(code, details, request="Txn", endpoint="etcd-0:2379")
    assert (failure.verdict, type(failure.error)) == (verdict, error)
    assert "etcd-0:2379" in str(failure.error)


@pytest.mark.parametrize(("code", "details", "verdict", "error"), CASES)
def test_a_write_is_unknown_exactly_when_it_may_have_been_applied(
    code: str, details: str, verdict: Verdict, error: type[errors.EtcdError]
) -> None:
    raised = as_write_failure(translate(code, details, request="Txn", endpoint="e:1"))
    assert isinstance(raised, errors.OutcomeUnknown) == (verdict in {UNKNOWN, BROKEN})
    if verdict not in {UNKNOWN, BROKEN}:
        assert type(raised) is error


def test_messages_lose_the_frames_that_say_nothing() -> None:
    refused = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
    failure = translate("UNAVAILABLE", refused, request="Range", endpoint="e:1")
    assert failure.error.message == "etcd request Range to e:1 failed: Connection refused"


@pytest.mark.parametrize(
    ("code", "details", "from_server"),
    [
        ("UNAVAILABLE", "etcdserver: no leader", True),
        ("INVALID_ARGUMENT", "anything", True),
        ("UNAVAILABLE", "Socket closed", False),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", False),
    ],
)
def test_whether_the_server_has_spoken(code: str, details: str, from_server: bool) -> None:
    assert translate(code, details, request="Range", endpoint="e:1").from_server is from_server


def test_retriable_is_never_true_where_a_write_may_have_happened() -> None:
    family = [one for one in vars(errors).values() if isinstance(one, type)]
    unknown = [one for one in family if issubclass(one, errors.OutcomeUnknown)]
    assert unknown
    assert not [one for one in unknown if one.retriable]
