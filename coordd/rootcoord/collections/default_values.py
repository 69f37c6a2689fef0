"""Whether a field's default value fits its type.

Not Milvus': a default value of a kind that no field can have (bytes, or none at all) is refused; Milvus'
RootCoord panics.

Source of truth: Milvus 2.3.5 internal/rootcoord/create_collection_task.go, pkg/util/parameterutil.go; texts
recorded from a running 2.3.5.
"""

import re
from typing import Final

from coordd.pb.schema_pb2 import DataType, FieldSchema
from coordd.rootcoord.errors import ParameterOutOfRange
from coordd.rpc.status import ParameterInvalid

MISMATCH: Final = "default value type mismatches field schema type"
MAX_LENGTH: Final = "max_length"

_KINDS: Final = {
    "bool_data": ("DataType_Bool", {DataType.Bool}),
    "int_data": ("DataType_Int", {DataType.Int8, DataType.Int16, DataType.Int32}),
    "long_data": ("DataType_Int64", {DataType.Int64}),
    "float_data": ("DataType_Float", {DataType.Float}),
    "double_data": ("DataType_Double", {DataType.Double}),
    "string_data": ("DataType_VarChar", {DataType.VarChar}),
}
"""By member of the value: what Milvus' refusal calls the type, and the types that take it."""

_RANGES: Final = {DataType.Int8: (-(1 << 7), (1 << 7) - 1), DataType.Int16: (-(1 << 15), (1 << 15) - 1)}
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MAX_INT64: Final = (1 << 63) - 1


def check_default_value(field: FieldSchema) -> None:
    """Raises:
    MilvusError: the field has a default value, and it does not fit.
    """
    if not field.HasField("default_value"):
        return
    kind = field.default_value.WhichOneof("data")
    if kind not in _KINDS:
        raise ParameterInvalid(expected="a value that a field can have", actual=kind or "nothing").wrap(
            MISMATCH
        )
    expected, types = _KINDS[kind]
    if field.data_type not in types:
        raise ParameterInvalid(expected=expected, actual="not match").wrap(MISMATCH)
    if kind == "int_data" and field.data_type in _RANGES:
        lower, upper = _RANGES[field.data_type]
        value = field.default_value.int_data
        if not lower <= value <= upper:
            raise ParameterOutOfRange(value, lower, upper).wrap("default value out of range")
    if kind == "string_data":
        _check_length(field)


def _check_length(field: FieldSchema) -> None:
    """The length counts in bytes."""
    limit = _max_length(field)
    length = len(field.default_value.string_data.encode())
    if length > limit:
        error = ParameterInvalid(expected="valid length string", actual="string length exceeds max length")
        raise error.wrap(f"the length ({length}) of string exceeds max length ({limit})")


def _max_length(field: FieldSchema) -> int:
    params = {pair.key: pair.value for pair in (*field.index_params, *field.type_params)}
    text = params.get(MAX_LENGTH)
    if text is None:
        error = ParameterInvalid(expected="max length key in type parameters", actual="not found")
        raise error.wrap("max length not found")
    number = int(text) if _INTEGER.fullmatch(text) else _MAX_INT64 + 1
    if not -_MAX_INT64 - 1 <= number <= _MAX_INT64:
        error = ParameterInvalid(expected="value of max length should be of int", actual=text)
        raise error.wrap(f"invalid max length: {text}")
    return number
