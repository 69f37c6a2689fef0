"""Protobuf modules of the Milvus wire protocol, generated from ``proto/coordd/pb`` when coordd is built.

One module per .proto file (``from coordd.pb import root_coord_pb2``), a superset of what Milvus 2.3.5
and 2.5.24 send each other and store in etcd.  The packages inside are Milvus' own
(``milvus.proto.rootcoord``), so gRPC paths and type names match; the file names are ours, so nothing
here claims a bare name like ``common.proto`` in protobuf's default descriptor pool.  The full names
still are Milvus': pymilvus, which registers the same ones, cannot be imported in the same process.

Services are found by descriptor, ``root_coord_pb2.DESCRIPTOR.services_by_name["RootCoord"]``.
Enum values called ``None`` are no Python attribute names: ``schema_pb2.DataType.Value("None")``.
"""
