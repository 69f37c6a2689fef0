"""What a new collection leaves in etcd, and what a repeated request finds."""

import pytest

from coordd.etcd import Put
from coordd.meta.tables import DamagedMetadata
from coordd.meta.transaction import Write
from coordd.pb import etcd_meta_pb2, schema_pb2
from coordd.pb.common_pb2 import ConsistencyLevel, KeyDataPair
from coordd.rootcoord.collections import (
    existing,
    plan_begin,
    plan_create_alias,
    plan_drop,
    plan_finish,
    plan_purge,
)
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import CREATED, CREATING, LAYOUT, collection, database
from tests.unit.rootcoord.collections.support import (
    INT64,
    VARCHAR,
    Place,
    a_field,
    create_request,
    pairs,
    request,
    some_fields,
)

DUPLICATE = "^create duplicate collection with different parameters, collection: books$"


def test_what_is_written() -> None:
    place = Place.holding()
    definition = place.define(
        create_request(
            shards_num=2,
            consistency_level=ConsistencyLevel.Bounded,
            properties=pairs({"a": "1"}),
            dynamic=True,
        )
    )
    spot = place.placement(definition)
    steps = plan_begin(place.tables, LAYOUT, definition, spot)
    (writes,) = steps
    plain = {write.key: write.value for write in writes if isinstance(write, Put)}
    key = LAYOUT.collection(1, spot.collection_id)
    assert writes[0].key == key
    assert etcd_meta_pb2.CollectionInfo.FromString(plain[key]) == etcd_meta_pb2.CollectionInfo(
        ID=spot.collection_id,
        schema=schema_pb2.CollectionSchema(
            name="books", description="a collection", enable_dynamic_field=True
        ),
        create_time=spot.timestamp,
        virtual_channel_names=spot.virtual_channels,
        physical_channel_names=["by-dev-rootcoord-dml_0", "by-dev-rootcoord-dml_1"],
        shards_num=2,
        start_positions=[
            KeyDataPair(key=f"by-dev-rootcoord-dml_{i}", data=b"\x01\0\0\0\0\0\0\0") for i in range(2)
        ],
        consistency_level=ConsistencyLevel.Bounded,
        state=CREATING,
        properties=pairs({"a": "1"}),
        db_id=1,
    )
    partition = LAYOUT.partition(spot.collection_id, spot.first_partition_id)
    assert etcd_meta_pb2.PartitionInfo.FromString(plain[partition]) == etcd_meta_pb2.PartitionInfo(
        partitionID=spot.first_partition_id,
        partitionName="_default",
        partition_created_timestamp=spot.timestamp,
        collection_id=spot.collection_id,
        state=CREATED,
    )
    fields = {LAYOUT.field(spot.collection_id, field.fieldID): field for field in definition.schema.fields}
    assert {key: plain[key] for key in fields} == {
        key: field.SerializeToString() for key, field in fields.items()
    }
    keys = {key, partition, *fields}
    assert set(plain) == keys | {LAYOUT.snapshot(one, spot.timestamp) for one in keys}
    assert all(plain[LAYOUT.snapshot(one, spot.timestamp)] == plain[one] for one in keys)


def test_nobody_sees_it_before_it_is_finished() -> None:
    place = Place.holding()
    definition = place.define(create_request())
    spot = place.placement(definition)
    place.commit_all(plan_begin(place.tables, LAYOUT, definition, spot))
    assert existing(place.tables, definition) == 0
    assert place.tables.resolve(1, "books") is None
    writes = plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp())
    key = LAYOUT.collection(1, spot.collection_id)
    assert [write.key for write in writes] == [key, LAYOUT.snapshot(key, spot.timestamp)]
    place.commit(writes)
    assert existing(place.tables, definition) == spot.collection_id
    assert plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp()) == ()
    place.check()


def test_a_large_collection_is_written_in_transactions_that_etcd_takes() -> None:
    place = Place.holding()
    keyed = [*some_fields(), a_field("k", is_partition_key=True)]
    definition = place.define(create_request(fields=keyed, num_partitions=150))
    spot = place.placement(definition)
    steps = plan_begin(place.tables, LAYOUT, definition, spot)
    assert len(steps) == 3
    assert steps[0][0].key == LAYOUT.collection(1, spot.collection_id)
    place.commit_all(steps)
    place.commit(plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp()))
    view = place.view(spot.collection_id)
    assert [partition.name for partition in view.partitions] == [f"_default_{i}" for i in range(150)]
    assert [partition.id for partition in view.partitions] == [
        spot.first_partition_id + i for i in range(150)
    ]
    assert view.schema().fields == definition.schema.fields
    place.check()


