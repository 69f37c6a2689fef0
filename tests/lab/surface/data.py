"""Sections about data: it is found, by every type, at every consistency level, and can be taken out again."""

from typing import Any

from pymilvus import Collection, utility
from shapes import bits, collection, collections, create, defaults_of, pk, place, row, vector
from steps import DEFAULT_DB, TIMEOUT_S, USING, WITHIN, Steps, handler, in_database

FLAT = {"index_type": "FLAT", "metric_type": "L2", "params": {}}
L2 = {"metric_type": "L2"}
ROWS = 100
WEAK = {"consistency_level": "Eventually"}
"""Quick, and enough for what an earlier, strong read has found."""
LEVELS = ("Strong", "Session", "Bounded", "Eventually")


def count(name: str, expr: str = "", **more: Any) -> int:
    """How many rows a query counts; strongly consistent unless told otherwise."""
    options = {"consistency_level": "Strong", **more}
    found = collection(name).query(expr, output_fields=["count(*)"], **options, **WITHIN)
    return int(found[0]["count(*)"])


def nearest(name: str, number: int, limit: int = 3, level: str = "Strong", **more: Any) -> list[Any]:
    """Keys of the rows next to one, the nearest first."""
    where = [place(number)]
    found = collection(name).search(where, "vec", L2, limit=limit, consistency_level=level, **more, **WITHIN)
    return list(found[0].ids)


def queried(name: str, expr: str, fields: list[str], **more: Any) -> list[Any]:
    """Rows that fit an expression, by key."""
    options = {"consistency_level": "Strong", **more}
    found = collection(name).query(expr, output_fields=fields, **options, **WITHIN)
    return sorted(found, key=lambda one: str(one.get("pk", one.get("id"))))


def inserted(name: str, rows: list[dict[str, Any]], **more: Any) -> int:
    """Insert rows; returns how many went in."""
    return int(collection(name).insert(rows, **more, **WITHIN).insert_count)


def load_state(name: str) -> Any:
    """Whether a collection is loaded."""
    return utility.load_state(name, using=USING, **WITHIN)


def built(name: str, index_name: str) -> dict[str, int]:
    """How many rows an index has."""
    found: dict[str, int] = utility.index_building_progress(name, index_name, using=USING, **WITHIN)
    return found


def all_built(rows: int) -> dict[str, int]:
    """What `built` gives when all are in."""
    return {"total_rows": rows, "indexed_rows": rows, "pending_index_rows": 0}


def every_type(steps: Steps) -> None:
    """All types go in, come out as they were, and can be asked by."""
    name = "every_type"
    steps.gives("insert", ROWS, inserted, name, [row(number) for number in range(ROWS)])
    steps.refused("load without an index", "index not found", handler().load_collection, name, **WITHIN)
    steps.refused("query what is not loaded", "collection not loaded", count, name)
    steps.done("flush", collection(name).flush, **WITHIN)
    steps.gives("entities", ROWS, lambda: collection(name).num_entities)
    ivf = {"index_type": "IVF_FLAT", "metric_type": "L2", "params": {"nlist": 4}}
    steps.done("index", collection(name).create_index, "vec", ivf, index_name="by_place", **WITHIN)
    steps.becomes("all are in it", all_built(ROWS), built, name, "by_place")
    steps.done("index a scalar", collection(name).create_index, "f_int64", index_name="by_long", **WITHIN)
    steps.gives("indexes", ["by_long", "by_place"], lambda: sorted(utility.list_indexes(name, using=USING)))
    steps.seen("about it", lambda: collection(name).index(index_name="by_place").params)
    steps.gives("not loaded", "NotLoad", load_state, name)
    steps.done("load", collection(name).load, **WITHIN)
    steps.gives("loaded", "Loaded", load_state, name)
    steps.gives("progress", {"loading_progress": "100%"}, utility.loading_progress, name, using=USING)
    steps.gives("count", ROWS, count, name)
    steps.gives("a whole row", [row(7)], queried, name, "pk == 7", ["*"], **WEAK)
    for expr, number in (
        *(("f_bool == true", 50), ("f_int8 < 5", 5), ("f_int16 in [10, 20, 25]", 2)),
        *(("f_int32 >= 98000", 2), (f"f_int64 == {3 << 33}", 1), ("f_float < 1.0", 4)),
        *(("f_double > 12.0", 3), ('f_varchar like "row 1%"', 11), ('f_json["n"] > 90', 9)),
        *(('json_contains(f_json["tags"], "t1")', 33), ("array_contains(a_int64, 3)", 20)),
        *(("array_length(a_int8) == 2", 100), ("a_int16[0] == 4", 20), ('a_varchar[0] == "v9"', 1)),
        *(("pk % 10 == 0", 10), ("f_bool == true and pk < 10", 5), ("not (pk < 99)", 1)),
    ):
        steps.gives(f"count of {expr}", number, count, name, expr, **WEAK)
    steps.refused("a field that is not there", "no_such", count, name, "no_such > 1")
    steps.gives("search", [50, 51, 49], lambda: [50, *sorted(nearest(name, 50)[1:], reverse=True)])
    steps.gives("search with a filter", [44, 40, 48], lambda: _filtered(name))
    steps.gives("search with output", ["row 20 é"], lambda: _output(name))
    steps.gives("two at once", [[10], [90]], lambda: _two(name))
    steps.gives("in a radius", 3, lambda: _in_radius(name))
    steps.gives("by an alias", [30], nearest, "b", 30, 1)
    steps.gives("one by one", list(range(ROWS)), _iterated, name)
    steps.gives("replicas", 1, lambda: len(collection(name).get_replicas(**WITHIN).groups))
    steps.gives("rows in segments", ROWS, lambda: sum(one.num_rows for one in _segments(name)))


