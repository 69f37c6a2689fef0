"""Changes of collections, partitions and aliases: our plans beside what Milvus' own coordinators do.

Each request goes to a running Milvus RootCoord. The plan is made from what etcd held before, at the timestamp
that Milvus took: same answer, and the same keys with the same values, or the difference is named here.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from coordd.etcd import Put
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.fold import Fold
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb import etcd_meta_pb2, milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair, Status
from coordd.pb.schema_pb2 import CollectionSchema, DataType, FieldSchema, ValueField
from coordd.rootcoord import collections as plans
from coordd.rootcoord.collections import Change, Limits, Placement
from coordd.rootcoord.databases import Stamp
from coordd.rpc.status import MilvusError, success
from tests.lab.cluster import MilvusLab
from tests.lab.recorder import base, open_rootcoord
from tests.lab.wire import Stub
from tests.unit.meta.samples import (
    alias_value,
    inline_collection_value,
    oldest_alias_value,
    range_result,
)
from tests.unit.rootcoord.collections.support import BASE, Place

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]

LAYOUT = MetaLayout("by-dev", "meta", "kv")
SNAPSHOTS = f"{LAYOUT.snapshot_prefix}root-coord/"
LIMITS = Limits(dml_channels=16, shards=5, collections_per_db=7, collections=8, partitions=6)
EXTRA = {
    "rootCoord": {"maxPartitionNum": 6, "dmlChannelNum": 16},
    "proxy": {"maxShardNum": 5},
    "quotaAndLimits": {"enabled": False, "limits": {"maxCollectionNumPerDB": 7, "maxCollectionNum": 8}},
}


@dataclass
class Side:
    """One RootCoord and what its etcd holds."""

    lab: MilvusLab
    stub: Stub

    def held(self) -> dict[str, bytes]:
        return self.lab.etcd.dump(LAYOUT.root_coord_prefix) | self.lab.etcd.dump(SNAPSHOTS)

    def call(self, method: str, request: Any) -> dict[str, Any]:
        return as_data(self.stub.call(method, request, timeout_s=60))


def as_data(status: Status) -> dict[str, Any]:
    return json_format.MessageToDict(status, preserving_proto_field_name=True)


@contextmanager
def milvus(folder: Path) -> Iterator[Side]:
    with MilvusLab(folder, extra=EXTRA) as lab:
        rootcoord = lab.start("rootcoord")
        lab.start_cluster(rootcoord=rootcoord, nodes=())
        with open_rootcoord(rootcoord.address) as stub:
            yield Side(lab, stub)


def tables_of(held: dict[str, bytes]) -> RootCoordTables:
    tables = RootCoordTables(LAYOUT)
    plain = {key: value for key, value in held.items() if key.startswith(LAYOUT.root_coord_prefix)}
    Fold(tables.tables).load(range_result(plain))
    return tables


def schema(name: str, *fields: FieldSchema, **rest: Any) -> bytes:
    return CollectionSchema(name=name, description="d", fields=fields, **rest).SerializeToString()


def vector() -> FieldSchema:
    dim = [KeyValuePair(key="dim", value="4")]
    return FieldSchema(name="v", data_type=DataType.FloatVector, type_params=dim)


def primary(**rest: Any) -> FieldSchema:
    return FieldSchema(name="id", data_type=DataType.Int64, is_primary_key=True, **rest)


def text(length: str | None, value: str) -> FieldSchema:
    params = [] if length is None else [KeyValuePair(key="max_length", value=length)]
    default = ValueField(string_data=value)
    return FieldSchema(name="t", data_type=DataType.VarChar, type_params=params, default_value=default)


def with_default(data_type: Any, value: ValueField) -> FieldSchema:
    return FieldSchema(name="f", data_type=data_type, default_value=value)


def create(name: str, *fields: FieldSchema, schema_name: str = "", **rest: Any) -> tuple[str, Any]:
    options = {key: rest.pop(key) for key in ("enable_dynamic_field", "autoID") if key in rest}
    body = schema(schema_name or name, *(fields or (primary(), vector())), **options)
    return "CreateCollection", asked("CreateCollection", collection_name=name, schema=body, **rest)


def asked(method: str, kind: str | None = None, **fields: Any) -> Any:
    request_class = getattr(milvus_pb2, f"{method}Request")
    return request_class(base=base(method if kind is None else kind), **fields)


def call_of(method: str, kind: str | None = None, **fields: Any) -> tuple[str, Any]:
    return method, asked(method, kind, **fields)


def pairs(**values: str) -> list[KeyValuePair]:
    return [KeyValuePair(key=key, value=value) for key, value in values.items()]


PARTITION_KEY = FieldSchema(name="k", data_type=DataType.Int64, is_partition_key=True)
CALLS: tuple[tuple[str, Any], ...] = (
    create("c1", enable_dynamic_field=True, properties=pairs(a="1"), consistency_level=2, shards_num=2),
    create("c1", enable_dynamic_field=True, properties=pairs(a="1"), consistency_level=2, shards_num=2),
    create("c1"),
    create("c2", primary(), vector(), PARTITION_KEY, num_partitions=4, autoID=True),
    create("c3", primary(), text("9", "abc"), with_default(DataType.Int8, ValueField(int_data=-3))),
    create("m1", db_name="music"),
    create("m1", db_name="no_such"),
    call_of("CreateCollection", "DropCollection", collection_name="x", schema=schema("x", primary())),
    create("x", shards_num=17),
    create("x", shards_num=6),
    create("x", schema_name="y"),
    create("x", FieldSchema(name="RowID", data_type=DataType.Int64)),
    create("x", FieldSchema(name="$meta", data_type=DataType.JSON)),
    create("x", primary(), PARTITION_KEY),
    create("x", primary(), PARTITION_KEY, num_partitions=7),
    create("x", with_default(DataType.Int64, ValueField(bool_data=True))),
    create("x", with_default(DataType.Int64, ValueField(int_data=1))),
    create("x", with_default(DataType.Int32, ValueField(long_data=1))),
    create("x", with_default(DataType.Int32, ValueField(float_data=1))),
    create("x", with_default(DataType.Int32, ValueField(double_data=1))),
    create("x", with_default(DataType.String, ValueField(string_data="x"))),
    create("x", with_default(DataType.Int8, ValueField(int_data=128))),
    create("x", with_default(DataType.Int16, ValueField(int_data=-32769))),
    create("x", text(None, "abc")),
    create("x", text("many", "abc")),
    create("x", text("3", "äöü")),
    call_of("CreateCollection", collection_name="x", schema=b"\xff\xff"),
    # Aliases.
    call_of("CreateAlias", alias="a1", collection_name="c1"),
    call_of("CreateAlias", alias="a1", collection_name="c1"),
    call_of("CreateAlias", alias="a1", collection_name="c2"),
    call_of("CreateAlias", alias="a1", collection_name="no"),
    call_of("CreateAlias", alias="c2", collection_name="c1"),
    call_of("CreateAlias", alias="a2", collection_name="a1"),
    call_of("CreateAlias", alias="a2", collection_name="c1", db_name="no_such"),
    call_of("CreateAlias", "DropAlias", alias="a2", collection_name="c1"),
    call_of("CreateAlias", alias="a1", collection_name="m1", db_name="music"),
    call_of("AlterAlias", alias="a1", collection_name="c2"),
    call_of("AlterAlias", alias="a1", collection_name="no"),
    call_of("AlterAlias", alias="a2", collection_name="c2"),
    call_of("AlterAlias", alias="c1", collection_name="c2"),
    call_of("AlterAlias", alias="a1", collection_name="c2", db_name="no_such"),
    call_of("AlterAlias", "Undefined", alias="a1", collection_name="c2"),
    call_of("DropAlias", alias="a2"),
    call_of("DropAlias", alias="a1", db_name="no_such"),
    call_of("DropAlias", "CreateAlias", alias="a1"),
    create("a1"),
    # Properties.
    call_of("AlterCollection", "Undefined", collection_name="c2", properties=pairs(a="2", b="3")),
    call_of("AlterCollection", "Undefined", collection_name="a1", properties=pairs(c="4")),
    call_of("AlterCollection", "Undefined", properties=pairs(a="2")),
    call_of("AlterCollection", "Undefined", collection_name="no"),
    call_of("AlterCollection", "Undefined", collection_name="no", properties=pairs(a="2")),
    call_of("AlterCollection", "Undefined", collection_name="no", db_name="no_such", properties=pairs(a="2")),
    # Partitions.
    call_of("CreatePartition", collection_name="c1", partition_name="p1"),
    call_of("CreatePartition", collection_name="c1", partition_name="p1"),
    call_of("CreatePartition", collection_name="no", partition_name="p1"),
    call_of("CreatePartition", collection_name="m1", partition_name="p1", db_name="music"),
    call_of("CreatePartition", collection_name="m1", partition_name="p1", db_name="no_such"),
    call_of("CreatePartition", "Undefined", collection_name="c1", partition_name="p2"),
    call_of("CreatePartition", collection_name="a1", partition_name="p2"),
    call_of("CreatePartition", collection_name="a1", partition_name="p3"),
    call_of("CreatePartition", collection_name="a1", partition_name="p4"),
    call_of("DropPartition", collection_name="c1", partition_name="p1"),
    call_of("DropPartition", collection_name="c1", partition_name="p1"),
    call_of("DropPartition", collection_name="c1", partition_name="_default"),
    call_of("DropPartition", collection_name="no", partition_name="p1"),
    call_of("DropPartition", collection_name="c1", partition_name="p1", db_name="no_such"),
    call_of("DropPartition", "Undefined", collection_name="c1", partition_name="_default"),
    # Names.
    call_of("RenameCollection", oldName="c3", newName="c4"),
    call_of("RenameCollection", oldName="c3", newName="c5"),
    call_of("RenameCollection", oldName="c4", newName="c4"),
    call_of("RenameCollection", oldName="c4", newName="a1"),
    call_of("RenameCollection", oldName="a1", newName="c5"),
    call_of("RenameCollection", oldName="c4", newName="c5", newDBName="no_such"),
    call_of("RenameCollection", oldName="c4", newName="c5", db_name="no_such"),
    call_of("RenameCollection", oldName="c4", newName="c5", db_name="no_such", newDBName="music"),
    call_of("RenameCollection", oldName="c2", newName="c5", newDBName="music"),
    call_of("RenameCollection", "Undefined", oldName="c4", newName="c5"),
    call_of("RenameCollection", oldName="c4", newName="c4", newDBName="music"),
    call_of("RenameCollection", oldName="c4", newName="c4", db_name="music", newDBName="default"),
    # Drops.
    call_of("DropCollection", collection_name="a1", db_name="default"),
    call_of("DropCollection", collection_name="no"),
    call_of("DropCollection", collection_name="c1", db_name="no_such"),
    call_of("DropCollection", "Undefined", collection_name="c1"),
    call_of("DropCollection", collection_name="c1"),
    call_of("DropCollection", collection_name="c1"),
    call_of("CreatePartition", collection_name="c1", partition_name="p9"),
    call_of("DropPartition", collection_name="c1", partition_name="p9"),
    call_of("AlterCollection", "Undefined", collection_name="c1", properties=pairs(a="2")),
    call_of("RenameCollection", oldName="c1", newName="c9"),
    call_of("CreateAlias", alias="a3", collection_name="c1"),
    call_of("AlterAlias", alias="a1", collection_name="c1"),
    call_of("CreateAlias", alias="c1", collection_name="c2"),
    call_of("DropAlias", alias="c1"),
    create("c1"),
    # Limits: 7 in a database, 8 in all.
    *(create(f"n{number}") for number in range(5)),
    create("m2", db_name="music"),
    create("m3", db_name="music"),
)


@dataclass
class Ours:
    """What a plan says, with what Milvus had handed out."""

    tables: RootCoordTables
    new: dict[str, bytes]
    timestamp: int

    def answer(self, method: str, request: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The answer as data, and the keys with their last values."""
        plan: Callable[[Any], tuple[Write, ...]] = {
            "CreateCollection": self.create,
            "CreatePartition": self.create_partition,
            "DropPartition": self.drop_partition,
        }.get(method) or self.simple(method)
        try:
            writes = plan(request)
        except MilvusError as error:
            return as_data(error.to_status()), {}
        return as_data(success()), {write.key: write.value for write in writes if isinstance(write, Put)}

    def simple(self, method: str) -> Callable[[Any], tuple[Write, ...]]:
        plan: Callable[..., Change] = {
            "DropCollection": plans.plan_drop,
            "AlterCollection": plans.plan_alter,
            "RenameCollection": plans.plan_rename,
            "CreateAlias": plans.plan_create_alias,
            "DropAlias": plans.plan_drop_alias,
            "AlterAlias": plans.plan_alter_alias,
        }[method]
        return lambda request: plan(self.tables, LAYOUT, request, self.timestamp).writes

    def create(self, request: Any) -> tuple[Write, ...]:
        wanted = plans.define(self.tables, request, limits=LIMITS, default_partition="_default")
        if plans.existing(self.tables, wanted):
            return ()
        info = self.new_value(LAYOUT.collections_of(wanted.db_id), etcd_meta_pb2.CollectionInfo)
        first = self.new_value(LAYOUT.partition_prefix, etcd_meta_pb2.PartitionInfo)
        placement = Placement(
            collection_id=info.ID,
            first_partition_id=first.partitionID,
            timestamp=self.timestamp,
            virtual_channels=tuple(info.virtual_channel_names),
            physical_channels=tuple(info.physical_channel_names),
            start_positions=tuple((pair.key, pair.data) for pair in info.start_positions),
        )
        steps = plans.plan_begin(self.tables, LAYOUT, wanted, placement)
        begun = {write.key: write.value for step in steps for write in step if isinstance(write, Put)}
        later = tables_of({**self.databases, **begun})
        return tuple(write for step in steps for write in step) + plans.plan_finish(
            later, LAYOUT, info.ID, self.timestamp
        )

    @property
    def databases(self) -> dict[str, bytes]:
        return {
            LAYOUT.database(one.id): etcd_meta_pb2.DatabaseInfo(id=one.id, name=one.name).SerializeToString()
            for one in self.tables.databases
        }

    def create_partition(self, request: Any) -> tuple[Write, ...]:
        keys = [key for key in self.new if key.startswith(LAYOUT.partition_prefix)]
        stamp = Stamp(self.timestamp, int(keys[0].rpartition("/")[2]) if keys else 1)
        limit = LIMITS.partitions
        change = plans.plan_create_partition(self.tables, LAYOUT, request, stamp, limit=limit)
        if not change.writes:
            return ()
        row = self.tables.collections.get(change.collection_id)
        assert row is not None
        begun = {write.key: write.value for write in change.writes if isinstance(write, Put)}
        later = tables_of({LAYOUT.collection(row.db_id, row.collection_id): row.value, **begun})
        return change.writes + plans.plan_finish_partition(later, LAYOUT, row.collection_id, stamp.id)

    def drop_partition(self, request: Any) -> tuple[Write, ...]:
        return plans.plan_drop_partition(
            self.tables, LAYOUT, request, self.timestamp, default_partition="_default"
        ).writes

    def new_value(self, prefix: str, kind: Any) -> Any:
        """The first new value under a prefix."""
        found = sorted(key for key in self.new if key.startswith(prefix))
        return kind.FromString(self.new[found[0]])


