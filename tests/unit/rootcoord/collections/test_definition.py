"""What a CreateCollection request asks for. Texts were recorded from Milvus 2.3.5."""

from typing import Any

import pytest

from coordd.pb import common_pb2, schema_pb2
from coordd.pb.common_pb2 import MsgType
from coordd.pb.etcd_meta_pb2 import DatabaseInfo, DatabaseState
from coordd.pb.schema_pb2 import DataType, FieldSchema, ValueField
from coordd.rootcoord.collections import Limits
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import CREATING, DROPPING, LAYOUT, collection
from tests.unit.rootcoord.collections.support import (
    LIMITS,
    VARCHAR,
    Place,
    a_field,
    create_request,
    pairs,
    some_fields,
)

MISMATCH = "default value type mismatches field schema type: invalid parameter"


def refusal(wanted: Any, place: Place | None = None, limits: Limits = LIMITS) -> tuple[int, str]:
    with pytest.raises(MilvusError) as caught:
        (place or Place.holding()).define(wanted, limits)
    status = caught.value.to_status()
    assert status.reason == status.detail
    return status.code, status.reason


def with_default(data_type: Any, value: ValueField, **rest: Any) -> Any:
    return create_request(fields=[a_field("f", data_type, default_value=value, **rest)])


def database_with(db_id: int, name: str, properties: dict[str, str]) -> dict[str, bytes]:
    info = DatabaseInfo(
        name=name, id=db_id, state=DatabaseState.DatabaseCreated, properties=pairs(properties)
    )
    return {LAYOUT.database(db_id): info.SerializeToString()}


class TestCompletion:
    def test_fields_are_numbered_and_system_fields_added(self) -> None:
        schema = Place.holding().define(create_request()).schema
        assert [(field.fieldID, field.name) for field in schema.fields] == [
            (100, "id"),
            (101, "vector"),
            (0, "RowID"),
            (1, "Timestamp"),
        ]
        assert schema.fields[0] == FieldSchema(
            fieldID=100, name="id", is_primary_key=True, description="the key", data_type=DataType.Int64
        )
        assert schema.fields[2] == FieldSchema(
            fieldID=0, name="RowID", description="row id", data_type=DataType.Int64
        )
        assert schema.fields[3] == FieldSchema(
            fieldID=1, name="Timestamp", description="time stamp", data_type=DataType.Int64
        )
        assert (schema.name, schema.description, schema.enable_dynamic_field) == (
            "books",
            "a collection",
            False,
        )

    def test_the_dynamic_field_is_the_last_of_the_users(self) -> None:
        schema = Place.holding().define(create_request(dynamic=True)).schema
        assert schema.enable_dynamic_field
        assert schema.fields[2] == FieldSchema(
            fieldID=102, name="$meta", description="dynamic schema", data_type=DataType.JSON, is_dynamic=True
        )
        assert [field.fieldID for field in schema.fields] == [100, 101, 102, 0, 1]

    def test_what_is_kept_of_a_field(self) -> None:
        full = FieldSchema(
            fieldID=7,
            name="f",
            data_type=VARCHAR,
            description="text",
            type_params=pairs({"max_length": "9"}),
            index_params=pairs({"index_type": "Trie"}),
            autoID=True,
            is_partition_key=True,
            element_type=DataType.Bool,
            default_value=ValueField(string_data="x"),
            state=schema_pb2.FieldState.FieldDropping,
            nullable=True,
            is_clustering_key=True,
        )
        kept = Place.holding().define(create_request(fields=[full], num_partitions=2)).schema.fields[0]
        full.fieldID = 100
        for name in ("state", "nullable", "is_clustering_key"):
            full.ClearField(name)
        assert kept == full

    def test_the_database_is_found_by_name(self) -> None:
        place = Place.holding()
        assert (
            place.define(create_request()).db_id == place.define(create_request(db_name="default")).db_id == 1
        )
        music = place.define(create_request(db_name="music"))
        assert (music.db_id, music.db_name) == (7, "music")

    @pytest.mark.parametrize(("asked", "given"), [(-3, 1), (0, 1), (1, 1), (4, 4)])
    def test_there_is_a_shard_at_least(self, asked: int, given: int) -> None:
        assert Place.holding().define(create_request(shards_num=asked)).shards_num == given

    def test_one_partition_or_as_many_as_asked_for_with_a_partition_key(self) -> None:
        place = Place.holding()
        assert place.define(create_request(num_partitions=5)).partition_names == ("_default",)
        keyed = [*some_fields(), a_field("k", is_partition_key=True)]
        names = place.define(create_request(fields=keyed, num_partitions=3)).partition_names
        assert names == ("_default_0", "_default_1", "_default_2")

    def test_a_replicated_collection_keeps_its_time(self) -> None:
        wanted = create_request()
        wanted.base.replicateInfo.isReplicate = True
        wanted.base.replicateInfo.msgTimestamp = 42
        assert Place.holding().define(wanted).replicated_at == 42
        wanted.base.replicateInfo.msgTimestamp = 0
        text = "the cdc timestamp is not set in the request for the backup instance: invalid parameter"
        assert refusal(wanted) == (1100, text)


