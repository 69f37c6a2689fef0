"""A place where plans are carried out: an etcd in memory, and tables that fold what is written to it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordd.etcd import Event, Put
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.fold import Fold
from coordd.meta.layout import MAX_TS
from coordd.meta.snapshot import values_at
from coordd.meta.tables import CollectionView, RootCoordTables
from coordd.meta.transaction import Write
from coordd.pb import common_pb2, milvus_pb2, schema_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgType
from coordd.rootcoord.collections import Definition, Limits, Placement, define, plan_begin, plan_finish
from coordd.rootcoord.databases import Stamp
from tests.unit.meta.samples import LAYOUT, database, range_result
from tests.unit.rootcoord.memory_etcd import MemoryEtcd

BASE: dict[str, bytes] = {**database(1, "default"), **database(7, "music")}
LIMITS = Limits(dml_channels=16, shards=16, collections_per_db=64, collections=100, partitions=200)
DEFAULT_PARTITION = "_default"
INT64, VARCHAR = schema_pb2.DataType.Int64, schema_pb2.DataType.VarChar
VECTOR = schema_pb2.DataType.FloatVector


def pairs(values: Mapping[str, str]) -> list[KeyValuePair]:
    return [KeyValuePair(key=key, value=value) for key, value in values.items()]


def base(kind: str) -> common_pb2.MsgBase:
    return common_pb2.MsgBase(msg_type=MsgType.Value(kind))


def a_field(name: str, data_type: Any = INT64, **rest: Any) -> schema_pb2.FieldSchema:
    return schema_pb2.FieldSchema(name=name, data_type=data_type, **rest)


def some_fields() -> list[schema_pb2.FieldSchema]:
    return [
        a_field("id", is_primary_key=True, description="the key"),
        a_field("vector", VECTOR, type_params=pairs({"dim": "8"})),
    ]


def create_request(
    name: str = "books",
    fields: Iterable[schema_pb2.FieldSchema] | None = None,
    *,
    db_name: str = "",
    dynamic: bool = False,
    schema_name: str | None = None,
    **rest: Any,
) -> milvus_pb2.CreateCollectionRequest:
    schema = schema_pb2.CollectionSchema(
        name=name if schema_name is None else schema_name,
        description="a collection",
        fields=some_fields() if fields is None else fields,
        enable_dynamic_field=dynamic,
    )
    return milvus_pb2.CreateCollectionRequest(
        base=base("CreateCollection"),
        db_name=db_name,
        collection_name=name,
        schema=schema.SerializeToString(),
        **rest,
    )


def request(method: str, **fields: Any) -> Any:
    """A request of the method with the message type that it asks for."""
    return getattr(milvus_pb2, f"{method}Request")(base=base(method), **fields)


@dataclass
class Place:
    """`Place.holding(...)`: the keys that are there at first."""

    etcd: MemoryEtcd
    tables: RootCoordTables
    fold: Fold
    clock: int = 1_000_000
    transactions: list[tuple[Write, ...]] = field(default_factory=list)

    @classmethod
    def holding(cls, *states: Mapping[str, bytes]) -> "Place":
        etcd = MemoryEtcd.holding({key: value for state in (BASE, *states) for key, value in state.items()})
        return cls(etcd, *_load(etcd))

    def timestamp(self) -> int:
        """Newer than all before."""
        self.clock += 1
        return self.clock << 18

    def new_id(self) -> int:
        self.clock += 1
        return self.clock

    def stamp(self) -> Stamp:
        return Stamp(timestamp=self.timestamp(), id=self.new_id())

    def commit(self, writes: Sequence[Write]) -> None:
        """One transaction, as etcd and the committer take it."""
        if not writes:
            return
        keys = [write.key for write in writes]
        assert len(keys) <= 127
        assert len(set(keys)) == len(keys)
        self.transactions.append(tuple(writes))
        self.etcd.revision += 1
        events = []
        for write in writes:
            assert isinstance(write, Put)
            self.etcd._put(write.key, write.value)
            events.append(Event(write.key, write.value, self.etcd.revision, 0, 0, 0))
        self.fold.apply_commit(self.etcd.revision, events)

    def commit_all(self, transactions: Iterable[Sequence[Write]]) -> None:
        for writes in transactions:
            self.commit(writes)

    def live(self, prefix: str = LAYOUT.root_coord_prefix) -> dict[str, bytes]:
        """Plain keys that are neither deleted nor tombstoned."""
        found = {key: self.etcd.at(key) for key in self.etcd.history if key.startswith(prefix)}
        return {
            key: kv.value for key, kv in sorted(found.items()) if kv is not None and kv.value != TOMBSTONE
        }

    def history(self, key: str) -> dict[int, bytes]:
        """Values of a key's snapshots by timestamp."""
        out = {}
        for name in self.etcd.history:
            parsed = LAYOUT.parse_snapshot(name)
            kv = self.etcd.at(name)
            if parsed is not None and parsed[0] == key and kv is not None:
                out[parsed[1]] = kv.value
        return out

    def reloaded(self) -> RootCoordTables:
        """Tables that a new term loads from etcd."""
        return _load(self.etcd)[0]

    def load(self) -> None:
        """Start anew from etcd."""
        self.tables, self.fold = _load(self.etcd)

    def check(self) -> None:
        """Whoever loads finds the same, be it from plain keys or from snapshots; nothing is unreadable."""
        assert described(self.reloaded()) == described(self.tables)
        assert not self.fold.quarantine
        plain = self.live()
        found = {name: self.etcd.at(name) for name in self.etcd.history}
        newest = values_at(LAYOUT, [kv for kv in found.values() if kv is not None], MAX_TS)
        keys = {parsed[0] for name in found if (parsed := LAYOUT.parse_snapshot(name))}
        assert newest == {key: value for key, value in plain.items() if key in keys}

    def define(self, wanted: milvus_pb2.CreateCollectionRequest, limits: Limits = LIMITS) -> Definition:
        return define(self.tables, wanted, limits=limits, default_partition=DEFAULT_PARTITION)

    def placement(self, definition: Definition) -> Placement:
        """IDs and channels as if handed out just now."""
        collection_id = self.new_id()
        first = self.new_id()
        self.clock += len(definition.partition_names)
        channels = tuple(f"by-dev-rootcoord-dml_{number}" for number in range(definition.shards_num))
        return Placement(
            collection_id=collection_id,
            first_partition_id=first,
            timestamp=definition.replicated_at or self.timestamp(),
            virtual_channels=tuple(f"{name}_{collection_id}v{i}" for i, name in enumerate(channels)),
            physical_channels=channels,
            start_positions=tuple((name, b"\x01\0\0\0\0\0\0\0") for name in channels),
        )

    def create(self, wanted: milvus_pb2.CreateCollectionRequest) -> int:
        """A collection from request to availability; returns its ID."""
        definition = self.define(wanted)
        placement = self.placement(definition)
        steps = plan_begin(self.tables, LAYOUT, definition, placement)
        assert steps
        self.commit_all(steps)
        self.commit(plan_finish(self.tables, LAYOUT, placement.collection_id, self.timestamp()))
        return placement.collection_id

    def view(self, collection_id: int) -> CollectionView:
        view = self.tables.collections.whole(collection_id)
        assert view is not None
        return view


def _load(etcd: MemoryEtcd) -> tuple[RootCoordTables, Fold]:
    tables = RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    present = {key: etcd.at(key) for key in etcd.history}
    values = {key: kv.value for key, kv in present.items() if kv is not None}
    fold.load(range_result(values, etcd.revision))
    return tables, fold


def described(tables: RootCoordTables) -> dict[str, Any]:
    """All that tables tell of collections and aliases."""
    collections = tables.collections
    return {
        "collections": {
            row.collection_id: (
                row.home_db_id,
                row.name,
                row.state,
                (view := collections.view(row.collection_id)) and view.info,
                view and view.fields,
                view and view.partitions,
                collections.keys_of(row.collection_id),
            )
            for row in collections
        },
        "counts": (len(collections), collections.available_count, collections.partition_count),
        "per database": [collections.available_in_db(db_id) for db_id in (1, 7)],
        "aliases": [(alias.db_id, alias.name, alias.collection_id) for alias in tables.aliases],
    }