def timestamp_of(answer: dict[str, Any], new: dict[str, bytes]) -> int:
    """What Milvus took for this change: its snapshots, or its refusal, tell."""
    stamps = {parsed[1] for key in new if (parsed := LAYOUT.parse_snapshot(key))}
    said = re.match(r"timestamp = (\d+): ", answer.get("reason", ""))
    return max(stamps, default=int(said[1]) if said else 1)


def without_properties(values: dict[str, bytes]) -> dict[str, bytes]:
    """AlterCollection of 2.3.5 writes the old ones again, so the plain key stays as it is (pitfall 8)."""
    out = {}
    for key, value in values.items():
        info = etcd_meta_pb2.CollectionInfo.FromString(value)
        del info.properties[:]
        out[key] = info.SerializeToString()
    return out


def test_plans_answer_and_write_what_milvus_does(tmp_path: Path) -> None:
    codes = set()
    with milvus(tmp_path) as side:
        music = milvus_pb2.CreateDatabaseRequest(base=base("CreateDatabase"), db_name="music")
        assert side.call("CreateDatabase", music) == {}
        for number, (method, request) in enumerate(CALLS):
            what = f"call {number}: {method} {json_format.MessageToJson(request, indent=None)}"
            before = side.held()
            answer = side.call(method, request)
            after = side.held()
            new = {key: value for key, value in after.items() if before.get(key) != value}
            ours = Ours(tables_of(before), new, timestamp_of(answer, new))
            our_answer, our_values = ours.answer(method, request)
            assert our_answer == answer, what
            if method == "AlterCollection" and new:
                new |= {key: before[key] for key in our_values if key in before}
                our_values, new = without_properties(our_values), without_properties(new)
            assert our_values == new, what
            codes.add(answer.get("code", 0))
    assert codes == {0, 100, 102, 800, 1100, 1600, 1601, 1602, 65535}


