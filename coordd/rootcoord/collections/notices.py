"""What DataCoord is told of new and changed collections.

Not Milvus': an altered collection is announced with all its properties, since DataCoord replaces what it
knows by what it is told, and without zeros in front of the partition IDs.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create_collection_task,broker}.go.
"""

from collections.abc import Iterable

from coordd.meta.tables import CollectionView
from coordd.pb.common_pb2 import KeyDataPair
from coordd.pb.data_coord_pb2 import AlterCollectionRequest, WatchChannelsRequest
from coordd.pb.schema_pb2 import CollectionSchema, FieldSchema
from coordd.rootcoord.collections.creation import Placement
from coordd.rootcoord.collections.definition import Definition


def watch_channels(definition: Definition, placement: Placement) -> WatchChannelsRequest:
    """DataCoord is to have the channels of a new collection watched."""
    schema = definition.schema
    return WatchChannelsRequest(
        collectionID=placement.collection_id,
        channelNames=placement.virtual_channels,
        start_positions=[KeyDataPair(key=key, data=data) for key, data in placement.start_positions],
        schema=_told(schema, schema.fields),
        create_timestamp=placement.timestamp,
    )


def altered_collection(view: CollectionView) -> AlterCollectionRequest:
    """The properties of a collection are now these."""
    return AlterCollectionRequest(
        collectionID=view.id,
        schema=_told(view.info.schema, view.fields),
        partitionIDs=[partition.id for partition in view.available_partitions],
        start_positions=view.info.start_positions,
        properties=view.info.properties,
    )


def _told(schema: CollectionSchema, fields: Iterable[FieldSchema]) -> CollectionSchema:
    """Milvus leaves out whether there is a dynamic field."""
    return CollectionSchema(
        name=schema.name, description=schema.description, autoID=schema.autoID, fields=fields
    )
