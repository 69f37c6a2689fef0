"""Sections about bulk insert: rows come from a file, are spread by a partition key, and get an index."""

import json
import math
from pathlib import Path
from typing import Any

from data import WEAK, all_built, built, count
from pymilvus import DataType, FieldSchema, utility
from shapes import collection, create, pk, vector
from steps import TIMEOUT_S, USING, WITHIN, Steps

NAME = "angles"
IMPORTED = 300
TENANTS = 7
HNSW = {"index_type": "HNSW", "metric_type": "COSINE", "params": {"M": 8, "efConstruction": 64}}
COSINE = {"metric_type": "COSINE", "params": {"ef": 64}}
ENDED = [["Completed", IMPORTED, False], ["Failed", 0, True]]
"""What has become of the two tasks of `imports`."""


def angle(number: int) -> list[float]:
    """Of the numbers that are imported each has its own angle, and the next ones' are the nearest."""
    turn = number * math.pi / IMPORTED
    return [math.cos(turn), math.sin(turn)]


def row(number: int) -> dict[str, Any]:
    """The row of this primary key."""
    return {"pk": number, "tenant": number % TENANTS, "vec": angle(number)}


def imported_file(name: str, rows: list[dict[str, Any]]) -> str:
    """A file of these rows, where the data node reads it."""
    path = Path.home() / name
    path.write_text(json.dumps({"rows": rows}))
    return str(path)


def bad_file() -> str:
    """One whose vector is too short."""
    return imported_file("bad.json", [{**row(0), "vec": [1.0]}])


def ask(file: str, partition: str | None = None) -> None:
    """Ask for the rows of a file."""
    utility.do_bulk_insert(NAME, [file], partition, timeout=TIMEOUT_S, using=USING)


def tasks() -> list[list[Any]]:
    """Of each task its state, its rows, and whether the vectors are to blame; the oldest first.

    Not whether a failed one has been cleaned up: that is done every five minutes.
    """
    listed = utility.list_bulk_insert_tasks(collection_name=NAME, timeout=TIMEOUT_S, using=USING)
    ids = sorted(task.task_id for task in listed)
    found = [utility.get_bulk_insert_state(one, timeout=TIMEOUT_S, using=USING) for one in ids]
    return [[one.state_name.split()[0], one.row_count, "vec" in one.failed_reason] for one in found]


def next_to(number: int) -> list[Any]:
    """Keys of the row of this angle and of the two beside it, and the likeness of the first: 1."""
    found = collection(NAME).search([angle(number)], "vec", COSINE, limit=3, **WEAK, **WITHIN)[0]
    return [found.ids[0], *sorted(found.ids[1:]), found.distances[0]]


def imports(steps: Steps) -> None:
    """Bulk inserts are asked for, and go on while the next sections run."""
    tenant = FieldSchema("tenant", DataType.INT64, is_partition_key=True)
    steps.done("create", create, NAME, [pk(), tenant, vector(dim=2)], num_partitions=3)
    steps.done("index", collection(NAME).create_index, "vec", HNSW, index_name="by_angle", **WITHIN)
    good = imported_file("good.json", [row(number) for number in range(IMPORTED)])
    steps.refused("into a partition", "not allow to set partition name", ask, good, "_default_0")
    steps.done("import", ask, good)
    steps.done("import what is no good", ask, bad_file())


def imported(steps: Steps) -> None:
    """The rows are there, and in an index of their own kind."""
    steps.becomes("tasks", ENDED, tasks)
    steps.becomes("all are in the index", all_built(IMPORTED), built, NAME, "by_angle")
    steps.gives("about it", HNSW, lambda: collection(NAME).index(index_name="by_angle").params)
    steps.done("load", collection(NAME).load, **WITHIN)
    steps.gives("count", IMPORTED, count, NAME)
    steps.gives("of one", 43, count, NAME, "tenant == 3", **WEAK)
    steps.gives("of two", 86, count, NAME, "tenant in [3, 5]", **WEAK)
    steps.gives("search", [150, 149, 151, 1.0], next_to, 150)
    steps.done("release", collection(NAME).release, **WITHIN)
