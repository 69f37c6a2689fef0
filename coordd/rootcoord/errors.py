"""RootCoord's refusals, in Milvus' words.

Source of truth: Milvus 2.3.5 pkg/util/merr and internal/rootcoord, where errors without a code are plain ones
(65535 on the wire); the texts were recorded from a running 2.3.5.
"""

from coordd.pb import common_pb2
from coordd.rootcoord.oracle import TermOverError
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import CollectionNotFound, DatabaseNotFound, MilvusError, ParameterInvalid


class ParameterMissing(MilvusError):
    """A request lacks a field that the method cannot do without."""

    code = 1101
    text = "missing parameter"


class ParameterOutOfRange(ParameterInvalid):
    """A parameter that is a number is too small or too large: `[9 out of range 1 <= value <= 4]`."""

    def __init__(self, value: int, lower: int, upper: int) -> None:
        super().__init__()
        self.message = self.reason = f"{self.text}[{value} out of range {lower} <= value <= {upper}]"
        self.args = (self.message,)


def check_msg_type(base: common_pb2.MsgBase, expected: common_pb2.MsgType) -> None:
    """What Milvus' tasks check first; a request without `base`, which ends Milvus' process, is "Undefined".

    Raises:
        MilvusError: another type.
    """
    if base.msg_type != expected:
        raise MilvusError(
            f"invalid msg type, expect {msg_type_name(expected)}, but got {msg_type_name(base.msg_type)}"
        )


def msg_type_name(number: int) -> str:
    """The name of a message type as Go prints it; the number of an unknown one."""
    value = common_pb2.MsgType.DESCRIPTOR.values_by_number.get(number)
    return str(number) if value is None else value.name


def no_collection_with_id(collection_id: int) -> CollectionNotFound:
    """Looked up by ID, or by a name whose collection is not available."""
    return CollectionNotFound(collection=collection_id)


def no_collection_with_name(db_name: str, name: str) -> CollectionNotFound:
    """Looked up by name; `db_name` is never empty."""
    return CollectionNotFound(database=db_name, collection=name)


def no_database(name: str) -> DatabaseNotFound:
    """Lists and aliases of an unknown database."""
    return DatabaseNotFound(database=name)


def no_database_then(name: str) -> MilvusError:
    """A look-up at a past time in an unknown database: an error without a code."""
    return MilvusError(f"database:{name} not found")


def elsewhere(error: TermOverError) -> RpcFailure:
    """A status would keep the caller on this connection, so the end of the term is a gRPC error."""
    return RpcFailure(RpcCode.UNAVAILABLE, str(error))