def _segments(name: str) -> list[Any]:
    found = utility.get_query_segment_info(name, using=USING, **WITHIN)
    return list(found)


def _filtered(name: str) -> list[int]:
    first, *others = nearest(name, 44, expr="pk % 4 == 0")
    return [first, *sorted(others)]


def _output(name: str) -> list[str]:
    found = collection(name).search(
        [place(20)], "vec", L2, limit=1, output_fields=["f_varchar"], **WEAK, **WITHIN
    )
    return [found[0][0].entity.get("f_varchar")]


def _two(name: str) -> list[list[int]]:
    places = [place(10), place(90)]
    found = collection(name).search(places, "vec", L2, limit=1, **WEAK, **WITHIN)
    return [list(hits.ids) for hits in found]


def _in_radius(name: str) -> int:
    params = {"metric_type": "L2", "params": {"radius": 20.0, "range_filter": 0.0}}
    found = collection(name).search([place(60)], "vec", params, limit=10, **WEAK, **WITHIN)
    return len(found[0].ids)


def _iterated(name: str) -> list[int]:
    iterator = collection(name).query_iterator(batch_size=30, expr="pk >= 0", **WEAK)
    found: list[int] = []
    while rows := iterator.next():
        found += [one["pk"] for one in rows]
    iterator.close()
    return sorted(found)


def levels(steps: Steps) -> None:
    """Every consistency level finds what is there; the strict ones at once."""
    name = "every_type"
    for level in LEVELS:
        steps.gives(f"search, {level}", [25], nearest, name, 25, 1, level)
        steps.gives(f"query, {level}", ROWS, count, name, consistency_level=level)
    steps.gives("at a time of its own", [25], nearest, name, 25, 1, "Customized", guarantee_timestamp=1)
    steps.refused("no such level", "invalid consistency level", nearest, name, 25, 1, "Sometimes")
    for number, level in enumerate(LEVELS, start=ROWS):
        steps.gives(f"insert for {level}", 1, inserted, name, [row(number)])
        how = steps.gives if level in ("Strong", "Session") else steps.becomes
        how(f"found by {level}", [number], nearest, name, number, 1, level)
    steps.gives(
        "delete them", len(LEVELS), lambda: _deleted(name, f"pk in {[*range(ROWS, ROWS + len(LEVELS))]}")
    )
    for level in LEVELS:
        how = steps.gives if level in ("Strong", "Session") else steps.becomes
        how(f"not found by {level}", [ROWS - 1], nearest, name, ROWS, 1, level)
    for level in ("Strong", "Eventually"):
        _default_level(steps, level)