def test_large_fields_are_cut_by_size() -> None:
    place = Place.holding()
    fields = [a_field(f"f{i}", description="x" * 300_000) for i in range(6)]
    definition = place.define(create_request(fields=fields))
    steps = plan_begin(place.tables, LAYOUT, definition, place.placement(definition))
    sizes = [sum(len(write.value) for write in step if isinstance(write, Put)) for step in steps]
    assert len(steps) == 3
    assert max(sizes) < 1_500_000


def test_a_field_that_no_transaction_holds_is_refused_before_anything_is_written() -> None:
    place = Place.holding()
    definition = place.define(create_request(fields=[a_field("f", description="x" * 800_000)]))
    with pytest.raises(MilvusError, match=r"^etcdserver: request is too large$"):
        plan_begin(place.tables, LAYOUT, definition, place.placement(definition))


@pytest.mark.parametrize("done", [1, 2])
def test_an_interrupted_one_is_undone(done: int) -> None:
    place = Place.holding()
    before = place.live()
    keyed = [a_field("k", is_partition_key=True)]
    definition = place.define(create_request(fields=keyed, num_partitions=150))
    spot = place.placement(definition)
    place.commit_all(plan_begin(place.tables, LAYOUT, definition, spot)[:done])
    place.commit_all(plan_purge(place.tables, LAYOUT, spot.collection_id, place.timestamp()))
    assert place.live() == before
    place.check()
    assert list(plan_purge(place.tables, LAYOUT, spot.collection_id, place.timestamp())) == []
    with pytest.raises(MilvusError, match=rf"^collection not found\[collection={spot.collection_id}\]$"):
        plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp())
    assert place.create(create_request(fields=keyed, num_partitions=150)) != spot.collection_id


class TestAgain:
    """A request is repeated once the collection is there."""

    def again(self, change: dict[str, object] | None = None, **first: object) -> tuple[int, int]:
        """IDs of the collection and of what the repeated request finds."""
        place = Place.holding()
        collection_id = place.create(create_request(**first))  # type: ignore[arg-type]
        definition = place.define(create_request(**{**first, **(change or {})}))  # type: ignore[arg-type]
        return collection_id, existing(place.tables, definition)

    def test_the_same(self) -> None:
        collection_id, found = self.again(
            shards_num=2, properties=pairs({"a": "1", "b": "2"}), dynamic=True, consistency_level=1
        )
        assert found == collection_id

    def test_the_same_in_another_order(self) -> None:
        def text(params: dict[str, str]) -> dict[str, object]:
            fields = [a_field("f", VARCHAR, type_params=pairs(params))]
            return {"fields": fields, "properties": pairs(params)}

        collection_id, found = self.again(
            text({"x": "2", "max_length": "1"}), **text({"max_length": "1", "x": "2"})
        )
        assert found == collection_id

    @pytest.mark.parametrize(
        "change",
        [
            {"fields": some_fields()[:1]},
            {"fields": some_fields()[::-1]},
            {"fields": [*some_fields(), a_field("more")]},
            {"fields": [a_field("id", is_primary_key=True), some_fields()[1]]},
            {"dynamic": True},
            {"shards_num": 3},
            {"consistency_level": 2},
            {"properties": pairs({"a": "2"})},
            {"properties": pairs({"a": "1", "b": "2"})},
            {"properties": []},
        ],
    )
    def test_another(self, change: dict[str, object]) -> None:
        first = {"shards_num": 2, "properties": pairs({"a": "1"}), "consistency_level": 1}
        with pytest.raises(MilvusError, match=DUPLICATE) as caught:
            self.again(change, **first)
        assert caught.value.code == 65535

    def test_with_further_partitions(self) -> None:
        keyed = [a_field("k", INT64, is_partition_key=True)]
        with pytest.raises(MilvusError, match=DUPLICATE):
            self.again({"num_partitions": 3}, fields=keyed, num_partitions=2)

    def test_the_name_is_an_alias(self) -> None:
        place = Place.holding(collection(50, "other"))
        place.commit(place_alias(place, "books", "other"))
        with pytest.raises(MilvusError, match=DUPLICATE):
            existing(place.tables, place.define(create_request()))

    def test_in_another_database(self) -> None:
        place = Place.holding()
        place.create(create_request())
        assert existing(place.tables, place.define(create_request(db_name="music"))) == 0
        assert place.create(create_request(db_name="music"))
        place.check()

    def test_of_a_dropped_one_the_name_is_free(self) -> None:
        place = Place.holding()
        first = place.create(create_request())
        dropped = plan_drop(
            place.tables, LAYOUT, request("DropCollection", collection_name="books"), place.timestamp()
        )
        place.commit(dropped.writes)
        second = place.create(create_request())
        place.commit_all(plan_purge(place.tables, LAYOUT, first, place.timestamp()))
        row = place.tables.collections.find(1, "books")
        assert row is not None
        assert row.collection_id == second
        place.check()

    def test_one_that_is_damaged_cannot_be_compared(self) -> None:
        place = Place.holding(collection(50, "books"), {LAYOUT.field(50, 102): b"\xff"})
        with pytest.raises(DamagedMetadata):
            existing(place.tables, place.define(create_request()))


