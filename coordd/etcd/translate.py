"""From failed calls, that is gRPC's status codes and etcd's messages, to typed errors, in one place. Pure.

The question that matters for a write is whether it can have been applied. etcd gives one status code to
very different cases (UNAVAILABLE is both "refused before anything happened" and "sent, then lost"), and
3.5.1 gives some messages the code UNKNOWN, so known messages are looked at first, then the code. What etcd
has not said itself is judged by whether it can have seen the request at all (`CallFailed.sent`).

Source of truth: etcd api/v3rpc/rpctypes/error.go and server/etcdserver/api/v3rpc/util.go (messages and
codes), server/etcdserver/v3_server.go (what happens before and after a proposal), server/etcdserver/apply
(what a proposal can still be refused for, and that the quota's applier refuses after it has applied).
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from coordd.etcd import errors
from coordd.etcd.errors import EtcdError
from coordd.http2.outcome import CallFailed
from coordd.http2.status import RpcCode


class Verdict(Enum):
    """What a failed call means for the next step."""

    REFUSED = auto()
    """Not applied; the same request would be refused again."""
    NOT_TAKEN = auto()
    """Not applied; may be sent again, preferably to another endpoint."""
    REAUTHENTICATE = auto()
    """Not applied; the token is missing, outdated or unknown to this member."""
    UNKNOWN = auto()
    """May have been applied, or may yet be. Only what writes nothing may be sent again."""
    BROKEN = auto()
    """May have been applied, and sending it again is unlikely to help."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call: what it means and the error to raise if nothing more is done about it.

    `from_server`: etcd itself has answered, so the connection works.
    """

    verdict: Verdict
    error: EtcdError
    from_server: bool


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    verdict: Verdict
    error: type[EtcdError]
    hint: str | None = None


_CHECK_AUTH = "check etcd.auth.enabled, etcd.auth.userName and etcd.auth.password"
_GRANT = "grant the role of etcd.auth.userName these keys"
_LEARNER = "name a voting member in etcd.endpoints; a learner serves no clients"
_NO_QUORUM = "an election is under way or etcd has lost its quorum: see its log"
_ROWS = (
    _Row("required revision has been compacted", Verdict.REFUSED, errors.Compacted),
    _Row("required revision is a future revision", Verdict.REFUSED, errors.FutureRevision),
    _Row(
        "database space exceeded",
        Verdict.BROKEN,
        errors.NoSpace,
        "compact and defragment etcd, then `etcdctl alarm disarm`; or raise --quota-backend-bytes",
    ),
    _Row("requested lease not found", Verdict.REFUSED, errors.LeaseLost),
    _Row("too many operations in txn request", Verdict.REFUSED, errors.TooManyOperations),
    _Row("request is too large", Verdict.REFUSED, errors.RequestTooLarge, "raise etcd's --max-request-bytes"),
    _Row("grpc: received message larger than max", Verdict.REFUSED, errors.RequestTooLarge),
    _Row("too many requests", Verdict.NOT_TAKEN, errors.TooManyRequests),
    _Row("etcdserver: no leader", Verdict.NOT_TAKEN, errors.NoLeader, _NO_QUORUM),
    _Row("etcdserver: not leader", Verdict.NOT_TAKEN, errors.NoLeader),
    _Row("raft proposal dropped", Verdict.NOT_TAKEN, errors.NoLeader),
    _Row("rpc not supported for learner", Verdict.NOT_TAKEN, errors.Unavailable, _LEARNER),
    _Row("etcdserver: not capable", Verdict.NOT_TAKEN, errors.Unavailable),
    _Row("permission denied", Verdict.REFUSED, errors.PermissionDenied, _GRANT),
    _Row("invalid user ID or password", Verdict.REFUSED, errors.AuthenticationFailed, _CHECK_AUTH),
    _Row("user name not found", Verdict.REFUSED, errors.AuthenticationFailed, _CHECK_AUTH),
    _Row("invalid auth token", Verdict.REAUTHENTICATE, errors.AuthenticationFailed, _CHECK_AUTH),
    _Row("revision of auth store is old", Verdict.REAUTHENTICATE, errors.AuthenticationFailed),
    _Row("user name is empty", Verdict.REAUTHENTICATE, errors.AuthenticationFailed, _CHECK_AUTH),
    _Row("corrupt cluster", Verdict.REFUSED, errors.Corrupt, "restore the differing etcd member"),
)  # fmt: skip
_BY_CODE = {
    RpcCode.INVALID_ARGUMENT: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.FAILED_PRECONDITION: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.ALREADY_EXISTS: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.UNIMPLEMENTED: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.NOT_FOUND: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.OUT_OF_RANGE: (Verdict.REFUSED, errors.InvalidRequest),
    RpcCode.PERMISSION_DENIED: (Verdict.REFUSED, errors.PermissionDenied),
    RpcCode.UNAUTHENTICATED: (Verdict.REAUTHENTICATE, errors.AuthenticationFailed),
    RpcCode.UNAVAILABLE: (Verdict.UNKNOWN, errors.Unavailable),
    RpcCode.DEADLINE_EXCEEDED: (Verdict.UNKNOWN, errors.RequestTimeout),
    RpcCode.CANCELLED: (Verdict.UNKNOWN, errors.Unavailable),
}
_ETCD_ALONE = {Verdict.REFUSED, Verdict.REAUTHENTICATE}
"""Verdicts by which nothing was applied: only etcd can know."""
_TRANSPORT_CODES = {RpcCode.UNAVAILABLE, RpcCode.DEADLINE_EXCEEDED, RpcCode.CANCELLED, RpcCode.INTERNAL}
"""Said without words of etcd's own, these prove nothing of the member: proxies and Go's gRPC say so too."""
# Go's and etcd's frames around the sentence that says what happened.
_NOISE = re.compile(r"^(rpc error: code = \w+ desc = )?(etcdserver: )?(mvcc: )?")


def translate(failed: CallFailed, *, request: str, endpoint: str) -> Failure:
    """What a failed call means."""
    details = failed.message
    if not failed.sent:
        text = f"etcd request {request} to {endpoint} was not sent: {details}"
        why = errors.NotSentInTime if failed.code == RpcCode.DEADLINE_EXCEEDED else errors.Unavailable
        return Failure(Verdict.NOT_TAKEN, why(text), from_server=False)
    code = RpcCode(failed.code)
    message = f"etcd request {request} to {endpoint} failed: {plain(details) or code.name}"
    if failed.from_server:
        for row in _ROWS:
            if row.text in details:
                return Failure(row.verdict, row.error(message, hint=row.hint), from_server=True)
    verdict, error = _BY_CODE.get(code, (Verdict.BROKEN, EtcdError))
    if not failed.from_server and verdict in _ETCD_ALONE:  # a proxy's word, or an answer that cannot be read
        verdict, error = Verdict.BROKEN, EtcdError
    heard = failed.from_server and (code not in _TRANSPORT_CODES or "etcdserver" in details)
    return Failure(verdict, error(f"{message} [{code.name}]"), heard)


def as_write_failure(failure: Failure) -> EtcdError:
    """The error of a write that failed: `OutcomeUnknown` whenever it may have been applied."""
    error = failure.error
    if failure.verdict in {Verdict.UNKNOWN, Verdict.BROKEN} and not isinstance(error, errors.OutcomeUnknown):
        return errors.OutcomeUnknown(f"{error.message}; whether it was applied is unknown", hint=error.hint)
    return error


def plain(details: str) -> str:
    """A message of etcd's without the frames that say nothing."""
    return _NOISE.sub("", details).strip()