class TestRefusals:
    def test_an_unknown_database(self) -> None:
        assert refusal(create_request(db_name="no")) == (65535, "database:no not found")

    def test_another_message_type(self) -> None:
        wanted = create_request()
        wanted.base.msg_type = MsgType.DropCollection
        text = "invalid msg type, expect CreateCollection, but got DropCollection"
        assert refusal(wanted) == (65535, text)
        wanted.base.CopyFrom(common_pb2.MsgBase())
        assert refusal(wanted)[1].endswith("but got Undefined")

    def test_too_many_shards(self) -> None:
        limits = Limits(4, 3, 9, 9, 9)
        text = "shard num (5) exceeds max configuration (4)"
        assert refusal(create_request(shards_num=5), limits=limits) == (65535, text)
        text = "shard num (4) exceeds system limit (3)"
        assert refusal(create_request(shards_num=4), limits=limits) == (65535, text)

    def test_too_many_collections(self) -> None:
        place = Place.holding(
            collection(50, "a"),
            collection(60, "b", db_id=7),
            collection(70, "c", state=CREATING),
            collection(80, "d", state=DROPPING),
        )
        text = (
            "max number of collection has reached the limit in DB: exceeded the limit number of collections"
        )
        assert refusal(create_request(), place, Limits(9, 9, 1, 9, 9)) == (102, f"{text}[limit=1]")
        text = "max number of collection has reached the limit: exceeded the limit number of collections"
        assert refusal(create_request(), place, Limits(9, 9, 2, 2, 9)) == (102, f"{text}[limit=2]")
        assert place.define(create_request(), Limits(9, 9, 2, 3, 9))

    @pytest.mark.parametrize(("own", "limit"), [("1", 1), ("+1", 1), ("-1", -1), ("3", 0), ("", 2), ("7", 0)])
    def test_a_database_may_have_a_limit_of_its_own(self, own: str, limit: int) -> None:
        """`limit`: the one that is reached, 0 for none."""
        place = Place.holding(
            database_with(7, "music", {"database.max.collections": own}),
            collection(60, "a", db_id=7),
            collection(61, "b", db_id=7),
        )
        wanted, limits = create_request(db_name="music"), Limits(9, 9, 2, 9, 9)
        if limit:
            assert refusal(wanted, place, limits) == (
                102,
                "max number of collection has reached the limit in DB: exceeded the limit number of"
                f" collections[limit={limit}]",
            )
        else:
            assert place.define(wanted, limits)
        assert place.define(create_request(), limits)

    def test_a_limit_that_is_no_number(self) -> None:
        for own in ("many", "1_0", " 1", "1" * 30):
            place = Place.holding(database_with(7, "music", {"database.max.collections": own}))
            text = f"parse value of property fail, key:database.max.collections, value:{own}"
            assert refusal(create_request(db_name="music"), place) == (65535, text)

    def test_a_schema_of_another_name(self) -> None:
        assert refusal(create_request("a", schema_name="b")) == (
            1100,
            "collection name = a, schema.Name=b: invalid parameter"
            "[expected=collection name matches schema name][actual=don't match]",
        )

    def test_a_schema_that_is_none(self) -> None:
        wanted = create_request()
        wanted.schema = b"\xff\xff"
        assert refusal(wanted) == (65535, "proto:\u00a0cannot parse invalid wire-format data")

    @pytest.mark.parametrize("name", ["RowID", "Timestamp", "$meta"])
    def test_names_of_system_fields(self, name: str) -> None:
        assert refusal(create_request(fields=[a_field(name)])) == (
            1100,
            "schema contains system field: RowID, Timestamp, $meta: invalid parameter"
            "[expected=schema don't contains system field][actual=contains]",
        )

    def test_no_name_at_all(self) -> None:
        assert refusal(create_request("")) == (1100, "collection name should not be empty: invalid parameter")
        nameless = create_request(fields=[a_field("")])
        assert refusal(nameless) == (1100, "field name should not be empty: invalid parameter")

    def test_numbers_of_partitions(self) -> None:
        keyed = [a_field("k", is_partition_key=True)]
        text = "the specified partitions should be greater than 0 if partition key is used"
        assert refusal(create_request(fields=keyed)) == (65535, text)
        text = "partition number (201) exceeds max configuration (200), collection: books"
        assert refusal(create_request(fields=keyed, num_partitions=201)) == (65535, text)

    def test_the_order_of_the_checks(self) -> None:
        """Each step mends what the one before was refused for."""
        place = Place.holding(collection(50, "a"))
        bad = [a_field("RowID", default_value=ValueField(bool_data=True))]
        wanted = create_request("a", bad, db_name="no", schema_name="b", shards_num=99)
        wanted.base.msg_type = MsgType.Undefined
        limits = Limits(9, 4, 1, 1, 0)
        seen = []

        def see() -> None:
            seen.append(refusal(wanted, place, limits)[1].split(":")[0].split("(")[0])

        def schema(**rest: Any) -> bytes:
            return schema_pb2.CollectionSchema(name="a", **rest).SerializeToString()

        see()
        wanted.db_name = ""
        see()
        wanted.base.msg_type = MsgType.CreateCollection
        see()
        wanted.shards_num = 9
        see()
        wanted.shards_num = 4
        see()
        limits = Limits(9, 4, 2, 1, 0)
        see()
        limits = Limits(9, 4, 2, 2, 0)
        see()
        wanted.schema = schema(fields=bad)
        see()
        wanted.schema = schema(fields=[a_field("RowID", is_partition_key=True)])
        see()
        wanted.schema = schema(fields=[a_field("k", is_partition_key=True)])
        see()
        wanted.num_partitions = 1
        see()
        assert seen == [
            "database",
            "invalid msg type, expect CreateCollection, but got Undefined",
            "shard num ",
            "shard num ",
            "max number of collection has reached the limit in DB",
            "max number of collection has reached the limit",
            "collection name = a, schema.Name=b",
            "default value type mismatches field schema type",
            "schema contains system field",
            "the specified partitions should be greater than 0 if partition key is used",
            "partition number ",
        ]