class TestMeanwhile:
    """Between definition, first write and last write something else is changed."""

    def test_an_equal_one_was_made(self) -> None:
        place = Place.holding()
        definition = place.define(create_request())
        made = place.create(create_request())
        assert plan_begin(place.tables, LAYOUT, definition, place.placement(definition)) == ()
        assert existing(place.tables, definition) == made

    def test_another_took_the_name_before_the_first_write(self) -> None:
        place = Place.holding()
        definition = place.define(create_request())
        place.create(create_request(dynamic=True))
        with pytest.raises(MilvusError, match=DUPLICATE):
            plan_begin(place.tables, LAYOUT, definition, place.placement(definition))

    def test_another_took_the_name_before_the_last_write(self) -> None:
        place = Place.holding()
        definition = place.define(create_request())
        spot = place.placement(definition)
        place.commit_all(plan_begin(place.tables, LAYOUT, definition, spot))
        place.create(create_request(dynamic=True))
        with pytest.raises(MilvusError, match=DUPLICATE):
            plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp())

    def test_the_database_was_dropped(self) -> None:
        place = Place.holding(database(9, "gone"))
        definition = place.define(create_request(db_name="gone"))
        spot = place.placement(definition)
        steps = plan_begin(place.tables, LAYOUT, definition, spot)
        place.commit((Put(LAYOUT.database(9), b"\xe2\x9b\xbc"),))
        with pytest.raises(MilvusError, match=r"^database:gone not found$"):
            plan_begin(place.tables, LAYOUT, definition, spot)
        place.commit_all(steps)
        with pytest.raises(MilvusError, match=r"^database dbID:9 not found$"):
            plan_finish(place.tables, LAYOUT, spot.collection_id, place.timestamp())

    def test_it_was_marked_as_dropped(self) -> None:
        place = Place.holding(collection(50, "a", state=2))
        with pytest.raises(MilvusError, match=r"^collection not found\[collection=50\]$"):
            plan_finish(place.tables, LAYOUT, 50, place.timestamp())


def place_alias(place: Place, alias: str, name: str) -> tuple[Write, ...]:
    wanted = request("CreateAlias", alias=alias, collection_name=name)
    return plan_create_alias(place.tables, LAYOUT, wanted, place.timestamp()).writes


def test_a_replicated_collection_is_changed_as_of_its_own_time() -> None:
    """Its time can be ahead of this cluster's oracle; the newest snapshot must stay the present value."""
    place = Place.holding()
    wanted = create_request()
    wanted.base.replicateInfo.isReplicate = True
    wanted.base.replicateInfo.msgTimestamp = 1 << 60
    collection_id = place.create(wanted)
    assert place.view(collection_id).info.create_time == 1 << 60
    place.commit(
        plan_drop(
            place.tables, LAYOUT, request("DropCollection", collection_name="books"), place.timestamp()
        ).writes
    )
    place.check()
    place.commit_all(plan_purge(place.tables, LAYOUT, collection_id, place.timestamp()))
    place.check()
