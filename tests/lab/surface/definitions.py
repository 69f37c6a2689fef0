"""Sections about what is defined: databases, collections, partitions, aliases, names and properties."""

from typing import Any

from pymilvus import DataType, FieldSchema, db, utility
from shapes import (
    BINARY_DIM,
    aliases_of,
    collections,
    create,
    create_with_defaults,
    described,
    every_type,
    fields_of,
    pk,
    properties_of,
    vector,
)
from steps import TIMEOUT_S, USING, WITHIN, Steps, handler, in_database

EVERY_TYPE = [
    *(["pk", "INT64", "is_primary"], ["f_bool", "BOOL", ""], ["f_int8", "INT8", ""]),
    *(["f_int16", "INT16", ""], ["f_int32", "INT32", ""], ["f_int64", "INT64", ""]),
    *(["f_float", "FLOAT", ""], ["f_double", "DOUBLE", ""], ["f_json", "JSON", ""]),
    *(["f_varchar", "VARCHAR", "max_length=64"], ["a_bool", "ARRAY", "max_capacity=4 of=BOOL"]),
    *([f"a_int{bits}", "ARRAY", f"max_capacity=4 of=INT{bits}"] for bits in (8, 16, 32, 64)),
    ["a_float", "ARRAY", "max_capacity=4 of=FLOAT"],
    ["a_double", "ARRAY", "max_capacity=4 of=DOUBLE"],
    ["a_varchar", "ARRAY", "max_capacity=4 max_length=16 of=VARCHAR"],
    ["vec", "FLOAT_VECTOR", "dim=8"],
]
CONSISTENCY_LEVELS = ("Strong", "Session", "Bounded", "Eventually", "Customized")


def listed_databases() -> list[str]:
    """Names of all databases."""
    return sorted(db.list_database(using=USING, **WITHIN))


def collections_of(db_name: str) -> list[str]:
    """Names of the collections of one database."""
    with in_database(db_name):
        return collections()


def databases(steps: Steps) -> None:
    """Databases made, listed and dropped."""
    make, drop = handler().create_database, handler().drop_database
    steps.gives("databases at first", ["default"], listed_databases)
    for name in ("music", "empty"):
        steps.done(f"create database {name}", make, name, **WITHIN)
    steps.refused("create it again", "database already exist: music", make, "music", **WITHIN)
    steps.refused("create default", "database already exist: default", make, "default", **WITHIN)
    steps.refused("a bad name", "invalid database name[database=1music]", make, "1music", **WITHIN)
    steps.gives("all databases", ["default", "empty", "music"], listed_databases)
    steps.gives("collections of a new one", [], collections_of, "music")
    steps.done("drop the empty one", drop, "empty", **WITHIN)
    steps.done("drop it again", drop, "empty", **WITHIN)
    steps.refused("drop default", "can not drop default database", drop, "default", **WITHIN)
    steps.gives("what is left", ["default", "music"], listed_databases)
    steps.refused("use a dropped one", "database not found[database=empty]", collections_of, "empty")
    steps.done("create it once more", make, "empty", **WITHIN)


def shapes(steps: Steps) -> None:
    """Collections of every shape, and those that are refused."""
    steps.done("create every_type", create, "every_type", every_type(), num_shards=2)
    steps.gives("its fields", EVERY_TYPE, fields_of, "every_type")
    steps.seen("all of it", described, "every_type")
    steps.done("create it again", create, "every_type", every_type(), num_shards=2)
    steps.refused(
        *("create another of its name", "create duplicate collection with different parameters"),
        *(create, "every_type", [pk(), vector()]),
    )
    binary = FieldSchema("vec", DataType.BINARY_VECTOR, dim=BINARY_DIM)
    dynamic = {"enable_dynamic_field": True, "description": "Ümläute, 说明"}
    steps.done("create dynamic", create, "dynamic", [pk(auto_id=True), binary], schema=dynamic)
    steps.seen("all of it", described, "dynamic")
    key = FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=32)
    tenant = FieldSchema("tenant", DataType.VARCHAR, max_length=16, is_partition_key=True)
    steps.done("create tenants", create, "tenants", [key, tenant, vector(dim=2)], num_partitions=5)
    steps.gives("its partitions", [f"_default_{n}" for n in range(5)], _partitions, "tenants")
    steps.seen("all of it", described, "tenants")
    automatic = FieldSchema("id", DataType.VARCHAR, is_primary=True, max_length=32, auto_id=True)
    steps.done("create with text keys", create, "text_keys", [automatic, vector(dim=2)])
    steps.seen("all of it", described, "text_keys")
    steps.done("create with defaults", create_with_defaults, "defaults")
    steps.seen("all of it", described, "defaults")
    for level in CONSISTENCY_LEVELS:
        steps.done(f"create {level}", create, f"level_{level}", [pk(), vector()], consistency_level=level)
        steps.seen("all of it", lambda level=level: described(f"level_{level}")["consistency_level"])
    steps.done("create a part", create, "parts", [pk(), vector()])
    with in_database("music"):
        steps.done("create the name elsewhere", create, "parts", [pk("other"), vector("where", 3)])
        steps.gives(
            "it is another",
            [["other", "INT64", "is_primary"], ["where", "FLOAT_VECTOR", "dim=3"]],
            fields_of,
            "parts",
        )
    steps.gives("collections of music", ["parts"], collections_of, "music")
    found = ["defaults", "dynamic", "every_type", *(f"level_{one}" for one in CONSISTENCY_LEVELS)]
    steps.gives("all collections", sorted([*found, "parts", "tenants", "text_keys"]), collections)
    _refused_shapes(steps)