def test_where_we_differ_milvus_does_what_is_said_of_it(tmp_path: Path) -> None:
    """Each pair: what Milvus answers, and what our plan says from the state that Milvus answered from."""
    with milvus(tmp_path) as side:

        def both(method: str, request: Any) -> tuple[str, str]:
            before = side.held()
            theirs = side.call(method, request)
            new = {key: value for key, value in side.held().items() if before.get(key) != value}
            ours, _ = Ours(tables_of(before), new, timestamp_of(theirs, new)).answer(method, request)
            return theirs.get("reason", ""), ours.get("reason", "")

        default = with_default(DataType.Int32, ValueField(int_data=1))
        for name in ("a", "b", "c"):
            assert both(*create(name, primary(), default)) == ("", "")
        duplicate = "create duplicate collection with different parameters, collection: a"
        assert both(*create("a", primary(), default)) == (duplicate, "")
        assert both(*create("")) == ("", "collection name should not be empty: invalid parameter")

        for name in ("x", "xy"):
            assert both(*call_of("CreateAlias", alias=name, collection_name="a")) == ("", "")
        before = side.held()
        assert both(*call_of("DropAlias", alias="x")) == ("", "")
        plain = LAYOUT.alias(1, "xy")
        assert (before[plain] != TOMBSTONE, side.held()[plain]) == (True, TOMBSTONE)
        wanted = asked("DropAlias", alias="x")
        ours = plans.plan_drop_alias(tables_of(before), LAYOUT, wanted, 1).writes
        assert [write.key for write in ours] == [
            LAYOUT.alias(1, "x"),
            LAYOUT.snapshot(LAYOUT.alias(1, "x"), 1),
        ]

        assert both(*call_of("CreateAlias", alias="y", collection_name="b")) == ("", "")
        refused = "cannot drop the collection via alias = y"
        assert both(*call_of("DropCollection", collection_name="y")) == ("", refused)
        taken = "y is alias to another collection: b: alias already exist[database=default][alias=y]"
        assert both(*call_of("CreateAlias", alias="y", collection_name="c")) == (taken, "")
        assert both(*create("y")) == ("", "")
        tables = tables_of(side.held())
        assert tables.collections.find(1, "y") is not None
        assert tables.resolve(1, "y") is None


