"""Any sequence of plans, interrupted ones included: the tables describe what a simple model has."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordd.rootcoord.collections import (
    existing,
    plan_alter,
    plan_alter_alias,
    plan_alter_field,
    plan_begin,
    plan_create_alias,
    plan_create_partition,
    plan_drop,
    plan_drop_alias,
    plan_drop_partition,
    plan_finish,
    plan_finish_partition,
    plan_purge,
    plan_purge_partition,
    plan_rename,
    unfinished,
)
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import CREATED, CREATING, DROPPING, LAYOUT, collection, inline_collection_value
from tests.unit.rootcoord.collections.support import (
    DEFAULT_PARTITION,
    Place,
    a_field,
    create_request,
    pairs,
    request,
)

DATABASES = {"default": 1, "music": 7}
NAMES = st.sampled_from(["a", "b", "c"])
DB_NAMES = st.sampled_from(list(DATABASES))
PARTITIONS = st.sampled_from(["_default", "p", "q"])
FIELD = "id"
KEYED = [a_field(FIELD, is_partition_key=True)]
CHANGES = st.tuples(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2", None]))
"""A property and its new value; None: it is deleted."""
MANY = 65
OLD_ID = 50


def asked(changes: tuple[str, str | None]) -> dict[str, Any]:
    key, value = changes
    return {"delete_keys": [key]} if value is None else {"properties": pairs({key: value})}


def carry_out(changes: tuple[str, str | None], properties: dict[str, str]) -> None:
    key, value = changes
    properties.pop(key, None)
    if value is not None:
        properties[key] = value


@dataclass
class Collection:
    db: str
    name: str
    state: int
    many: bool = False
    properties: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)  # of the field `FIELD`
    partitions: dict[int, tuple[str, int]] = field(default_factory=dict)
    whole: bool = True  # all its keys are there

    @property
    def available_partitions(self) -> list[str]:
        return [name for name, state in self.partitions.values() if state == CREATED]


class Plans(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Place.holding(
            {LAYOUT.collection(0, OLD_ID): inline_collection_value(OLD_ID, "a")}, collection(60, "b", db_id=7)
        )
        self.collections = {
            OLD_ID: Collection("default", "a", CREATED, partitions={51: ("_default", 0), 52: ("second", 0)}),
            60: Collection("music", "b", CREATED, partitions={61: ("_default", 0)}),
        }
        self.aliases: dict[tuple[str, str], int] = {}

    # What the model says.

    def named(self, db: str, name: str) -> int | None:
        """The available collection of this name."""
        found = [
            key
            for key, one in self.collections.items()
            if (one.db, one.name, one.state) == (db, name, CREATED)
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def resolved(self, db: str, name: str) -> int | None:
        """The available collection that name or alias stands for."""
        if (db, name) not in self.aliases:
            return self.named(db, name)
        target = self.aliases[db, name]
        return target if self.collections[target].state == CREATED else None

    def forget_dead_alias(self, db: str, name: str) -> None:
        if self.resolved(db, name) is None:
            self.aliases.pop((db, name), None)

    def in_state(self, state: int) -> list[int]:
        return [key for key, one in self.collections.items() if one.state == state]

    def attempt(self, plan: Any, *args: Any, **rest: Any) -> Any:
        """What the plan says; None if it refuses."""
        try:
            return plan(self.place.tables, LAYOUT, *args, **rest)
        except MilvusError:
            return None

    # What is done.

    @rule(db=DB_NAMES, name=NAMES, many=st.booleans(), done=st.integers(0, 3))
    def create(self, db: str, name: str, many: bool, done: int) -> None:
        place = self.place
        wanted = create_request(name, KEYED, db_name=db, num_partitions=MANY if many else 1)
        definition = place.define(wanted)
        target = self.resolved(db, name)
        if target is not None:
            found = self.collections[target]
            equal = (
                found.name == name
                and target >= 1_000_000
                and not found.properties
                and not found.params
                and found.available_partitions == list(definition.partition_names)
            )
            try:
                assert existing(place.tables, definition) == target
            except MilvusError:
                assert not equal
            else:
                assert equal
            return
        assert existing(place.tables, definition) == 0
        spot = place.placement(definition)
        steps = plan_begin(place.tables, LAYOUT, definition, spot)
        assert len(steps) == (2 if many else 1)
        place.commit_all(steps[:done])
        if done:
            partitions = enumerate(definition.partition_names, spot.first_partition_id)
            self.collections[spot.collection_id] = Collection(
                db,
                name,
                CREATING,
                many,
                partitions={key: (partition, CREATED) for key, partition in partitions},
                whole=done >= len(steps),
            )

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ready = [key for key in self.in_state(CREATING) if self.collections[key].whole]
        if not ready:
            return
        key = data.draw(st.sampled_from(ready))
        found = self.collections[key]
        taken = self.resolved(found.db, found.name) is not None
        writes = self.attempt(plan_finish, key, self.place.timestamp())
        assert (writes is None) == taken
        if not taken:
            self.place.commit(writes)
            self.forget_dead_alias(found.db, found.name)
            found.state = CREATED

    @rule(db=DB_NAMES, name=NAMES)
    def drop(self, db: str, name: str) -> None:
        wanted = request("DropCollection", collection_name=name, db_name=db)
        change = self.attempt(plan_drop, wanted, self.place.timestamp())
        if (db, name) in self.aliases:
            assert change is None
            return
        target = self.named(db, name)
        assert change.collection_id == (target or 0)
        self.place.commit(change.writes)
        if target is not None:
            self.collections[target].state = DROPPING

    @rule(data=st.data(), done=st.integers(0, 4))
    def purge(self, data: st.DataObject, done: int) -> None:
        gone = self.in_state(CREATING) + self.in_state(DROPPING)
        if not gone:
            return
        key = data.draw(st.sampled_from(gone))
        steps = tuple(plan_purge(self.place.tables, LAYOUT, key, self.place.timestamp()))
        self.place.commit_all(steps[:done])
        if done:
            self.aliases = {where: target for where, target in self.aliases.items() if target != key}
            self.collections[key].whole = False
        if done >= len(steps):
            del self.collections[key]

    @rule(db=DB_NAMES, name=NAMES, changes=CHANGES)
    def alter(self, db: str, name: str, changes: tuple[str, str | None]) -> None:
        wanted = request("AlterCollection", collection_name=name, db_name=db, **asked(changes))
        change = self.attempt(plan_alter, wanted, self.place.timestamp())
        target = self.resolved(db, name)
        assert (change is None) == (target is None)
        if target is not None:
            self.place.commit(change.writes)
            carry_out(changes, self.collections[target].properties)

    @rule(db=DB_NAMES, name=NAMES, changes=CHANGES)
    def alter_field(self, db: str, name: str, changes: tuple[str, str | None]) -> None:
        wanted = request(
            "AlterCollectionField", collection_name=name, db_name=db, field_name=FIELD, **asked(changes)
        )
        change = self.attempt(plan_alter_field, wanted, self.place.timestamp())
        target = self.resolved(db, name)
        assert (change is None) == (target is None)
        if target is not None:
            self.place.commit(change.writes)
            carry_out(changes, self.collections[target].params)

    @rule(db=DB_NAMES, name=NAMES, new_db=DB_NAMES, new_name=NAMES)
    def rename(self, db: str, name: str, new_db: str, new_name: str) -> None:
        wanted = request("RenameCollection", oldName=name, db_name=db, newName=new_name, newDBName=new_db)
        change = self.attempt(plan_rename, wanted, self.place.timestamp())
        target = self.named(db, name)
        if (
            target is None
            or (db, name) in self.aliases
            or self.resolved(new_db, new_name) is not None
            or (db != new_db and target in self.aliases.values())
        ):
            assert change is None
            return
        self.place.commit(change.writes)
        self.forget_dead_alias(new_db, new_name)
        self.collections[target].db, self.collections[target].name = new_db, new_name

    @rule(db=DB_NAMES, name=NAMES, partition=PARTITIONS)
    def create_partition(self, db: str, name: str, partition: str) -> None:
        wanted = request("CreatePartition", collection_name=name, db_name=db, partition_name=partition)
        change = self.attempt(plan_create_partition, wanted, self.place.stamp(), limit=MANY)
        target = self.resolved(db, name)
        known = [] if target is None else self.collections[target].available_partitions
        if target is None or (len(known) >= MANY and partition not in known):
            assert change is None
            return
        assert (change.partition_id == 0) == (partition in known)
        self.place.commit(change.writes)
        if change.partition_id:
            self.collections[target].partitions[change.partition_id] = (partition, CREATING)

    @rule(db=DB_NAMES, name=NAMES, partition=PARTITIONS)
    def drop_partition(self, db: str, name: str, partition: str) -> None:
        wanted = request("DropPartition", collection_name=name, db_name=db, partition_name=partition)
        change = self.attempt(
            plan_drop_partition, wanted, self.place.timestamp(), default_partition=DEFAULT_PARTITION
        )
        target = self.resolved(db, name)
        if target is None or partition == DEFAULT_PARTITION:
            assert change is None
            return
        partitions = self.collections[target].partitions
        found = [key for key, one in partitions.items() if one == (partition, CREATED)]
        assert change.partition_id == (found[0] if found else 0)
        self.place.commit(change.writes)
        if found:
            partitions[found[0]] = (partition, DROPPING)

    @rule(data=st.data(), finish=st.booleans())
    def end_partition(self, data: st.DataObject, finish: bool) -> None:
        """Finish one that is being created, or purge one that is being created or dropped."""
        open_ones = [
            (key, partition)
            for key in self.in_state(CREATED)
            for partition, (_, state) in self.collections[key].partitions.items()
            if state != CREATED
        ]
        if not open_ones:
            return
        key, partition = data.draw(st.sampled_from(open_ones))
        partitions = self.collections[key].partitions
        name, state = partitions[partition]
        if not finish:
            writes = self.attempt(plan_purge_partition, key, partition, self.place.timestamp())
            self.place.commit(writes)
            del partitions[partition]
            return
        writes = self.attempt(plan_finish_partition, key, partition)
        taken = name in self.collections[key].available_partitions
        assert (writes is None) == (state == DROPPING or taken)
        if writes is not None:
            self.place.commit(writes)
            partitions[partition] = (name, CREATED)

    @rule(db=DB_NAMES, alias=NAMES, name=NAMES)
    def create_alias(self, db: str, alias: str, name: str) -> None:
        wanted = request("CreateAlias", db_name=db, alias=alias, collection_name=name)
        change = self.attempt(plan_create_alias, wanted, self.place.timestamp())
        target, present = self.named(db, name), self.aliases.get((db, alias))
        alive = present is not None and self.collections[present].state == CREATED
        refused = target is None or self.is_held(db, alias) or (alive and present != target)
        assert (change is None) == refused
        if target is not None and not refused:
            self.place.commit(change.writes)
            self.aliases[db, alias] = target

    @rule(db=DB_NAMES, alias=NAMES, name=NAMES)
    def alter_alias(self, db: str, alias: str, name: str) -> None:
        wanted = request("AlterAlias", db_name=db, alias=alias, collection_name=name)
        change = self.attempt(plan_alter_alias, wanted, self.place.timestamp())
        target = self.named(db, name)
        refused = target is None or self.is_held(db, alias) or (db, alias) not in self.aliases
        assert (change is None) == refused
        if target is not None and not refused:
            self.place.commit(change.writes)
            self.aliases[db, alias] = target

    @rule(db=DB_NAMES, alias=NAMES)
    def drop_alias(self, db: str, alias: str) -> None:
        wanted = request("DropAlias", db_name=db, alias=alias)
        self.place.commit(self.attempt(plan_drop_alias, wanted, self.place.timestamp()).writes)
        self.aliases.pop((db, alias), None)

    def is_held(self, db: str, name: str) -> bool:
        """Whether a collection that is or will be available has the name."""
        return any(
            (one.db, one.name) == (db, name) and one.state != DROPPING for one in self.collections.values()
        )

    # What must hold.

    @invariant()
    def tables_are_as_the_model(self) -> None:
        tables = self.place.tables
        assert {row.collection_id: (row.home_db_id, row.name, row.state) for row in tables.collections} == {
            key: (DATABASES[one.db], one.name, one.state) for key, one in self.collections.items()
        }
        assert {(alias.db_id, alias.name): alias.collection_id for alias in tables.aliases} == {
            (DATABASES[db], name): target for (db, name), target in self.aliases.items()
        }
        for key, one in self.collections.items():
            if one.whole:
                self.is_as_the_model(key, one)

    def is_as_the_model(self, key: int, one: Collection) -> None:
        view = self.place.view(key)
        assert {pair.key: pair.value for pair in view.info.properties} == one.properties
        assert {part.id: (part.name, part.state) for part in view.partitions} == one.partitions
        (changed,) = (found for found in view.fields if found.name == FIELD)
        assert {pair.key: pair.value for pair in changed.type_params} == one.params
        names = {field.name for field in view.fields}
        assert names >= {"RowID", "Timestamp"}
        assert len(names) >= 3

    @rule()
    def restart(self) -> None:
        """A new term loads what is there."""
        self.place.check()
        self.place.load()

    def teardown(self) -> None:
        self.place.check()

    @invariant()
    def a_new_term_finds_what_is_unfinished(self) -> None:
        found = unfinished(self.place.tables)
        assert list(found.creating) == sorted(self.in_state(CREATING))
        assert list(found.dropping) == sorted(self.in_state(DROPPING))
        open_ones = {
            (key, partition): state
            for key in self.in_state(CREATED)
            for partition, (_, state) in self.collections[key].partitions.items()
            if state != CREATED
        }
        assert (
            dict.fromkeys(found.creating_partitions, CREATING)
            | dict.fromkeys(found.dropping_partitions, DROPPING)
            == open_ones
        )


TestPlans = Plans.TestCase
TestPlans.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
