"""All of RootCoord's tables: whatever the way to a state, they end up as if they had loaded it."""

import random
from typing import Any

import pytest

from coordd.etcd import Event, RangeResult, WatchBatch
from coordd.meta.codecs import TOMBSTONE
from coordd.meta.fold import Fold
from coordd.meta.tables import RootCoordTables
from tests.unit.meta.samples import (
    CREATED,
    CREATING,
    DROPPING,
    LAYOUT,
    alias_value,
    collection_value,
    database_value,
    field_value,
    inline_collection_value,
    oldest_alias_value,
    partition_value,
)
from tests.unit.meta.test_fold_model import History

BAD = b"\xff\xff"
COLLECTIONS = (50, 60)
DATABASES = (0, 1, 2)


def candidates() -> dict[str, list[bytes]]:
    """Values that each of a few keys may take; the fewer keys, the more often they meet."""
    values: dict[str, list[bytes]] = {
        LAYOUT.database(2): [database_value(2, "b"), database_value(2, "c")],
        LAYOUT.database(3): [database_value(3, "b")],
        LAYOUT.alias(1, "a"): [alias_value("a", 50), alias_value("a", 60)],
        LAYOUT.alias(0, "a"): [alias_value("a", 50), alias_value("a", 60)],
        LAYOUT.oldest_alias("a"): [oldest_alias_value("a", 60)],
        LAYOUT.alias(2, "n"): [alias_value("n", 50)],
        LAYOUT.user("u"): [b'{"encrypted_password":"x"}', b'{"encrypted_password":"y"}'],
        LAYOUT.role("r"): [b""],
        LAYOUT.user_role("u", "r"): [b""],
        LAYOUT.user_role("v", "r"): [b""],
        LAYOUT.grantee("r", "Global", "*.*"): [b"g", b"h"],
        LAYOUT.grantee_id("g", "PrivilegeLoad"): [b"root", b"u"],
        LAYOUT.role_prefix + "not/a/role": [b""],
        LAYOUT.import_task(80): [b"\x08P", b"\x08P\x10\x01", b"\x08Q"],
        LAYOUT.snapshot(LAYOUT.role("r"), 5): [b"of no table"],
    }
    for collection_id in COLLECTIONS:
        for db_id in DATABASES:
            values[LAYOUT.collection(db_id, collection_id)] = [
                collection_value(collection_id, name, db_id=db_id, state=state)
                for name in ("n", "m")
                for state in (CREATED, CREATED, CREATING, DROPPING)
            ]
        values[LAYOUT.collection(0, collection_id)].append(inline_collection_value(collection_id, "n"))
        for field_id in (0, 100):
            values[LAYOUT.field(collection_id, field_id)] = [
                field_value(field_id, name) for name in ("x", "y")
            ]
        values[LAYOUT.partition(collection_id, 70)] = [
            partition_value(collection_id, 70, "p", state) for state in (CREATED, CREATING, DROPPING)
        ]
    return values


CANDIDATES = candidates()


def dump(tables: RootCoordTables, fold: Fold) -> dict[str, Any]:
    """Everything a reader can see."""
    collections = tables.collections
    return {
        "databases": (list(tables.databases), [tables.databases.by_name(name) for name in ("b", "c")]),
        "rows": sorted(collections, key=lambda row: row.collection_id),
        "counts": (len(collections), collections.available_count, collections.partition_count),
        "channels": dict(collections.channel_uses),
        "unsettled": sorted(
            (row.collection_id, sorted(partition.id for partition in partitions))
            for row, partitions in collections.unsettled()
        ),
        "found": [[collections.find(db_id, name) for name in ("n", "m")] for db_id in DATABASES],
        "in_db": [
            collections.in_db(db_id, available_only=flag) for db_id in DATABASES for flag in (True, False)
        ],
        "holders": [
            sorted(collections.holders(db_id, name), key=lambda row: row.collection_id)
            for db_id in DATABASES
            for name in ("n", "m")
        ],
        "views": [
            view and (view.info, view.fields, view.partitions, view.damaged)
            for view in map(collections.view, COLLECTIONS)
        ],
        "keys": [sorted(collections.keys_of(collection_id)) for collection_id in COLLECTIONS],
        "damaged": [collections.damaged_keys(collection_id) for collection_id in COLLECTIONS],
        "aliases": (list(tables.aliases), [tables.aliases.of_collection(one) for one in COLLECTIONS]),
        "alias keys": tables.aliases.keys_of(1, "a"),
        "resolved": [tables.resolve(db_id, name) for db_id in DATABASES for name in ("a", "n", "m")],
        "users": (tables.users.names(), tables.users.encrypted_password("u"), tables.users.is_damaged("u")),
        "roles": (tables.roles.names(), list(tables.user_roles), tables.user_roles.users_of("r")),
        "grants": (list(tables.grants), tables.grants.privileges("g")),
        "imports": (list(tables.import_tasks), tables.import_tasks.is_damaged(80)),
        "quarantine": {(bad.key, bad.revision) for bad in fold.quarantine},
    }


def looked_through(tables: RootCoordTables) -> list[tuple[int, list[int]]]:
    """What is being created or dropped, found without an index."""
    out = []
    for row in tables.collections:
        view = tables.collections.view(row.collection_id)
        assert view is not None
        partitions = sorted(one.id for one in view.partitions if not one.available)
        if partitions or not row.available:
            out.append((row.collection_id, partitions))
    return sorted(out)


def fresh(result: RangeResult) -> dict[str, Any]:
    tables = RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    fold.load(result)
    return dump(tables, fold)


def random_writes(draw: random.Random) -> dict[str, bytes | None]:
    keys = draw.sample(sorted(CANDIDATES), draw.randint(1, 3))
    return {key: draw.choice([*CANDIDATES[key], TOMBSTONE, BAD, None]) for key in keys}


@pytest.mark.parametrize("seed", range(60))
def test_tables_equal_a_fresh_load(seed: int) -> None:
    draw = random.Random(seed)
    etcd = History()
    tables = RootCoordTables(LAYOUT)
    fold = Fold(tables.tables)
    fold.load(etcd.read(1))
    for _ in range(40):
        writes = random_writes(draw)
        revision = etcd.commit(writes)
        match draw.randrange(4):
            case 0:
                events = [Event(key, value, revision, 0, 0, 0) for key, value in writes.items()]
                fold.apply_commit(revision, draw.sample(events, len(events)))
            case 1:
                fold.apply(etcd.batch(fold.revision + 1, etcd.revision))
            case 2 if draw.random() < 0.3:
                fold.load(etcd.read(etcd.revision))
        if fold.revision == etcd.revision:
            assert dump(tables, fold) == fresh(etcd.read(etcd.revision))
        assert dump(tables, fold)["unsettled"] == looked_through(tables)
    fold.apply(WatchBatch(etcd.revision, etcd.batch(fold.revision + 1, etcd.revision).events))
    assert dump(tables, fold) == fresh(etcd.read(etcd.revision))
    empty = RangeResult(etcd.revision + 1, [])
    fold.load(empty)
    assert dump(tables, fold) == fresh(empty)
    assert tables.collections._records == {}