def with_history(values: dict[str, bytes]) -> dict[str, bytes]:
    """Keys with the snapshots from which 2.3 loads."""
    return values | {LAYOUT.snapshot(key, 5): value for key, value in values.items()}


def a_life() -> Place:
    """Collections of every age and fate, from metadata of 2.0 and 2.2 on."""
    place = Place.holding(
        with_history(BASE),
        with_history({LAYOUT.collection(0, 50): inline_collection_value(50, "oldest")}),
        with_history({LAYOUT.collection(0, 60): inline_collection_value(60, "older")}),
        with_history({LAYOUT.oldest_alias("o"): oldest_alias_value("o", 50)}),
        with_history({LAYOUT.alias(0, "p"): alias_value("p", 50, db_id=0)}),
    )

    def do(plan: Callable[..., Change], method: str, **fields: Any) -> Change:
        change = plan(place.tables, LAYOUT, asked(method, **fields), place.timestamp())
        place.commit(change.writes)
        return change

    def partition(name: str, collection_name: str) -> Change:
        request = asked("CreatePartition", collection_name=collection_name, partition_name=name)
        change = plans.plan_create_partition(place.tables, LAYOUT, request, place.stamp(), limit=99)
        place.commit(change.writes)
        return change

    def drop_partition(name: str, collection_name: str) -> Change:
        request = asked("DropPartition", collection_name=collection_name, partition_name=name)
        ts = place.timestamp()
        change = plans.plan_drop_partition(place.tables, LAYOUT, request, ts, default_partition="_default")
        place.commit(change.writes)
        return change

    place.create(create("books", enable_dynamic_field=True, properties=pairs(a="1"), shards_num=2)[1])
    place.create(create("many", primary(), PARTITION_KEY, num_partitions=80)[1])
    place.create(create("moved")[1])
    place.create(create("gone")[1])
    place.create(create("going")[1])
    do(plans.plan_alter, "AlterCollection", collection_name="books", properties=pairs(a="2", b="3"))
    do(plans.plan_alter, "AlterCollection", collection_name="oldest", properties=pairs(c="4"))
    do(plans.plan_create_alias, "CreateAlias", collection_name="books", alias="b")
    do(plans.plan_create_alias, "CreateAlias", collection_name="going", alias="moved_alias")
    do(plans.plan_alter_alias, "AlterAlias", collection_name="books", alias="p")
    do(plans.plan_create_alias, "CreateAlias", collection_name="older", alias="q")
    do(plans.plan_create_alias, "CreateAlias", collection_name="gone", alias="dead")
    do(plans.plan_rename, "RenameCollection", oldName="moved", newName="there", newDBName="music")
    for name in ("p1", "p2", "p3"):
        made = partition(name, "books")
        place.commit(plans.plan_finish_partition(place.tables, LAYOUT, made.collection_id, made.partition_id))
    dropped = drop_partition("p1", "books")
    ts = place.timestamp()
    place.commit(
        plans.plan_purge_partition(place.tables, LAYOUT, dropped.collection_id, dropped.partition_id, ts)
    )
    drop_partition("p2", "books")
    partition("unfinished", "oldest")
    drop_partition("second", "older")
    purged = do(plans.plan_drop, "DropCollection", collection_name="gone")
    place.commit_all(plans.plan_purge(place.tables, LAYOUT, purged.collection_id, place.timestamp()))
    do(plans.plan_drop, "DropCollection", collection_name="going")
    do(plans.plan_rename, "RenameCollection", oldName="older", newName="moved_alias")
    place.create(create("going")[1])
    unfinished = place.define(create("unfinished")[1])
    place.commit_all(plans.plan_begin(place.tables, LAYOUT, unfinished, place.placement(unfinished)))
    place.check()
    return place


