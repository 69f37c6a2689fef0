"""One call of each kind to a proxy, with the request bare: pymilvus would ask for other things first.

Runs in the pymilvus environment, with the proxy's address as argument. Names of calls come on stdin, one a
line; for each goes out a line with the text of its failure, empty if it succeeded.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

TIMEOUT_S = 10


def _requests() -> dict[str, Any]:
    def pairs(**values: str) -> list[Any]:
        return [common_pb2.KeyValuePair(key=key, value=value) for key, value in values.items()]

    key = schema_pb2.FieldData(
        type=schema_pb2.DataType.Int64,
        field_name="pk",
        scalars=schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=[1])),
    )
    floats = schema_pb2.FloatArray(data=[1, 2])
    vector = schema_pb2.FieldData(
        type=schema_pb2.DataType.FloatVector,
        field_name="vec",
        vectors=schema_pb2.VectorField(dim=2, float_vector=floats),
    )
    kind = common_pb2.PlaceholderType.FloatVector
    place = common_pb2.PlaceholderValue(tag="$0", type=kind, values=[bytes(8)])
    params = pairs(anns_field="vec", topk="1", metric_type="L2", params="{}", round_decimal="-1")
    books = {"collection_name": "books"}
    rows = {**books, "num_rows": 1, "fields_data": [key, vector]}
    return {
        "Search": milvus_pb2.SearchRequest(
            **books,
            dsl_type=common_pb2.DslType.BoolExprV1,
            placeholder_group=common_pb2.PlaceholderGroup(placeholders=[place]).SerializeToString(),
            nq=1,
            search_params=params,
        ),
        "Query": milvus_pb2.QueryRequest(**books, expr="pk in [1]", output_fields=["pk"]),
        "Insert": milvus_pb2.InsertRequest(**rows),
        "Upsert": milvus_pb2.UpsertRequest(**rows),
        "Delete": milvus_pb2.DeleteRequest(**books, expr="pk in [1]"),
        "LoadCollection": milvus_pb2.LoadCollectionRequest(**books, replica_number=1),
        "Flush": milvus_pb2.FlushRequest(collection_names=["books"]),
        "HasCollection": milvus_pb2.HasCollectionRequest(**books),
        "DropCollection": milvus_pb2.DropCollectionRequest(**books),
    }


def main() -> None:
    """Serve stdin."""
    requests = _requests()
    with grpc.insecure_channel(sys.argv[1]) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        for line in sys.stdin:
            name = line.strip()
            try:
                answer = getattr(stub, name)(requests[name], timeout=TIMEOUT_S)
                print(getattr(answer, "status", answer).reason.replace("\n", " "), flush=True)
            except grpc.RpcError as error:
                print(str(error.code()), flush=True)


if __name__ == "__main__":
    main()