def _refused_shapes(steps: Steps) -> None:
    def refused(what: str, text: str, fields: list[Any], name: str = "bad", **more: Any) -> None:
        steps.refused(what, text, create, name, fields, **more)

    refused("a bad name", "Invalid collection name", [pk(), vector()], "1bad")
    refused("a bad name of a field", "Invalid field name", [pk(), vector("a-b")])
    refused("two vectors", "multiple vector fields is not supported", [pk(), vector("a"), vector("b")])
    refused("a vector too long", "invalid dimension", [pk(), vector(dim=32769)])
    refused("a field twice", "duplicated field name", [pk(), vector("a"), FieldSchema("a", DataType.INT8)])
    refused(
        "too many shards", "maximum shards's number should be limited to 16", [pk(), vector()], num_shards=17
    )
    refused("a name of the system", "RowID", [pk(), vector(), FieldSchema("RowID", DataType.INT64)])
    refused("partitions without a key", "num_partitions", [pk(), vector()], num_partitions=3)
    steps.gives("none of them is there", False, utility.has_collection, "bad", using=USING, **WITHIN)
    steps.refused("describe one", "collection not found", described, "bad")


def _partitions(name: str) -> list[str]:
    found: list[str] = described(name)["partitions"]
    return found


def partitions(steps: Steps) -> None:
    """Partitions made and dropped."""
    make, drop, has = handler().create_partition, handler().drop_partition, handler().has_partition
    for name in ("p1", "p2", "gone"):
        steps.done(f"create {name}", make, "parts", name, **WITHIN)
    steps.done("create it again", make, "parts", "p1", **WITHIN)
    steps.gives("all", ["_default", "gone", "p1", "p2"], _partitions, "parts")
    steps.done("drop one", drop, "parts", "gone", **WITHIN)
    steps.gives("it is gone", False, has, "parts", "gone", **WITHIN)
    steps.done("drop it again", drop, "parts", "gone", **WITHIN)
    steps.gives("the rest", ["_default", "p1", "p2"], _partitions, "parts")
    steps.gives("how many", 3, lambda: described("parts")["num_partitions"])
    steps.refused(
        "drop the default one", "default partition cannot be deleted", drop, "parts", "_default", **WITHIN
    )
    steps.refused("a bad name", "Invalid partition name", make, "parts", "1-2", **WITHIN)
    steps.refused("of no collection", "collection not found", make, "bad", "p1", **WITHIN)
    steps.refused("drop of no collection", "collection not found", drop, "bad", "p1", **WITHIN)
    steps.refused("has of no collection", "collection not found", has, "bad", "p1", **WITHIN)
    key = "disable create partition if partition key mode is used"
    steps.refused("by hand where a key decides", key, make, "tenants", "p1", **WITHIN)
    steps.refused(
        *("drop where a key decides", "disable drop partition if partition key mode is used"),
        *(drop, "tenants", "_default_1"),
        **WITHIN,
    )
    with in_database("music"):
        steps.done("create in another database", make, "parts", "p9", **WITHIN)
        steps.gives("all there", ["_default", "p9"], _partitions, "parts")
    steps.done("create what was dropped", make, "parts", "gone", **WITHIN)
    steps.gives("all in the end", ["_default", "gone", "p1", "p2"], _partitions, "parts")


