"""Section about the simple client of pymilvus, and its objects for partitions and iterators."""

from typing import Any

from data import L2
from pymilvus import MilvusClient, Partition, connections
from shapes import collection, place
from steps import TIMEOUT_S, USING, WITHIN, Steps

STRONG = {"consistency_level": "Strong"}


def simple(steps: Steps) -> None:
    """A collection made, filled, asked and dropped by MilvusClient."""
    address = connections.get_connection_addr(USING)["address"]
    client = MilvusClient(f"http://{address}", "root", "Milvus", timeout=TIMEOUT_S)
    name = "easy"
    steps.done("create", client.create_collection, name, 4, metric_type="L2", timeout=TIMEOUT_S)
    steps.seen("what was made", lambda: _known(client.describe_collection(name)))
    rows = [{"id": number, "vector": [float(number)] * 4, "color": f"c{number % 4}"} for number in range(20)]
    steps.gives("insert", list(range(20)), lambda: list(client.insert(name, rows, batch_size=7)))
    steps.gives("search", [[5, 0.0, "c1"], [6, 4.0, "c2"]], lambda: _search(client, name))
    steps.gives(
        "query", [3, 7, 11, 15, 19], lambda: _keys(client.query(name, 'color == "c3"', ["id"], **STRONG))
    )
    steps.gives("get", [{"id": 4, "color": "c0"}], client.get, name, [4], ["id", "color"], **STRONG)
    steps.done("delete", client.delete, name, [4, 5])
    steps.gives("get them", [], client.get, name, [4, 5], ["id"], **STRONG)
    steps.done("flush", client.flush, name, timeout=TIMEOUT_S)
    steps.gives("collections", True, lambda: name in client.list_collections())
    steps.done("drop", client.drop_collection, name)
    steps.gives("it is gone", False, lambda: name in client.list_collections())
    client.close()


def _known(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key != "collection_id"}


def _search(client: MilvusClient, name: str) -> list[list[Any]]:
    found = client.search(
        name, [[5.0] * 4], filter="id >= 5", limit=2, output_fields=["color"], **STRONG, timeout=TIMEOUT_S
    )
    return [[hit["id"], hit["distance"], hit["entity"]["color"]] for hit in found[0]]


def _keys(rows: list[dict[str, Any]]) -> list[int]:
    return sorted(one["id"] for one in rows)


def objects(steps: Steps) -> None:
    """The object of a partition, and a search that goes on."""
    name = "parts"
    part = Partition(collection(name), "p1")
    rows = [{"pk": number, "vec": place(number)} for number in range(150, 160)]
    steps.gives("insert", 10, lambda: part.insert(rows, **WITHIN).insert_count)
    steps.done("load", part.load, **WITHIN)
    steps.gives(
        "search", [155], lambda: list(part.search([place(155)], "vec", L2, 1, **STRONG, **WITHIN)[0].ids)
    )
    steps.gives("query", 10, lambda: len(part.query("pk >= 150", output_fields=["pk"], **STRONG, **WITHIN)))
    steps.gives("upsert", 1, lambda: part.upsert([rows[0]], **WITHIN).upsert_count)
    steps.gives("delete", 10, lambda: part.delete(f"pk in {[*range(150, 160)]}", **WITHIN).delete_count)
    steps.gives("query then", [], lambda: part.query("pk >= 150", output_fields=["pk"], **STRONG, **WITHIN))
    steps.done("flush", part.flush, **WITHIN)
    steps.gives("replicas", 1, lambda: len(part.get_replicas(**WITHIN).groups))
    steps.gives("search that goes on", list(range(100, 110)), lambda: _found_in_turn(name))
    steps.done("release", part.release, **WITHIN)
    steps.gives(
        "partitions",
        ["_default", "gone", "p1", "p3", "p4"],
        lambda: sorted(one.name for one in collection(name).partitions),
    )


def _found_in_turn(name: str) -> list[int]:
    found: list[int] = []
    iterator = collection(name).search_iterator(
        [place(100)], "vec", {"metric_type": "L2", "params": {}}, batch_size=4, limit=10, **STRONG
    )
    while hits := iterator.next():
        found += list(hits.ids())
    iterator.close()
    return sorted(found)
