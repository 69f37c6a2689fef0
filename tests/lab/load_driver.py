"""Load on a cluster through pymilvus 2.3.5: each search and insert is sent at its time, whatever comes back.

Runs in the pymilvus environment and imports nothing of the project. ``python load_driver.py SPEC``, a JSON
object with the fields of ``tests.lab.load.LoadPlan`` and ``port``. Makes a collection of one row per key,
indexed and loaded, prints "ready" when there was an answer of each kind, and after a line on its standard
input (or its end) an object:

    {"kinds": {NAME: {"requests": [[sent, ended, 0, error or null], ...], "wrong": [TEXT, ...]}},
     "rows": {"acknowledged": 7, "unsure": 0, "counted": 7, "missing": [], "strangers": [], "wrong": [TEXT]}}

Times are CLOCK_MONOTONIC seconds. Kinds and what makes an answer wrong:

* ``search, bounded`` for one of the rows that were there before: it must be the nearest to itself, then come
  those of them whose distance is 1, which has no other row in between; each hit has the distance of its row;
* ``search, strong`` for one of the newest rows whose insert was acknowledged before the search was sent: the
  same, with all rows that were acknowledged by then;
* ``insert`` of one new row;
* ``DDL``, if asked for: collections and partitions are made, looked for and dropped, one call after another.

At the end every acknowledged row must be there, and the count of rows must be that of their keys: none is
there twice. Whether a row is there whose insert failed (``unsure``) is left open.
"""

import json
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from grpc import RpcError
from load_hits import DIM, HITS, judge_hits, neighbours, vector
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, connections, utility
from pymilvus.exceptions import MilvusException

NAME = "steady"
RECENT = 50
PAGE = 4096
READY_S = 120
WORKERS = 600
DDL_PAUSE_S = 0.05
SHOWN = 300
INDEX = {"index_type": "FLAT", "metric_type": "L2", "params": {}}


class Rows:
    """The keys that were inserted, those acknowledged in the order of their answers."""

    def __init__(self, first: int) -> None:
        self._lock = threading.Lock()
        self.next = first
        self.acknowledged = list(range(first))
        self.unsure: set[int] = set()

    def take(self) -> int:
        """A new key; not acknowledged until ``acknowledge``."""
        with self._lock:
            key = self.next
            self.next += 1
            self.unsure.add(key)
        return key

    def acknowledge(self, key: int) -> None:
        """Its insert succeeded."""
        with self._lock:
            self.acknowledged.append(key)
            self.unsure.discard(key)

    def recent(self) -> tuple[int, set[int]]:
        """One of the newest acknowledged keys, and those of its neighbours that are acknowledged."""
        with self._lock:
            key = random.choice(self.acknowledged[-RECENT:])
            return key, {one for one in neighbours(key) if one < self.next and one not in self.unsure}


class Kind:
    """Requests of one kind. ``call`` returns what is wrong with the answer, "" if nothing is."""

    def __init__(self, name: str, call: Callable[[], str]) -> None:
        self.name = name
        self.call = call
        self.requests: list[list[Any]] = []
        self.wrong: list[str] = []
        self.answered = threading.Event()

    def once(self, sent: float, call: Callable[[], str] | None = None) -> None:
        """Make one request and note what became of it."""
        error, wrong = None, ""
        try:
            wrong = (call or self.call)()
        except (MilvusException, RpcError) as failure:
            error = f"{type(failure).__name__}: {failure}"[:SHOWN].replace("\n", " ")
        self.requests.append([round(sent, 6), round(time.monotonic(), 6), 0, error])
        if wrong:
            self.wrong.append(wrong)
        elif error is None:
            self.answered.set()

    def result(self) -> dict[str, Any]:
        """What is printed at the end."""
        return {"requests": sorted(self.requests, key=lambda one: one[0]), "wrong": self.wrong}