def _default_level(steps: Steps, level: str) -> None:
    """The collection's own level is the one of a search that names none."""
    name = f"level_{level}"
    steps.done(f"index {name}", collection(name).create_index, "vec", FLAT, **WITHIN)
    steps.done(f"load {name}", collection(name).load, **WITHIN)
    steps.gives(f"insert into {name}", 3, inserted, name, [_thin(number) for number in range(3)])

    def ids() -> list[int]:
        return list(collection(name).search([place(1)], "vec", L2, limit=1, **WITHIN)[0].ids)

    how = steps.gives if level in ("Strong", "Session") else steps.becomes
    how(f"search of {name}", [1], ids)
    steps.done(f"release {name}", collection(name).release, **WITHIN)


def _thin(number: int) -> dict[str, Any]:
    return {"pk": number, "vec": place(number)}


def _deleted(name: str, expr: str, **more: Any) -> int:
    return int(collection(name).delete(expr, **more, **WITHIN).delete_count)


def changes(steps: Steps) -> None:
    """Rows replaced and deleted."""
    name = "every_type"
    new = {**row(7), "f_varchar": "new", "f_json": {"n": -1}}
    steps.gives("upsert one that is there", 1, lambda: _upserted(name, [new]))
    steps.gives(
        "it is new",
        [{"pk": 7, "f_varchar": "new", "f_json": {"n": -1}}],
        queried,
        name,
        "pk == 7",
        ["pk", "f_varchar", "f_json"],
    )
    steps.gives("upsert one that is not", 1, lambda: _upserted(name, [row(200)]))
    steps.gives("it is there", [row(200)], queried, name, "pk in [200, 201]", ["*"])
    steps.gives("count", ROWS + 1, count, name)
    steps.gives("delete two", 2, lambda: _deleted(name, "pk in [7, 200]"))
    steps.gives("they are gone", [], queried, name, "pk in [7, 200]", ["pk"])
    steps.gives("count then", ROWS - 1, count, name)
    steps.gives("delete what is not there", 1, lambda: _deleted(name, "pk in [5000]"))
    steps.gives("delete by another field", 1, lambda: _deleted(name, "f_int8 == 9 and f_bool == false"))
    steps.gives("it is gone", 0, count, name, "pk == 9")
    steps.refused(
        "delete with nonsense",
        "failed to create expr plan, expr = pk ==== 1",
        lambda: _deleted(name, "pk ==== 1"),
    )
    steps.refused("insert a field too few", "Field f_bool don't match", inserted, name, [{"pk": 1}])
    steps.refused(
        "a text too long",
        "exceeds max length (64)",
        lambda: inserted(name, [{**row(300), "f_varchar": "x" * 65}]),
    )
    steps.refused(
        "an array too long",
        "exceeds max capacity (4)",
        lambda: inserted(name, [{**row(300), "a_int64": [1] * 5}]),
    )
    steps.done("flush", collection(name).flush, **WITHIN)
    steps.gives("count after a flush", ROWS - 2, count, name)
    steps.gives("search after it", [50], nearest, name, 50, 1)
    made = collection(name)
    steps.done("compact", made.compact, **WITHIN)
    steps.becomes("compacted", "Completed", lambda: made.get_compaction_state(**WITHIN).state)
    steps.gives("count after it", ROWS - 2, count, name)
    steps.refused(
        "drop an index in use",
        "index cannot be dropped, collection is loaded",
        collection(name).drop_index,
        index_name="by_place",
    )
    steps.done("release", collection(name).release, **WITHIN)
    steps.refused("query what is released", "collection not loaded", count, name)
    steps.done("drop an index", collection(name).drop_index, index_name="by_long")
    steps.gives("indexes", ["by_place"], lambda: utility.list_indexes(name, using=USING))


def _upserted(name: str, rows: list[dict[str, Any]]) -> int:
    return int(collection(name).upsert(rows, **WITHIN).upsert_count)


def dynamic(steps: Steps) -> None:
    """Fields that no schema names, keys that the server gives, and binary vectors."""
    name = "dynamic"
    rows = [
        {"vec": bits(number), "color": "red" if number % 3 else "blue", "n": number} for number in range(30)
    ]
    steps.gives("insert", [30, 30], lambda: _keys(name, rows))
    index = {"index_type": "BIN_FLAT", "metric_type": "HAMMING", "params": {}}
    steps.done("index", collection(name).create_index, "vec", index, **WITHIN)
    steps.done("load", collection(name).load, **WITHIN)
    steps.gives("count", 30, count, name)
    steps.gives("by a field of no schema", 10, count, name, 'color == "blue"', **WEAK)
    steps.gives("by its form in $meta", 2, count, name, '$meta["n"] >= 28', **WEAK)
    steps.gives("its values", [{"color": "blue", "n": 27}], lambda: _without_key(name, "n == 27"))
    steps.gives("search", [[12, 0.0], [11, 1.0]], lambda: _hamming(name))
    steps.gives("delete", 1, lambda: _deleted_by_key(name, "n == 12"))
    steps.gives("count then", 29, count, name)
    steps.refused(
        "upsert with given keys", "auto id enabled", lambda: _upserted(name, [{"pk": 1, **rows[0]}])
    )
    steps.done("release", collection(name).release, **WITHIN)


