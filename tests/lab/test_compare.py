"""The comparison finds what it must find, and lets pass what its docstring lists and no more."""

from typing import Any

import pytest

from tests.lab.compare import compare


def _differs(method: str, left: dict[str, Any], right: dict[str, Any], **options: bool) -> list[str]:
    found = compare({"p": {"reply": left}}, {"p": {"reply": right}}, {"p": method}, **options)
    return [difference.path for difference in found]


@pytest.mark.parametrize(
    ("method", "left", "right", "paths"),
    [
        ("HasCollection", {"value": True}, {}, [".reply.value"]),
        ("HasCollection", {"status": {}}, {}, [".reply.status"]),
        ("GetCredential", {"password": "a"}, {"password": "b"}, [".reply.password"]),
        ("ListCredUsers", {"usernames": ["a", "b"]}, {"usernames": ["b", "a"]}, [".reply.usernames[0]"]),
        ("ListAliases", {"aliases": ["a", "b"]}, {"aliases": ["a"]}, [".reply.aliases"]),
        ("AllocID", {"ID": "1", "count": 2}, {"ID": "9", "count": 1}, [".reply.count"]),
        ("AllocID", {"ID": "1"}, {}, [".reply.ID"]),
        (
            "GetMetrics",
            {"response": '{"self":{"id":1}}'},
            {"response": '{"self":{"id":"1"}}'},
            [".reply.response.self.id"],
        ),
        (
            "ShowCollections",
            {"collection_names": ["a", "b"], "collection_ids": ["1", "2"]},
            {"collection_names": ["b", "a"], "collection_ids": ["1", "2"]},
            [".reply.collection_ids[0]"],
        ),
    ],
)
def test_a_difference_is_found(
    method: str, left: dict[str, Any], right: dict[str, Any], paths: list[str]
) -> None:
    assert _differs(method, left, right)[: len(paths)] == paths
    assert _differs(method, left, left) == []


@pytest.mark.parametrize(
    ("method", "left", "right"),
    [
        ("ListAliases", {"aliases": ["a", "b"]}, {"aliases": ["b", "a"]}),
        (
            "ShowCollections",
            {"collection_names": ["a", "b"], "collection_ids": ["1", "2"]},
            {"collection_names": ["b", "a"], "collection_ids": ["2", "1"]},
        ),
        ("AllocTimestamp", {"timestamp": "1"}, {"timestamp": "2"}),
        ("GetComponentStates", {"state": {"nodeID": "1"}}, {"state": {"nodeID": "2"}}),
        (
            "ShowConfigurations",
            {"configuations": [{"key": "rootcoord.port", "value": "1"}]},
            {"configuations": [{"key": "rootcoord.port", "value": "2"}]},
        ),
    ],
)
def test_what_two_runs_of_milvus_disagree_on_is_let_pass(
    method: str, left: dict[str, Any], right: dict[str, Any]
) -> None:
    assert _differs(method, left, right) == []


def test_the_order_of_fields_matters_unless_one_side_has_reloaded() -> None:
    made = {"schema": {"fields": [{"fieldID": "100"}, {"name": "RowID"}]}}
    loaded = {"schema": {"fields": [{"name": "RowID"}, {"fieldID": "100"}]}}
    assert _differs("DescribeCollection", made, loaded)
    assert _differs("DescribeCollection", made, loaded, reloaded=True) == []


def test_a_grpc_error_is_no_reply_and_its_text_counts() -> None:
    methods = {"p": "ListDatabases"}
    reply = {"p": {"reply": {"status": {}}}}
    mismatch = "node not match[expectedNodeID=9][actualNodeID={}]"
    one, other = ({"p": {"grpc": "UNKNOWN", "details": mismatch.format(n)}} for n in (3, 8))
    assert compare(reply, one, methods)
    assert compare(one, other, methods) == []
    assert compare(one, {"p": {"grpc": "UNKNOWN", "details": "node not match"}}, methods)
    assert compare(one, {"p": {"grpc": "UNAVAILABLE", "details": mismatch.format(3)}}, methods)


def test_a_dropped_collection_by_name_may_be_reported_in_either_form() -> None:
    name = "DescribeCollection dropped default/to_drop by name"
    methods = {name: "DescribeCollection"}
    forms = ["collection not found[collection=7]", "collection not found[database=default][collection=x]"]
    one, other = ({name: {"reply": {"status": {"code": 100, "reason": text}}}} for text in forms)
    assert compare(one, other, methods) == []
    assert compare(one, {name: {"reply": {"status": {"code": 100, "reason": "gone"}}}}, methods)
    assert compare(one, {name: {"reply": {"status": {"code": 101, "reason": forms[0]}}}}, methods)


def test_pitfall_12_a_dropped_collection_by_its_id_alone_is_not_compared() -> None:
    found, missing = ({"reply": {"status": {"code": code}}} for code in (0, 100))
    for name, differ in (
        ("DescribeCollectionInternal dropped analytics/gone by id at now", False),
        ("DescribeCollectionInternal dropped analytics/gone by id and db at now", True),
        ("DescribeCollectionInternal dropped default/gone by id at now", True),
    ):
        methods = {name: "DescribeCollectionInternal"}
        assert bool(compare({name: found}, {name: missing}, methods)) is differ
