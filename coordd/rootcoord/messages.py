"""The messages that RootCoord puts on the channels, as bytes. Pure.

A message is the bare protobuf of a request, without an envelope; readers look at `base.msg_type` first. Only
the fields set here are set by Milvus' RootCoord, and readers rely on no others. There is no message for a new
partition: query nodes learn of it from QueryCoord, data nodes from the first insert.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create_collection_task,broker,garbage_collector,
timeticksync}.go; recorded from its process.
"""

from collections.abc import Sequence

from coordd.pb import common_pb2, msg_pb2, schema_pb2


def create_collection(
    timestamp: int,
    *,
    collection_id: int,
    schema: schema_pb2.CollectionSchema,
    virtual_channels: Sequence[str],
    physical_channels: Sequence[str],
    partition_ids: Sequence[int],
) -> bytes:
    """Sent to every physical channel of a new collection; the same bytes to each, with all channels in them.

    `timestamp` is the hybrid timestamp of the creation, `schema` the whole one with the system fields;
    `virtual_channels` and `physical_channels` go pairwise.
    """
    return msg_pb2.CreateCollectionRequest(
        base=common_pb2.MsgBase(msg_type=common_pb2.MsgType.CreateCollection, timestamp=timestamp),
        collectionID=collection_id,
        schema=schema.SerializeToString(deterministic=True),
        virtualChannelNames=virtual_channels,
        physicalChannelNames=physical_channels,
        partitionIDs=partition_ids,
    ).SerializeToString(deterministic=True)


def drop_collection(timestamp: int, *, server_id: int, collection_id: int, collection_name: str) -> bytes:
    """Sent to every physical channel of a dropped collection, when nobody inserts there any more."""
    return msg_pb2.DropCollectionRequest(
        base=common_pb2.MsgBase(
            msg_type=common_pb2.MsgType.DropCollection, timestamp=timestamp, sourceID=server_id
        ),
        collectionName=collection_name,
        collectionID=collection_id,
    ).SerializeToString(deterministic=True)


def drop_partition(
    timestamp: int, *, server_id: int, collection_id: int, partition_id: int, partition_name: str
) -> bytes:
    """Sent to every physical channel of the collection that the dropped partition belongs to."""
    return msg_pb2.DropPartitionRequest(
        base=common_pb2.MsgBase(
            msg_type=common_pb2.MsgType.DropPartition, timestamp=timestamp, sourceID=server_id
        ),
        partition_name=partition_name,
        collectionID=collection_id,
        partitionID=partition_id,
    ).SerializeToString(deterministic=True)


def time_tick(timestamp: int, *, server_id: int) -> bytes:
    """A promise to the readers of a channel: no message that follows has this timestamp or a lower one."""
    return msg_pb2.TimeTickMsg(
        base=common_pb2.MsgBase(msg_type=common_pb2.MsgType.TimeTick, timestamp=timestamp, sourceID=server_id)
    ).SerializeToString(deterministic=True)
