"""Which handler answers which method, built from service descriptors.

A handler object offers methods in snake_case (`DescribeCollection` → `describe_collection`): `def` if it is
answered from memory or `async def`. A method of the service without a handler is in the table too and
answers "not implemented yet"; a method of no service is not in the table: UNIMPLEMENTED at gRPC level.
"""

import inspect
import keyword
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from coordd.errors import CoorddError
from coordd.pb import common_pb2
from coordd.rpc.call import Call
from coordd.rpc.stats import MethodStats
from coordd.rpc.status import MilvusError, not_implemented

# The request's type is the handler's own business; `Any` because parameters are contravariant.
Handler = Callable[[Any, Call], Message | Awaitable[Message]]

_STATUS = common_pb2.Status.DESCRIPTOR.full_name
_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])(?!(?<=I)Ds)")


class Policy(Enum):
    """When a method is answered."""

    ALWAYS = "always"  # in any state, whoever leads
    HEALTHY_OR_STANDBY = (
        "healthy or standby"  # tells only of this process, so the serve guard does not matter
    )
    GUARDED = "guarded"  # only while serving


# What Milvus' coordinators answer before they are Healthy (rootcoord/root_coord.go, datacoord/services.go).
DEFAULT_POLICIES: Mapping[str, Policy] = {
    "GetComponentStates": Policy.ALWAYS,
    "GetTimeTickChannel": Policy.ALWAYS,
    "GetStatisticsChannel": Policy.ALWAYS,
    "ShowSegments": Policy.ALWAYS,
    "GetMetrics": Policy.HEALTHY_OR_STANDBY,
}


class UnknownHandler(CoorddError):
    """A handler object lacks what the table was told to expect of it; a programming error found at start."""


@dataclass(slots=True, eq=False)
class Method:
    """One RPC method.

    Attributes:
        path: `/milvus.proto.rootcoord.RootCoord/DescribeCollection`.
        service: last part of the service's name, `RootCoord`.
        name: `DescribeCollection`.
        is_async: the handler is `async def`.
        implemented: False when the handler only says "not yet". Such a method is guarded like any other:
            after a take-over by a Milvus coordinator the caller shall find that one.
        status_field: name of the response's `common.Status`; None when it has none, or is one itself.
        guarded: the policy is GUARDED; apart because every call asks.
    """

    path: str
    service: str
    name: str
    request_type: type[Message]
    response_type: type[Message]
    handler: Handler
    is_async: bool
    policy: Policy
    implemented: bool
    status_field: str | None
    guarded: bool
    stats: MethodStats = field(default_factory=MethodStats)

    def error_response(self, status: common_pb2.Status) -> Message | None:
        """A response that carries nothing but `status`; None if the response type has no room for one."""
        if self.response_type is common_pb2.Status:
            return status
        if self.status_field is None:
            return None
        response = self.response_type()
        getattr(response, self.status_field).CopyFrom(status)
        return response

    def status_code(self, response: Any) -> int:
        """The merr code of an answer, 0 for success; a status with only a legacy code counts as 65535."""
        if self.status_field is not None:
            if not response.HasField(self.status_field):
                return 0
            status = getattr(response, self.status_field)
        elif self.response_type is common_pb2.Status:
            status = response
        else:
            return 0
        code: int = status.code
        return code if code or not status.error_code else MilvusError.code


def snake_case(name: str) -> str:
    """`DescribeCollectionInternal` → `describe_collection_internal`, `AllocID` → `alloc_id`.

    A plural keeps together: `ShowCollectionIDs` → `show_collection_ids`. What Python keeps for itself gets an
    underscore: `Import` → `import_`.
    """
    snake = _WORD_START.sub("_", name).lower()
    return f"{snake}_" if keyword.iskeyword(snake) else snake


class DispatchTable:
    """Full path → `Method`. Built once at start, then only read."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}

    def add_service(
        self,
        service: ServiceDescriptor,
        handlers: object,
        *,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        """Add all unary methods of `service`; `policies` goes before `DEFAULT_POLICIES`.

        Raises:
            UnknownHandler: the service is already there, or a policy names no method of it.
        """
        chosen = {**DEFAULT_POLICIES, **(policies or {})}
        unknown = set(policies or ()) - {method.name for method in service.methods}
        if unknown:
            raise UnknownHandler(f"{service.full_name} has no method {', '.join(sorted(unknown))}")
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                continue
            path = f"/{service.full_name}/{method.name}"
            if path in self._methods:
                raise UnknownHandler(f"{path} is already served")
            self._methods[path] = _method(path, method, handlers, chosen.get(method.name, Policy.GUARDED))

    def get(self, path: str) -> Method | None:
        """The method at `path`, None if there is none."""
        return self._methods.get(path)

    def __iter__(self) -> Iterator[Method]:
        return iter(self._methods.values())

    def __len__(self) -> int:
        return len(self._methods)


def _method(path: str, method: MethodDescriptor, handlers: object, policy: Policy) -> Method:
    service = method.containing_service.name
    handler: Handler | None = getattr(handlers, snake_case(method.name), None)
    if handler is None:
        policy = Policy.GUARDED
    return Method(
        path=path,
        service=service,
        name=method.name,
        request_type=message_factory.GetMessageClass(method.input_type),
        response_type=message_factory.GetMessageClass(method.output_type),
        handler=handler or _not_yet(service, method.name),
        is_async=inspect.iscoroutinefunction(handler),
        policy=policy,
        implemented=handler is not None,
        status_field=_status_field(method.output_type),
        guarded=policy is Policy.GUARDED,
    )


def _status_field(response: Descriptor) -> str | None:
    for candidate in response.fields:
        kind = candidate.message_type
        if kind is not None and kind.full_name == _STATUS and not candidate.is_repeated:
            return candidate.name
    return None


def _not_yet(service: str, name: str) -> Handler:
    def handler(_request: Message, _call: Call) -> Message:
        raise not_implemented(service, name)

    return handler