class TestDefaultValues:
    @pytest.mark.parametrize(
        ("data_type", "value"),
        [
            (DataType.Bool, ValueField(bool_data=False)),
            (DataType.Int8, ValueField(int_data=-128)),
            (DataType.Int8, ValueField(int_data=127)),
            (DataType.Int16, ValueField(int_data=-32768)),
            (DataType.Int16, ValueField(int_data=32767)),
            (DataType.Int32, ValueField(int_data=-(1 << 31))),
            (DataType.Int64, ValueField(long_data=1 << 62)),
            (DataType.Float, ValueField(float_data=1.5)),
            (DataType.Double, ValueField(double_data=1.5)),
        ],
    )
    def test_what_fits(self, data_type: Any, value: ValueField) -> None:
        fields = Place.holding().define(with_default(data_type, value)).schema.fields
        assert fields[0].default_value == value
        assert fields[0].HasField("default_value")

    @pytest.mark.parametrize(
        ("value", "name", "wrong"),
        [
            (ValueField(bool_data=True), "Bool", DataType.Int8),
            (ValueField(int_data=1), "Int", DataType.Int64),
            (ValueField(long_data=1), "Int64", DataType.Int32),
            (ValueField(float_data=1), "Float", DataType.Double),
            (ValueField(double_data=1), "Double", DataType.Float),
            (ValueField(string_data="x"), "VarChar", DataType.String),
        ],
    )
    def test_the_wrong_type(self, value: ValueField, name: str, wrong: Any) -> None:
        text = f"{MISMATCH}[expected=DataType_{name}][actual=not match]"
        assert refusal(with_default(wrong, value)) == (1100, text)

    @pytest.mark.parametrize(
        ("data_type", "value", "lower", "upper"),
        [
            (DataType.Int8, 128, -128, 127),
            (DataType.Int8, -129, -128, 127),
            (DataType.Int16, 32768, -32768, 32767),
            (DataType.Int16, -32769, -32768, 32767),
        ],
    )
    def test_out_of_range(self, data_type: Any, value: int, lower: int, upper: int) -> None:
        assert refusal(with_default(data_type, ValueField(int_data=value))) == (
            1100,
            "default value out of range: "
            f"invalid parameter[{value} out of range {lower} <= value <= {upper}]",
        )

    def test_the_length_counts_in_bytes(self) -> None:
        value = ValueField(string_data="äöü")
        params = {"type_params": pairs({"max_length": "6"})}
        assert Place.holding().define(with_default(VARCHAR, value, **params))
        params = {"type_params": pairs({"max_length": "5"})}
        assert refusal(with_default(VARCHAR, value, **params)) == (
            1100,
            "the length (6) of string exceeds max length (5): invalid parameter"
            "[expected=valid length string][actual=string length exceeds max length]",
        )

    def test_type_parameters_go_before_index_parameters(self) -> None:
        value = ValueField(string_data="abc")
        params = {
            "index_params": pairs({"max_length": "1"}),
            "type_params": pairs({"max_length": "3"}),
        }
        assert Place.holding().define(with_default(VARCHAR, value, **params))

    def test_no_length(self) -> None:
        assert refusal(with_default(VARCHAR, ValueField(string_data="x"))) == (
            1100,
            "max length not found: "
            "invalid parameter[expected=max length key in type parameters][actual=not found]",
        )

    @pytest.mark.parametrize("text", ["", "x", "1_0", " 1", "1.0", "9223372036854775808"])
    def test_a_length_that_is_no_number(self, text: str) -> None:
        params = {"type_params": pairs({"max_length": text})}
        assert refusal(with_default(VARCHAR, ValueField(string_data="x"), **params)) == (
            1100,
            f"invalid max length: {text}: invalid parameter"
            f"[expected=value of max length should be of int][actual={text}]",
        )

    @pytest.mark.parametrize("value", [ValueField(), ValueField(bytes_data=b"{}")])
    def test_kinds_that_no_field_has_are_refused_where_milvus_ends(self, value: ValueField) -> None:
        code, text = refusal(with_default(DataType.JSON, value))
        assert code == 1100
        assert text.startswith(MISMATCH)
