"""Partitions made and dropped. Texts were recorded from Milvus 2.3.5."""

import pytest

from coordd.etcd import Put
from coordd.meta.tables import DamagedMetadata
from coordd.pb import etcd_meta_pb2, schema_pb2
from coordd.rootcoord.collections import (
    plan_create_partition,
    plan_drop_partition,
    plan_finish_partition,
    plan_purge_partition,
)
from coordd.rootcoord.collections.change import Change
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import (
    CREATED,
    CREATING,
    DROPPING,
    LAYOUT,
    collection,
    field_value,
    inline_collection_value,
    partition_value,
)
from tests.unit.rootcoord.collections.support import DEFAULT_PARTITION, Place, request


def begin(place: Place, partition: str, name: str = "a", db_name: str = "", limit: int = 10) -> Change:
    wanted = request("CreatePartition", partition_name=partition, collection_name=name, db_name=db_name)
    change = plan_create_partition(place.tables, LAYOUT, wanted, place.stamp(), limit=limit)
    place.commit(change.writes)
    return change


def create(place: Place, partition: str, name: str = "a") -> int:
    change = begin(place, partition, name)
    assert change.partition_id
    place.commit(plan_finish_partition(place.tables, LAYOUT, change.collection_id, change.partition_id))
    return change.partition_id


def drop(place: Place, partition: str, name: str = "a", db_name: str = "") -> Change:
    wanted = request("DropPartition", partition_name=partition, collection_name=name, db_name=db_name)
    change = plan_drop_partition(
        place.tables, LAYOUT, wanted, place.timestamp(), default_partition=DEFAULT_PARTITION
    )
    place.commit(change.writes)
    return change


def purge(place: Place, collection_id: int, partition_id: int) -> None:
    place.commit(plan_purge_partition(place.tables, LAYOUT, collection_id, partition_id, place.timestamp()))


def names(place: Place, collection_id: int = 50) -> list[str]:
    return [partition.name for partition in place.view(collection_id).available_partitions]


def test_it_comes_and_goes() -> None:
    place = Place.holding(collection(50, "a"))
    change = begin(place, "p")
    assert (change.db_name, change.names, change.collection_id) == ("default", ("a",), 50)
    assert names(place) == ["_default"]
    key = LAYOUT.partition(50, change.partition_id)
    value = place.live()[key]
    info = etcd_meta_pb2.PartitionInfo.FromString(value)
    ts = info.partition_created_timestamp
    assert info == etcd_meta_pb2.PartitionInfo(
        partitionID=change.partition_id,
        partitionName="p",
        partition_created_timestamp=ts,
        collection_id=50,
        state=CREATING,
    )
    assert place.transactions[-1] == (Put(key, value), Put(LAYOUT.snapshot(key, ts), value))
    place.check()

    place.commit(plan_finish_partition(place.tables, LAYOUT, 50, change.partition_id))
    assert names(place) == ["_default", "p"]
    assert set(place.history(key)) == {ts}
    assert plan_finish_partition(place.tables, LAYOUT, 50, change.partition_id) == ()
    place.check()

    dropped = drop(place, "p")
    assert (dropped.collection_id, dropped.partition_id) == (50, change.partition_id)
    assert names(place) == ["_default"]
    assert place.view(50).partitions[-1].state == DROPPING
    place.check()
    purge(place, 50, change.partition_id)
    assert key not in place.live()
    place.check()
    count = len(place.transactions)
    purge(place, 50, change.partition_id)
    assert len(place.transactions) == count


def test_again() -> None:
    place = Place.holding(collection(50, "a"))
    made = create(place, "p")
    change = begin(place, "p", limit=2)
    assert (change.writes, change.collection_id, change.partition_id) == ((), 50, 0)
    drop(place, "p")
    assert drop(place, "p").writes == ()
    assert create(place, "p") != made
    place.check()


def test_an_interrupted_one_is_undone_and_can_be_repeated() -> None:
    place = Place.holding(collection(50, "a"))
    broken = begin(place, "p").partition_id
    made = create(place, "p")
    purge(place, 50, broken)
    assert names(place) == ["_default", "p"]
    assert [partition.id for partition in place.view(50).partitions] == [51, made]
    with pytest.raises(MilvusError, match=rf"^partition not found\[partition={broken}\]$"):
        plan_finish_partition(place.tables, LAYOUT, 50, broken)
    place.check()


def test_refusals_of_create() -> None:
    place = Place.holding(collection(50, "a"), collection(60, "gone", state=DROPPING))
    for name, db_name, text in (
        ("a", "no", "database:no not found"),
        ("gone", "", "gone: collection not found[collection=default]"),
    ):
        with pytest.raises(MilvusError) as caught:
            begin(place, "p", name, db_name)
        assert caught.value.message == text
    with pytest.raises(MilvusError) as caught:
        begin(place, "p", "no", "music")
    assert caught.value.code == 100
    assert caught.value.message.endswith(": collection not found[database=7][collection=no]")
    with pytest.raises(MilvusError, match=r"^Invalid partition name: . Partition name should not be empty.$"):
        begin(place, "")


