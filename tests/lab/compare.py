"""Field-by-field comparison of two recordings of ``tests.lab.recorder``.

Everything must be equal but for this, which two runs of Milvus 2.3.5 itself (6: Milvus and coordd) do not
agree on either:

1. Order of what Milvus keeps in a Go map: aliases, collections of ShowCollections, databases, configuration
   items, and the list of object types in one SelectGrant error. Parallel arrays are sorted as rows. All
   other lists are compared in order.
2. Who answers: node id, name and address of the server; its measurements, versions and start time in
   GetMetrics (there the keys and the types of the values must be equal); its own two ports in
   ShowConfigurations.
3. AllocTimestamp and AllocID: the value itself (tests assert that it only grows).
4. With ``reloaded=True``, for a Milvus that has loaded its metadata from etcd and not made it: the order of
   ``schema.fields`` (made: 100, 101, ..., 0, 1; loaded: in the order of the snapshot keys, 0, 100, ..., 1).
5. The error text for a collection that is being dropped, asked for by name: a process that has dropped it
   itself still finds the id by that name, one that has loaded it from etcd does not know the name. Code and
   "collection not found" must be equal.
6. A dropped collection of another database than the default one, asked for by its ID alone at a past time:
   not compared. Milvus looks for it in the default database (docs/pitfalls.md, 12).
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# Lists that come out of a Go map: method -> groups of parallel arrays, each group sorted as rows.
UNORDERED: dict[str, tuple[tuple[str, ...], ...]] = {
    "DescribeCollection": (("aliases",),),
    "DescribeCollectionInternal": (("aliases",),),
    "ListAliases": (("aliases",),),
    "ListDatabases": (("db_names", "created_timestamp"),),
    "ShowConfigurations": (("configuations",),),
    "ShowCollections": (
        ("collection_names", "collection_ids", "created_timestamps", "created_utc_timestamps"),
    ),
}
ALLOCATED = {"AllocTimestamp": "timestamp", "AllocID": "ID"}
OWN_SETTINGS = ("rootcoord.port", "common.metricsport", "commonmetricsport", "rootcoordport")
DROPPED_BY_NAME = re.compile(r"dropped \S+ by name|HasPartition '\w*' 'to_drop'")
OBJECT_TYPES = re.compile(r"(supported the object types: \[)([^]]*)\]")
BY_ID_ALONE = re.compile(r"dropped (?!default/)\S+ by id at ")
NODE_ID = re.compile(r"actualNodeID=-?\d+|serverID=-?\d+|rootcoord=-?\d+")


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two replies differ."""

    probe: str
    path: str
    expected: Any
    actual: Any

    def __str__(self) -> str:
        return f"{self.probe}: {self.path}: expected {self.expected!r}, got {self.actual!r}"


def compare(
    expected: Mapping[str, dict[str, Any]],
    actual: Mapping[str, dict[str, Any]],
    methods: Mapping[str, str],
    *,
    reloaded: bool = False,
) -> list[Difference]:
    """All differences between two recordings of the same probes; ``methods``: probe name -> method."""
    found: list[Difference] = []
    for name in expected:
        if BY_ID_ALONE.search(name):
            continue
        method = methods[name]
        left = normalise(name, method, expected[name], reloaded=reloaded)
        right = normalise(name, method, actual[name], reloaded=reloaded)
        found += [Difference(name, path, a, b) for path, a, b in _walk("", left, right)]
    return found


def normalise(name: str, method: str, kept: dict[str, Any], *, reloaded: bool = False) -> dict[str, Any]:
    """Remove from one recorded reply what the module's docstring lists."""
    out = copy.deepcopy(kept)
    if "details" in out:
        out["details"] = NODE_ID.sub("<server>", out["details"])
    reply = out.get("reply")
    if reply is None:
        return out
    status = reply.get("status", {})
    for key in ("reason", "detail"):
        if key in status:
            status[key] = _status_text(name, method, status[key])
    for group in UNORDERED.get(method, ()):
        _sort_rows(reply, group)
    if method in ALLOCATED and ALLOCATED[method] in reply:
        reply[ALLOCATED[method]] = "<allocated>"
    if method == "GetComponentStates":
        for state in [reply.get("state", {}), *reply.get("subcomponent_states", [])]:
            if state.get("nodeID"):
                state["nodeID"] = "<server>"
    if method == "ShowConfigurations":
        for item in reply.get("configuations", []):
            if item["key"] in OWN_SETTINGS:
                item["value"] = "<own>"
    if method == "GetMetrics":
        _metrics(reply)
    if reloaded and "schema" in reply:
        reply["schema"]["fields"].sort(key=lambda f: int(f.get("fieldID", 0)))
    return out


def _status_text(name: str, method: str, text: str) -> str:
    text = NODE_ID.sub("<server>", text)
    if method == "SelectGrant":
        text = OBJECT_TYPES.sub(lambda m: m[1] + " ".join(sorted(m[2].split())) + "]", text)
    if DROPPED_BY_NAME.search(name) and "collection not found[" in text:
        return "<collection not found>"
    return text


def _sort_rows(reply: dict[str, Any], group: tuple[str, ...]) -> None:
    columns = [reply[key] for key in group if key in reply]
    if not columns or len({len(c) for c in columns}) != 1:
        return
    rows = sorted(zip(*columns, strict=True), key=lambda row: json.dumps(row, sort_keys=True))
    for index, key in enumerate(key for key in group if key in reply):
        reply[key] = [row[index] for row in rows]


def _metrics(reply: dict[str, Any]) -> None:
    if reply.get("component_name"):
        reply["component_name"] = re.sub(r"\d+$", "<server>", reply["component_name"])
    if reply.get("response"):
        document = json.loads(reply["response"])
        reply["response"] = _shape(document)


def _shape(value: Any, key: str = "") -> Any:
    """Keys and types of a metrics document; texts that mean something are kept."""
    if isinstance(value, dict):
        return {k: _shape(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_shape(v) for v in value]
    if isinstance(value, bool) or key in ("type", "deploy_mode", "error_reason"):
        return value
    if key == "min_segment_size_to_enable_index":
        return value
    if isinstance(value, int | float):
        return "<number>"
    return re.sub(r"\d+$", "<server>", value) if key == "name" else "<text>"


def _walk(path: str, left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted(left.keys() | right.keys()):
            yield from _walk(f"{path}.{key}", left.get(key), right.get(key))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            yield from _walk(f"{path}[{index}]", a, b)
    elif left != right or type(left) is not type(right):
        yield path, left, right
