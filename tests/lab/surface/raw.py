"""Schemas for which pymilvus 2.3.5 has no words. Used by all drivers that run in its environment."""

from pymilvus import DataType
from pymilvus.grpc_gen import schema_pb2


def with_defaults(name: str, dim: int) -> schema_pb2.CollectionSchema:
    """A key, a field with a default value of each type that can have one, and a vector, which is the last."""
    schema = schema_pb2.CollectionSchema(name=name)
    schema.fields.add(name="pk", data_type=DataType.INT64, is_primary_key=True)
    schema.fields.add(name="b", data_type=DataType.BOOL, default_value={"bool_data": True})
    schema.fields.add(name="i", data_type=DataType.INT32, default_value={"int_data": -7})
    schema.fields.add(name="l", data_type=DataType.INT64, default_value={"long_data": 1 << 40})
    schema.fields.add(name="f", data_type=DataType.FLOAT, default_value={"float_data": 0.5})
    schema.fields.add(name="d", data_type=DataType.DOUBLE, default_value={"double_data": 2.25})
    text = schema.fields.add(name="s", data_type=DataType.VARCHAR, default_value={"string_data": "né"})
    text.type_params.add(key="max_length", value="16")
    vector = schema.fields.add(name="v", data_type=DataType.FLOAT_VECTOR)
    vector.type_params.add(key="dim", value=str(dim))
    return schema