def test_the_limit() -> None:
    place = Place.holding(
        collection(50, "a"), {LAYOUT.partition(50, 60): partition_value(50, 60, "q", DROPPING)}
    )
    begin(place, "p", limit=2)
    create(place, "r")
    text = r"^partition number \(2\) exceeds max configuration \(2\), collection: a$"
    with pytest.raises(MilvusError, match=text) as caught:
        begin(place, "s", limit=2)
    assert caught.value.code == 65535


def test_refusals_of_drop() -> None:
    place = Place.holding(collection(50, "a"))
    with pytest.raises(MilvusError, match=r"^default partition cannot be deleted$"):
        drop(place, "_default", "no such collection")
    with pytest.raises(MilvusError, match=r"^database:no not found$"):
        drop(place, "p", "a", "no")
    assert drop(place, "p").writes == ()


def test_the_message_type_is_checked() -> None:
    place = Place.holding(collection(50, "a"))
    wanted = request("DropPartition", partition_name="_default", collection_name="a")
    wanted.base.msg_type = 0
    with pytest.raises(MilvusError, match=r"^invalid msg type, expect DropPartition, but got Undefined$"):
        plan_drop_partition(place.tables, LAYOUT, wanted, 1, default_partition=DEFAULT_PARTITION)
    wanted = request("CreatePartition", partition_name="_default", collection_name="a")
    wanted.base.msg_type = 0
    with pytest.raises(MilvusError, match=r"^invalid msg type, expect CreatePartition, but got Undefined$"):
        plan_create_partition(place.tables, LAYOUT, wanted, place.stamp(), limit=1)


def test_nothing_is_finished_in_a_collection_that_is_being_dropped() -> None:
    place = Place.holding(collection(50, "a"))
    begun = begin(place, "p").partition_id
    place.commit(
        tuple(Put(key, value) for key, value in collection(50, "a", state=DROPPING).items() if "info" in key)
    )
    with pytest.raises(MilvusError, match=r"^collection not found\[collection=50\]$"):
        plan_finish_partition(place.tables, LAYOUT, 50, begun)


def test_what_is_available_is_not_purged() -> None:
    place = Place.holding(collection(50, "a"))
    with pytest.raises(ValueError, match="not to be purged"):
        purge(place, 50, 51)


def test_with_a_damaged_part_it_is_not_known_which_partitions_there_are() -> None:
    place = Place.holding(collection(50, "a"), {LAYOUT.partition(50, 60): b"\xff"})
    for change in (begin, drop):
        with pytest.raises(DamagedMetadata):
            change(place, "p")


class TestInline:
    """Collections from before Milvus 2.1."""

    def place(self) -> Place:
        return Place.holding({LAYOUT.collection(0, 50): inline_collection_value(50, "a")})

    def test_the_first_change_gives_the_parts_keys_of_their_own(self) -> None:
        place = self.place()
        before = place.view(50)
        made = create(place, "p")
        assert len(place.transactions) == 2
        after = place.view(50)
        assert after.row.inline_partitions is None
        assert after.row.db_id == 0
        assert names(place) == ["_default", "second", "p"]
        assert {partition.id for partition in after.partitions} == {51, 52, made}
        assert after.partitions[:2] == before.partitions
        assert sorted(after.fields, key=str) == sorted(before.fields, key=str)
        assert place.live()[LAYOUT.field(50, 100)] == field_value(100, "id")
        assert (after.info.ID, after.info.schema) == (50, schema_pb2.CollectionSchema(name="a"))
        place.check()

    def test_so_does_a_drop(self) -> None:
        place = self.place()
        dropped = drop(place, "second").partition_id
        assert dropped == 52
        assert names(place) == ["_default"]
        assert [(one.id, one.state) for one in place.view(50).partitions] == [(51, CREATED), (52, DROPPING)]
        place.check()
        purge(place, 50, dropped)
        assert names(place) == ["_default"]
        place.check()

    def test_what_does_not_fit_into_one_transaction_is_refused(self) -> None:
        info = etcd_meta_pb2.CollectionInfo.FromString(inline_collection_value(50, "a"))
        info.partitionIDs.extend(range(100, 170))
        info.partitionNames.extend(f"p{i}" for i in range(70))
        info.partition_created_timestamps.extend([1] * 70)
        place = Place.holding({LAYOUT.collection(0, 50): info.SerializeToString()})
        with pytest.raises(MilvusError, match=r"^collection a is stored as before Milvus 2.1 and too large"):
            begin(place, "p", limit=1000)
        assert not place.transactions