def _keys(name: str, rows: list[dict[str, Any]]) -> list[int]:
    made = collection(name).insert(rows, **WITHIN)
    return [made.insert_count, len(set(made.primary_keys))]


def _without_key(name: str, expr: str) -> list[dict[str, Any]]:
    found = queried(name, expr, ["color", "n"], **WEAK)
    return [{key: value for key, value in one.items() if key != "pk"} for one in found]


def _hamming(name: str) -> list[list[float]]:
    params = {"metric_type": "HAMMING"}
    found = collection(name).search(
        [bits(12)],
        "vec",
        params,
        limit=3,
        output_fields=["n"],
        expr="n != 13",
        **WEAK,
        **WITHIN,
    )
    return [[hit.entity.get("n"), hit.distance] for hit in found[0]][:2]


def _deleted_by_key(name: str, expr: str) -> int:
    keys = [one["pk"] for one in queried(name, expr, ["pk"])]
    return _deleted(name, f"pk in {keys}")


def keyed(steps: Steps) -> None:
    """A partition key spreads rows, and narrows what is asked."""
    name = "tenants"
    rows = [
        {"id": f"k{number:02}", "tenant": f"t{number % 10}", "vec": [float(number), 0.0]}
        for number in range(50)
    ]
    steps.gives("insert", 50, inserted, name, rows)
    steps.refused(
        "into a partition",
        "not support manually specifying the partition names",
        lambda: inserted(name, rows, partition_name="_default_1"),
    )
    steps.done("index", collection(name).create_index, "vec", FLAT, **WITHIN)
    steps.done("load", collection(name).load, **WITHIN)
    steps.gives("count", 50, count, name)
    steps.gives("of one", 5, count, name, 'tenant == "t3"', **WEAK)
    steps.gives("of two", 10, count, name, 'tenant in ["t3", "t7"]', **WEAK)
    steps.gives("search of one", ["k13", "k23"], lambda: _tenant_search(name))
    steps.gives("delete", 1, lambda: _deleted(name, 'id in ["k13"]'))
    steps.gives("of one then", 4, count, name, 'tenant == "t3"')
    steps.done("release", collection(name).release, **WITHIN)
    text = "text_keys"
    steps.gives("keys as text", [3, 3], lambda: _keys(text, [{"vec": [float(n), 1.0]} for n in range(3)]))


def _tenant_search(name: str) -> list[str]:
    found = collection(name).search(
        [[15.0, 0.0]], "vec", L2, limit=2, expr='tenant == "t3"', **WEAK, **WITHIN
    )
    return list(found[0].ids)