def aliases(steps: Steps) -> None:
    """Aliases made, moved and dropped."""
    make, alter, drop = handler().create_alias, handler().alter_alias, handler().drop_alias
    for name, alias in (("parts", "a1"), ("parts", "a2"), ("every_type", "b")):
        steps.done(f"create {alias}", make, name, alias, **WITHIN)
    steps.done("create it again", make, "parts", "a1", **WITHIN)
    steps.refused(
        "of another",
        "a1 is alias to another collection: parts: alias already exist",
        make,
        "every_type",
        "a1",
        **WITHIN,
    )
    steps.refused(
        "a collection's name", "alias and collection name conflict", make, "parts", "dynamic", **WITHIN
    )
    steps.refused("of no collection", "collection not found", make, "bad", "a3", **WITHIN)
    steps.refused("a bad name", "Invalid collection alias", make, "parts", "1a", **WITHIN)
    steps.gives("its aliases", ["a1", "a2"], aliases_of, "parts")
    steps.gives("what it stands for", "parts", lambda: described("a1")["collection_name"])
    steps.done("move one", alter, "every_type", "a1", **WITHIN)
    steps.gives("what it stands for now", "every_type", lambda: described("a1")["collection_name"])
    steps.gives("aliases of the one", ["a2"], aliases_of, "parts")
    steps.gives("aliases of the other", ["a1", "b"], aliases_of, "every_type")
    steps.refused(
        "move what is not there",
        "alias not found[database=default][alias=a3]",
        alter,
        "parts",
        "a3",
        **WITHIN,
    )
    steps.refused("move to nothing", "collection not found", alter, "bad", "a1", **WITHIN)
    steps.refused(
        "drop by alias",
        "cannot drop the collection via alias = a1",
        handler().drop_collection,
        "a1",
        **WITHIN,
    )
    steps.refused(
        "a collection of its name",
        "create duplicate collection with different parameters, collection: a1",
        create,
        "a1",
        [pk(), vector()],
    )
    steps.done("drop one", drop, "a2", **WITHIN)
    steps.done("drop it again", drop, "a2", **WITHIN)
    steps.gives("none is left", [], aliases_of, "parts")
    steps.gives("it stands for nothing", False, utility.has_collection, "a2", using=USING, **WITHIN)
    with in_database("music"):
        steps.done("the same alias elsewhere", make, "parts", "a1", **WITHIN)
        steps.gives("it is another", "parts", lambda: described("a1")["collection_name"])
        steps.done("drop that", drop, "a1", **WITHIN)
    steps.gives("this is still there", ["a1", "b"], aliases_of, "every_type")


def names(steps: Steps) -> None:
    """Collections renamed, in their database and into another."""

    def rename(old: str, new: str, new_db: str = "") -> None:
        handler().rename_collections(old, new, new_db, timeout=TIMEOUT_S)

    before = described("level_Strong")["collection_id"]
    steps.done("rename", rename, "level_Strong", "renamed")
    steps.gives("it is the same", True, lambda: described("renamed")["collection_id"] == before)
    steps.gives("the old name is free", False, utility.has_collection, "level_Strong", using=USING, **WITHIN)
    taken = "duplicated new collection name default:parts with other collection name or alias"
    steps.refused("to a name that is taken", taken, rename, "renamed", "parts")
    steps.refused("to an alias", "duplicated new collection name default:a1", rename, "renamed", "a1")
    steps.refused(
        "by an alias", "unsupported use an alias to rename collection, alias:a1", rename, "a1", "new"
    )
    steps.refused("what is not there", "collection not found", rename, "bad", "new")
    steps.refused("a bad name", "Invalid collection name", rename, "renamed", "1new")
    steps.refused(
        "into no database", "target database:nowhere not found", rename, "renamed", "new", "nowhere"
    )
    steps.refused("with aliases", "must drop all aliases", rename, "every_type", "new", "music")
    steps.done("into another database", rename, "renamed", "moved", "music")
    steps.gives("there it is", ["moved", "parts"], collections_of, "music")
    with in_database("music"):
        steps.gives("it is still the same", True, lambda: described("moved")["collection_id"] == before)
        steps.done("and back", rename, "moved", "level_Strong", "default")
    steps.gives("under its old name", True, lambda: described("level_Strong")["collection_id"] == before)
    steps.gives("no more there", ["parts"], collections_of, "music")


def properties(steps: Steps) -> None:
    """Properties of collections."""

    def alter(name: str, **values: Any) -> None:
        dotted = {key.replace("__", "."): value for key, value in values.items()}
        handler().alter_collection(name, dotted, timeout=TIMEOUT_S)

    more = {"collection.autocompaction.enabled": "false", "collection.ttl.seconds": "60"}
    steps.done("create with some", create, "kept", [pk(), vector()], properties=more)
    steps.gives("they are kept", more, properties_of, "kept")
    steps.done("set one", alter, "kept", collection__ttl__seconds=1800)
    steps.gives("the other stays", {**more, "collection.ttl.seconds": "1800"}, properties_of, "kept")
    steps.done("add one", alter, "kept", collection__insertRate__max__mb=7)
    steps.gives(
        "all",
        {**more, "collection.ttl.seconds": "1800", "collection.insertRate.max.mb": "7"},
        properties_of,
        "kept",
    )
    steps.done("by alias", alter, "b", collection__ttl__seconds=3600)
    steps.gives("of that", {"collection.ttl.seconds": "3600"}, properties_of, "every_type")
    steps.refused("of no collection", "collection not found", alter, "bad", collection__ttl__seconds=1)
    steps.seen("all of it", described, "kept")
