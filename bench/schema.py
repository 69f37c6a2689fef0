"""The collections that the bench makes or generates: a primary key, a vector and a string."""

from __future__ import annotations

from coordd.pb import common_pb2, schema_pb2


def user_fields() -> list[schema_pb2.FieldSchema]:
    """The fields as a request has them; a rootcoord numbers them from 100."""
    kind = schema_pb2.DataType.Value
    pair = common_pb2.KeyValuePair
    field = schema_pb2.FieldSchema
    return [
        field(fieldID=100, name="pk", is_primary_key=True, data_type=kind("Int64")),
        field(
            fieldID=101,
            name="vector",
            data_type=kind("FloatVector"),
            type_params=[pair(key="dim", value="768")],
        ),
        field(
            fieldID=102,
            name="title",
            data_type=kind("VarChar"),
            type_params=[pair(key="max_length", value="256")],
        ),
    ]


def system_fields() -> list[schema_pb2.FieldSchema]:
    """Those that a rootcoord adds."""
    kind = schema_pb2.DataType.Value
    return [
        schema_pb2.FieldSchema(fieldID=0, name="RowID", description="row id", data_type=kind("Int64")),
        schema_pb2.FieldSchema(
            fieldID=1, name="Timestamp", description="time stamp", data_type=kind("Int64")
        ),
    ]