def parts(steps: Steps) -> None:
    """Rows in partitions, loaded one by one."""
    name = "parts"
    for first, where in ((0, "_default"), (100, "p1"), (200, "p2")):
        rows = [_thin(number) for number in range(first, first + 10)]
        steps.gives(f"insert into {where}", 10, inserted, name, rows, partition_name=where)
    steps.refused("into none", "partition not found", lambda: inserted(name, [_thin(1)], partition_name="no"))
    steps.done("index", collection(name).create_index, "vec", FLAT, **WITHIN)
    steps.done("load one", collection(name).load, ["p1"], **WITHIN)
    steps.gives("count of what is loaded", 10, count, name)
    steps.gives("of that one", 10, count, name, partition_names=["p1"])
    steps.refused("of another", "partition not loaded", count, name, partition_names=["p2"])
    steps.done("load another", collection(name).load, ["p2"], **WITHIN)
    steps.gives("count of both", 20, count, name)
    steps.gives("search in one", [209], nearest, name, 300, 1, partition_names=["p2"])
    steps.gives("search in the other", [109], nearest, name, 300, 1, partition_names=["p1"])
    steps.gives("delete in one", 1, lambda: _deleted(name, "pk in [205]", partition_name="p2"))
    steps.gives("count of it", 9, count, name, partition_names=["p2"])
    steps.refused(
        "drop one in use",
        "partition cannot be dropped, partition is loaded",
        handler().drop_partition,
        name,
        "p2",
        **WITHIN,
    )
    steps.done("release one", collection(name).partition("p2").release, **WITHIN)
    steps.done("drop it", handler().drop_partition, name, "p2", **WITHIN)
    steps.gives("count of the rest", 10, count, name)
    steps.done("a new one while loaded", handler().create_partition, name, "p3", **WITHIN)
    steps.done("release all", collection(name).release, **WITHIN)
    steps.done("load all", collection(name).load, **WITHIN)
    steps.gives("count of all", 20, count, name)
    steps.done("a new one while all is loaded", handler().create_partition, name, "p4", **WITHIN)
    steps.gives("insert into it", 1, inserted, name, [_thin(400)], partition_name="p4")
    steps.becomes("it is found", [400], nearest, name, 400, 1, partition_names=["p4"])
    steps.done("release", collection(name).release, **WITHIN)


def defaults(steps: Steps) -> None:
    """Values for what is left out: kept. (A proxy of 2.3.5 dies of an insert that needs them.)"""
    name = "defaults"
    kept = {"b": "bool_data: true", "i": "int_data: -7", "l": f"long_data: {1 << 40}", "f": "float_data: 0.5"}
    kept |= {"d": "double_data: 2.25", "s": 'string_data: "né"'}
    steps.gives("kept with the fields", kept, defaults_of, name)
    full = {"b": False, "i": 1, "l": 2, "f": 0.25, "d": 0.125, "s": "x"}
    steps.gives("insert", 3, inserted, name, [{"pk": key, **full, "v": [1.0, key]} for key in range(3)])


def elsewhere(steps: Steps) -> None:
    """Data in another database."""
    with in_database("music"):
        rows = [{"other": number, "where": [float(number), 0.0, 0.0]} for number in range(20)]
        steps.gives("insert", 20, inserted, "parts", rows)
        steps.done("index", collection("parts").create_index, "where", FLAT, **WITHIN)
        steps.done("load", collection("parts").load, **WITHIN)
        steps.gives("count", 20, count, "parts")
        steps.gives("query", 5, count, "parts", "other < 5", **WEAK)
        steps.done("release", collection("parts").release, **WITHIN)
    steps.refused(
        "the one here is another",
        "field other not exist",
        lambda: collection("parts").query("other < 5", **WITHIN),
    )


def drops(steps: Steps) -> None:
    """Everything goes, and its names are free."""
    steps.refused("drop a database in use", "not empty", handler().drop_database, "music", **WITHIN)
    steps.done("drop one that is loaded", _made_and_dropped)
    steps.done("its name again", create, "short", [pk("id"), vector(dim=2)])
    steps.gives("it is empty", 0, lambda: collection("short").num_entities)
    for alias in ("a1", "b"):
        steps.done(f"drop alias {alias}", handler().drop_alias, alias, **WITHIN)
    for db_name in ("music", DEFAULT_DB):
        with in_database(db_name):
            for name in collections():
                steps.done(f"drop {db_name}'s {name}", handler().drop_collection, name, **WITHIN)
                steps.gives("it is gone", False, utility.has_collection, name, using=USING, **WITHIN)
            steps.gives("nothing is left", [], collections)
    steps.refused("describe one", "collection not found", handler().describe_collection, "parts", **WITHIN)
    steps.refused("insert into one", "Collection 'parts' not exist", inserted, "parts", [_thin(1)])
    steps.done("drop what is gone", handler().drop_collection, "parts", **WITHIN)
    for name in ("music", "empty"):
        steps.done(f"drop database {name}", handler().drop_database, name, **WITHIN)
    steps.gives("databases", ["default"], handler().list_database, **WITHIN)


def _made_and_dropped() -> None:
    create("short", [pk(), vector()])
    short = Collection("short", using=USING)
    short.insert([_thin(number) for number in range(5)], **WITHIN)
    short.create_index("vec", FLAT, **WITHIN)
    short.load(**WITHIN)
    handler().drop_collection("short", timeout=TIMEOUT_S)