class Load:
    """The collection, and the calls on it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.timeout_s = int(spec["timeout_s"])  # pymilvus 2.3.5 ignores floats in its retry loop
        self.period_s = spec["period_ms"] / 1000
        self.first = spec["rows"]
        self.rows = Rows(self.first)
        connections.connect("default", host="127.0.0.1", port=str(spec["port"]), timeout=self.timeout_s)
        self.collection = Collection(NAME, _schema(), timeout=self.timeout_s)
        self._fill()

    def _fill(self) -> None:
        keys = list(range(self.first))
        self.collection.insert([keys, [vector(key) for key in keys]], timeout=self.timeout_s)
        self.collection.flush(timeout=60)
        self.collection.create_index("vec", INDEX, timeout=60)
        self.collection.load(timeout=60)

    def _search(self, key: int, there: set[int], level: str) -> str:
        found = self.collection.search(
            [vector(key)], "vec", {"metric_type": "L2"}, HITS, consistency_level=level, timeout=self.timeout_s
        )[0]
        wrong = judge_hits(key, list(zip(found.ids, found.distances, strict=True)), there, self.rows.next)
        return f"{level} {wrong}" if wrong else ""

    def bounded(self) -> str:
        """Search for a row that has been there from the beginning."""
        key = random.randrange(self.first)
        return self._search(key, {one for one in neighbours(key) if one < self.first}, "Bounded")

    def strong(self) -> str:
        """Search for a row that was acknowledged just now."""
        return self._search(*self.rows.recent(), "Strong")

    def insert(self) -> str:
        """Insert a new row."""
        key = self.rows.take()
        result = self.collection.insert([[key], [vector(key)]], timeout=self.timeout_s)
        if list(result.primary_keys) != [key]:
            return f"insert of {key}: {list(result.primary_keys)}"
        self.rows.acknowledge(key)
        return ""

    def ddl(self, number: int) -> list[Callable[[], str]]:
        """One collection from its making to its end, a call each."""
        name, timeout_s = f"passing_{number}", self.timeout_s

        def make() -> str:
            Collection(name, _schema(), timeout=timeout_s)
            return ""

        def partition(method: str, *, there: bool) -> Callable[[], str]:
            def change() -> str:
                collection = Collection(name)
                getattr(collection, method)("part", timeout=timeout_s)
                found = collection.has_partition("part", timeout=timeout_s)
                return "" if found is there else f"{name}: {method}, and has_partition says {found}"

            return change

        def drop() -> str:
            utility.drop_collection(name, timeout=timeout_s)
            return ""

        return [
            make,
            _found(name, timeout_s, there=True),
            partition("create_partition", there=True),
            partition("drop_partition", there=False),
            drop,
            _found(name, timeout_s, there=False),
        ]

    def judge(self) -> dict[str, Any]:
        """Which rows there are in the end."""
        counted = self._query("pk >= 0", "count(*)")[0]["count(*)"]
        there: list[int] = []
        for start in range(0, self.rows.next, PAGE):
            there += [row["pk"] for row in self._query(f"pk >= {start} && pk < {start + PAGE}", "pk")]
        wanted, keys = set(self.rows.acknowledged), set(there)
        missing, strangers = sorted(wanted - keys), sorted(keys - wanted - self.rows.unsure)
        wrong = [f"acknowledged, not there: {missing[:20]}"] if missing else []
        wrong += [f"never inserted, but there: {strangers[:20]}"] if strangers else []
        if not counted == len(there) == len(keys):
            wrong.append(f"{counted} rows counted, {len(there)} found, {len(keys)} keys")
        return {
            "acknowledged": len(wanted),
            "unsure": len(self.rows.unsure),
            "counted": counted,
            "missing": missing,
            "strangers": strangers,
            "wrong": wrong,
        }

    def _query(self, expr: str, field: str) -> list[dict[str, Any]]:
        return list(
            self.collection.query(expr, output_fields=[field], consistency_level="Strong", timeout=60)
        )


def _schema() -> CollectionSchema:
    key = FieldSchema("pk", DataType.INT64, is_primary=True)
    return CollectionSchema([key, FieldSchema("vec", DataType.FLOAT_VECTOR, dim=DIM)])


def _found(name: str, timeout_s: int, *, there: bool) -> Callable[[], str]:
    def look() -> str:
        found = utility.has_collection(name, timeout=timeout_s)
        return "" if found is there else f"has_collection({name}) says {found}"

    return look


def _send_all(
    kind: Kind, pool: ThreadPoolExecutor, due: float, period_s: float, stop: threading.Event
) -> list[Future[None]]:
    """A request each period from ``due`` on, those that are late at once."""
    begun = []
    while not stop.is_set():
        time.sleep(max(0.0, due - time.monotonic()))
        begun.append(pool.submit(kind.once, time.monotonic()))
        due += period_s
    return begun


def _change_all(kind: Kind, load: Load, stop: threading.Event) -> None:
    """One collection after another; the one under way is brought to its end."""
    number = 0
    while not stop.is_set():
        for call in load.ddl(number):
            kind.once(time.monotonic(), call)
            time.sleep(DDL_PAUSE_S)
        number += 1


def main() -> None:
    """Load until told to stop."""
    spec = json.loads(sys.argv[1])
    load, stop = Load(spec), threading.Event()
    kinds = [
        Kind("search, bounded", load.bounded),
        Kind("search, strong", load.strong),
        Kind("insert", load.insert),
    ]
    ddl = Kind("DDL", lambda: "")
    pools = [ThreadPoolExecutor(WORKERS, thread_name_prefix=kind.name) for kind in kinds]
    with ThreadPoolExecutor(len(kinds) + 1) as senders:
        began = time.monotonic()
        sending = []
        for place, (kind, pool) in enumerate(zip(kinds, pools, strict=True)):
            first = began + load.period_s * place / len(kinds)
            sending.append(senders.submit(_send_all, kind, pool, first, load.period_s, stop))
        changing = senders.submit(_change_all, ddl, load, stop) if spec["ddl"] else None
        every = [*kinds, ddl] if changing else kinds
        silent = [kind for kind in every if not kind.answered.wait(READY_S)]
        for kind in silent:
            sys.stderr.write(f"no good answer: {kind.name}: {kind.requests[-1:]} {kind.wrong[-1:]}\n")
        if not silent:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            sys.stdin.readline()
        stop.set()
        requests = [request for sender in sending for request in sender.result()]
        for pool in pools:
            pool.shutdown()
        for done in [*requests, *([changing] if changing else [])]:
            done.result()  # raises what no request may raise
    result = {"kinds": {kind.name: kind.result() for kind in every}, "rows": load.judge()}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
