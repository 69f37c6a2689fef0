"""Milvus' error codes and how they look on the wire (`common.Status`).

A domain failure is a `MilvusError`: one class per merr code, which knows its text, its legacy `error_code`
and whether Milvus' clients may repeat the call on the same connection (`retriable`). Handlers raise them; the
chain turns them into the `status` of the method's response type. Nothing here decides *when* a call fails.

Text: `base[k=v][k=v]`, with a description `base[k=v]: description`; `wrap("x")` puts `x: ` before it. A
wrapped error is no longer retriable and its `reason` is the innermost wrapper only, `detail` the whole text:
both are what Go's error wrapping does to Milvus' errors, and clients see it.

Source of truth: Milvus 2.3.5 pkg/util/merr/errors.go and utils.go.
"""

from typing import Any, ClassVar, Self, cast

from coordd.errors import CoorddError
from coordd.pb import common_pb2

LEGACY = common_pb2.ErrorCode


class MilvusError(CoorddError):
    """A failure with a Milvus error code; itself the class for errors that carry no code upstream (65535).

    Keyword arguments become `[name=value]` in the order given. `legacy` replaces the code's own `error_code`;
    `plain` gives the older shape that some RBAC methods answer: no `detail`, never retriable.

    Attributes:
        code: `Status.code`.
        legacy_code: `Status.error_code` (enum common.ErrorCode).
        retriable: whether a 2.3 client repeats the call on the same connection.
        text: base text, empty where the description is all there is.
    """

    code: ClassVar[int] = 65535
    legacy_code: ClassVar[int] = LEGACY.UnexpectedError
    retriable: ClassVar[bool] = False
    text: ClassVar[str] = ""

    def __init__(
        self,
        description: str | None = None,
        *,
        legacy: int | None = None,
        plain: bool = False,
        **fields: object,
    ) -> None:
        base = self.text + "".join(f"[{name}={_go_value(value)}]" for name, value in fields.items())
        if description is not None:
            base = f"{base}: {description}" if base else description
        super().__init__(base)
        self.legacy = self.legacy_code if legacy is None else legacy
        self.plain = plain
        self.reason = base
        self.wrapped = False

    def wrap(self, prefix: str) -> Self:
        """Put `prefix: ` before the text, as Go's `errors.Wrap` does; returns the same error."""
        self.message = f"{prefix}: {self.message}"
        if not self.wrapped:
            self.reason = self.message
            self.wrapped = True
        self.args = (self.message,)
        return self

    def to_status(self) -> common_pb2.Status:
        """The wire form."""
        if self.plain:
            return common_pb2.Status(
                code=self.code, reason=self.message, error_code=cast("common_pb2.ErrorCode", self.legacy)
            )
        return common_pb2.Status(
            code=self.code,
            reason=self.reason,
            detail=self.message,
            error_code=cast("common_pb2.ErrorCode", self.legacy),
            retriable=self.retriable and not self.wrapped,
        )


class ServiceNotReady(MilvusError):
    code = 1
    legacy_code = LEGACY.NotReadyServe
    retriable = True
    text = "service not ready"


class ServiceUnavailable(MilvusError):
    code = 2
    retriable = True
    text = "service unavailable"


class ServiceInternal(MilvusError):
    code = 5
    text = "service internal error"


class CrossClusterRouting(MilvusError):
    code = 6
    text = "cross cluster routing"


class ServiceUnimplemented(MilvusError):
    """A method that is not there; a 2.3 client makes the same code of gRPC's UNIMPLEMENTED and never retries.

    Upstream's text, "service unimplemented", is left out: the description says it better.
    """

    code = 10


class TimeTickLongDelay(MilvusError):
    code = 11
    legacy_code = LEGACY.TimeTickLongDelay
    text = "time tick long delay"


class CollectionNotFound(MilvusError):
    code = 100
    legacy_code = LEGACY.CollectionNotExists
    text = "collection not found"


class CollectionNumLimitExceeded(MilvusError):
    code = 102
    text = "exceeded the limit number of collections"


class PartitionNotFound(MilvusError):
    code = 200
    legacy_code = LEGACY.MetaFailed
    text = "partition not found"


class DatabaseNotFound(MilvusError):
    code = 800
    text = "database not found"


class DatabaseNumLimitExceeded(MilvusError):
    code = 801
    text = "exceeded the limit number of database"


class DatabaseInvalidName(MilvusError):
    code = 802
    text = "invalid database name"


class NodeNotFound(MilvusError):
    code = 901
    text = "node not found"


class NodeNotMatch(MilvusError):
    code = 904
    legacy_code = LEGACY.NodeIDNotMatch
    text = "node not match"


class IoKeyNotFound(MilvusError):
    code = 1000
    text = "key not found"


class ParameterInvalid(MilvusError):
    code = 1100
    legacy_code = LEGACY.IllegalArgument
    text = "invalid parameter"


class MetricNotFound(MilvusError):
    code = 1200
    text = "metric not found"


class PrivilegeNotPermitted(MilvusError):
    code = 1401
    text = "privilege not permitted"


class AliasNotFound(MilvusError):
    code = 1600
    text = "alias not found"


class AliasCollectionNameConflict(MilvusError):
    code = 1601
    text = "alias and collection name conflict"


class AliasAlreadyExist(MilvusError):
    code = 1602
    text = "alias already exist"


class RequestTimeout(MilvusError):
    """A deadline inside the server passed; `context deadline exceeded` in Go."""

    code = 10001


def success(reason: str = "") -> common_pb2.Status:
    """The status of an answer without error: everything at its default."""
    return common_pb2.Status(reason=reason)


def is_success(status: common_pb2.Status) -> bool:
    """Both codes are zero, as Milvus' `merr.Ok` asks."""
    return not status.error_code and not status.code


def not_ready(role: str, server_id: int, state_code: int) -> ServiceNotReady:
    """What a guarded method answers unless Healthy: `service not ready[rootcoord=4]: StandBy`."""
    fields: dict[str, Any] = {role: server_id}
    return ServiceNotReady(_STATE_NAMES.get(state_code, str(state_code)), **fields)


def not_implemented(service: str, method: str) -> ServiceUnimplemented:
    """The clear "not yet" of a method that has no handler; a 2.3 client does not repeat the call."""
    return ServiceUnimplemented(f"coordd: {service}.{method} is not implemented yet")


_STATE_NAMES = {value.number: value.name for value in common_pb2.StateCode.DESCRIPTOR.values}


def _go_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_go_value(item) for item in value) + "]"
    return str(value)


def _check_codes_are_unique() -> None:
    codes = [error.code for error in MilvusError.__subclasses__()]
    if len(codes) != len(set(codes)):
        raise AssertionError("two error classes share a merr code")


_check_codes_are_unique()