def observed(stub: Stub) -> dict[str, Any]:
    """What a RootCoord answers of every collection and alias; in any order where Milvus has none."""
    out: dict[str, Any] = {}
    for db_name in ("default", "music"):
        where = {"db_name": db_name}
        shown = stub.call("ShowCollections", asked("ShowCollections", **where))
        aliases = stub.call("ListAliases", milvus_pb2.ListAliasesRequest(**where)).aliases
        out[f"{db_name} aliases"] = sorted(aliases)
        for name in (*shown.collection_names, *aliases, "gone", "dead"):
            where = {"db_name": db_name, "collection_name": name}
            described = stub.call("DescribeCollection", asked("DescribeCollection", **where))
            described.schema.fields.sort(key=lambda field: field.fieldID)
            described.aliases.sort()
            partitions = stub.call("ShowPartitions", asked("ShowPartitions", **where))
            rows = zip(
                partitions.partition_names,
                partitions.partitionIDs,
                partitions.created_timestamps,
                partitions.created_utc_timestamps,
                strict=True,
            )
            out[f"{db_name} {name}"] = json_format.MessageToDict(described), sorted(rows)
    return out


def test_milvus_loads_what_the_plans_have_written(tmp_path: Path) -> None:
    place = a_life()
    found = {key: place.etcd.at(key) for key in place.etcd.history}
    values = {key: kv.value for key, kv in found.items() if kv is not None}
    seen = {}
    for kind in ("milvus", "coordd"):
        with MilvusLab(tmp_path / kind, milvus=kind == "milvus") as lab:
            lab.etcd.load(values)
            rootcoord = lab.start("rootcoord") if kind == "milvus" else lab.start_coordd("rootcoord")
            rootcoord.wait_state("Healthy")
            with open_rootcoord(rootcoord.address) as stub:
                seen[kind] = observed(stub)
    for what, answer in seen["milvus"].items():
        assert seen["coordd"][what] == answer, what
    assert seen["coordd"].keys() == seen["milvus"].keys()
    assert seen["milvus"]["default aliases"] == ["b", "o", "p", "q"]
    assert {what.removeprefix("default ") for what, (body, _) in described_ones(seen["milvus"]).items()} == {
        *("books", "many", "oldest", "moved_alias", "going", "b", "o", "p", "q"),
        "music there",
    }


def described_ones(seen: dict[str, Any]) -> dict[str, Any]:
    """Those that a RootCoord knows."""
    return {what: answer for what, answer in seen.items() if "aliases" not in what and "schema" in answer[0]}
