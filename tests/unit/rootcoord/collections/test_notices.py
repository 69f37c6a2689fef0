"""What DataCoord is told."""

from coordd.pb import data_coord_pb2, schema_pb2
from coordd.pb.common_pb2 import KeyDataPair
from coordd.rootcoord.collections import altered_collection, plan_alter, watch_channels
from tests.unit.meta.samples import LAYOUT
from tests.unit.rootcoord.collections.support import Place, create_request, pairs, request


def test_of_a_new_collection() -> None:
    place = Place.holding()
    definition = place.define(create_request(dynamic=True, shards_num=2))
    spot = place.placement(definition)
    assert watch_channels(definition, spot) == data_coord_pb2.WatchChannelsRequest(
        collectionID=spot.collection_id,
        channelNames=spot.virtual_channels,
        start_positions=[KeyDataPair(key=key, data=data) for key, data in spot.start_positions],
        schema=schema_pb2.CollectionSchema(
            name="books", description="a collection", fields=definition.schema.fields
        ),
        create_timestamp=spot.timestamp,
    )


def test_pitfall_8_of_an_altered_collection_all_properties_and_partitions() -> None:
    place = Place.holding()
    made = place.create(create_request(properties=pairs({"a": "1"})))
    wanted = request("AlterCollection", collection_name="books", properties=pairs({"b": "2"}))
    place.commit(plan_alter(place.tables, LAYOUT, wanted, place.timestamp()).writes)
    view = place.view(made)
    told = altered_collection(view)
    assert told.collectionID == made
    assert [(pair.key, pair.value) for pair in told.properties] == [("a", "1"), ("b", "2")]
    assert list(told.partitionIDs) == [partition.id for partition in view.partitions]
    assert told.start_positions == view.info.start_positions
    assert [field.fieldID for field in told.schema.fields] == [100, 101, 0, 1]
    assert (told.schema.name, told.schema.description) == ("books", "a collection")
