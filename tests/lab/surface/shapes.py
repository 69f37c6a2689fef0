"""Collections of all shapes, and how they are made and described.

Float16Vector, which 2.3.5 has, is none of pymilvus 2.3.5's types: tests/lab/pymilvus_driver.py has one.
"""

from typing import Any

from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, utility
from pymilvus.client.utils import check_status
from pymilvus.grpc_gen import milvus_pb2
from raw import with_defaults
from steps import TIMEOUT_S, USING, WITHIN, handler

DIM = 8
BINARY_DIM = 64
ARRAYS = ("BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "VARCHAR")


def pk(name: str = "pk", **more: Any) -> FieldSchema:
    """An INT64 primary key."""
    return FieldSchema(name, DataType.INT64, is_primary=True, **more)


def vector(name: str = "vec", dim: int = DIM) -> FieldSchema:
    """A float vector."""
    return FieldSchema(name, DataType.FLOAT_VECTOR, dim=dim)


def every_type() -> list[FieldSchema]:
    """A field of every scalar type, of every type of array, and a vector."""
    plain_types = ("BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "JSON")
    scalars = [FieldSchema(f"f_{name.lower()}", DataType[name]) for name in plain_types]
    text = FieldSchema("f_varchar", DataType.VARCHAR, max_length=64, description="a text")
    arrays = [
        FieldSchema(
            f"a_{name.lower()}",
            DataType.ARRAY,
            element_type=DataType[name],
            max_capacity=4,
            **({"max_length": 16} if name == "VARCHAR" else {}),
        )
        for name in ARRAYS
    ]
    return [pk(description="the key"), *scalars, text, *arrays, vector()]


def row(number: int) -> dict[str, Any]:
    """The row of this primary key in a collection of `every_type`."""
    few = [number % 5, 7]
    return {
        "pk": number,
        "f_bool": number % 2 == 0,
        "f_int8": number % 100,
        "f_int16": number * 10,
        "f_int32": number * 1000,
        "f_int64": number << 33,
        "f_float": number / 4,
        "f_double": number / 8,
        "f_json": {"n": number, "tags": ["a", f"t{number % 3}"], "deep": {"x": None}},
        "f_varchar": f"row {number} é",
        "a_bool": [number % 2 == 0],
        **{f"a_int{bits}": few for bits in (8, 16, 32, 64)},
        "a_float": [number / 2],
        "a_double": [],
        "a_varchar": [f"v{number}", "all"],
        "vec": place(number),
    }


def place(number: int) -> list[float]:
    """The vector of a row: the next rows' are the nearest, by squared distances of 8, 32, ..."""
    return [float(number + axis) for axis in range(DIM)]


def bits(number: int) -> bytes:
    """A binary vector with `number` bits set, at most 64."""
    return ((1 << number) - 1).to_bytes(BINARY_DIM // 8, "big")


def create(
    name: str, fields: list[FieldSchema], *, schema: dict[str, Any] | None = None, **more: Any
) -> None:
    """CreateCollection without what `Collection` looks up before."""
    wanted = CollectionSchema(fields, **(schema or {}))
    handler().create_collection(name, wanted, timeout=TIMEOUT_S, **more)


def create_with_defaults(name: str) -> None:
    """A collection whose fields have default values, for which pymilvus 2.3.5 has no words."""
    schema = with_defaults(name, dim=2)
    request = milvus_pb2.CreateCollectionRequest(collection_name=name, schema=schema.SerializeToString())
    check_status(handler()._stub.CreateCollection(request, timeout=TIMEOUT_S))


def defaults_of(name: str) -> dict[str, str]:
    """The default values of a collection's fields, which pymilvus 2.3.5 does not show."""
    request = milvus_pb2.DescribeCollectionRequest(collection_name=name)
    answer = handler()._stub.DescribeCollection(request, timeout=TIMEOUT_S)
    check_status(answer.status)
    fields = (field for field in answer.schema.fields if field.HasField("default_value"))
    return {field.name: str(field.default_value).strip() for field in fields}


def described(name: str) -> dict[str, Any]:
    """A collection, by name or alias, with its partitions; what has no order is sorted."""
    found = handler().describe_collection(name, timeout=TIMEOUT_S)
    found["aliases"] = sorted(found["aliases"])
    found["properties"] = dict(sorted((str(key), str(value)) for key, value in found["properties"].items()))
    found["partitions"] = sorted(handler().list_partitions(name, timeout=TIMEOUT_S))
    return found


def fields_of(name: str) -> list[list[str]]:
    """Name, type and parameters of each field."""
    fields = handler().describe_collection(name, timeout=TIMEOUT_S)["fields"]
    return [[f["name"], DataType(f["type"]).name, _params(f)] for f in fields]


def _params(field: dict[str, Any]) -> str:
    params = {str(key): str(value) for key, value in field["params"].items()}
    if field["type"] == DataType.ARRAY:
        params["of"] = DataType(field["element_type"]).name
    marks = [mark for mark in ("is_primary", "auto_id", "is_partition_key", "is_dynamic") if field.get(mark)]
    return " ".join([*marks, *(f"{key}={value}" for key, value in sorted(params.items()))])


def properties_of(name: str) -> dict[str, str]:
    """The properties of a collection."""
    found: dict[str, str] = described(name)["properties"]
    return found


def aliases_of(name: str) -> list[str]:
    """The aliases of a collection."""
    found: list[str] = described(name)["aliases"]
    return found


def collection(name: str) -> Collection:
    """pymilvus' object of a collection that is there."""
    return Collection(name, using=USING)


def collections() -> list[str]:
    """Names of the collections of the current database."""
    return sorted(utility.list_collections(using=USING, **WITHIN))
