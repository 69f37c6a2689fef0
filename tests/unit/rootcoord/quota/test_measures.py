"""What is read from the texts of other processes."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.rootcoord.quota.measures import (
    DataSide,
    Node,
    ProxyLoad,
    QueryNode,
    UnreadableMetrics,
    read_data_coord,
    read_proxy,
    read_query_coord,
)
from tests.unit.rootcoord.quota.support import (
    NOW_MS,
    data_coord_text,
    proxy_text,
    query_coord_text,
    quota_of_node,
    quota_of_query_node,
    whole,
)


def test_data_nodes_and_the_disk() -> None:
    disk = {"TotalBinlogSize": 300, "CollectionBinlogSize": {"445": 100, "446": 200}}
    text = data_coord_text((7, quota_of_node([445, 446], age_s=1.5)), (8, quota_of_node(None)), disk=disk)
    assert whole(read_data_coord(text, NOW_MS)) == DataSide(
        nodes=(Node(7, (445, 446), 1000, 250, 1.5), Node(8, (), 1000, 250, None)),
        binlog_bytes=300,
        collection_binlog_bytes={445: 100, 446: 200},
    )


def test_query_nodes() -> None:
    searches = {
        "UnsolvedQueue": 1,
        "ReadyQueue": 20,
        "ReceiveChan": 300,
        "ExecuteChan": 4000,
        "AvgQueueDuration": 250_000_000,
    }
    queries = {
        "UnsolvedQueue": 0,
        "ReadyQueue": 0,
        "ReceiveChan": 0,
        "ExecuteChan": 0,
        "AvgQueueDuration": 1_500_000_000,
    }
    said = quota_of_query_node(
        [445], age_s=0.25, SearchQueue=searches, QueryQueue=queries, GrowingSegmentsSize=77
    )
    assert whole(read_query_coord(query_coord_text((9, said)), NOW_MS)) == (
        QueryNode(9, (445,), 1000, 250, 0.25, growing_bytes=77, queued=4321, waited_s=1.5),
    )


def test_a_node_that_did_not_answer_its_coordinator_is_left_out() -> None:
    assert whole(read_query_coord(query_coord_text((9, None)), NOW_MS)) == ()
    assert whole(read_data_coord(data_coord_text((7, None)), NOW_MS)) == DataSide()


def test_a_tick_from_the_future_is_not_late() -> None:
    text = data_coord_text((7, quota_of_node([1], age_s=-5)))
    assert whole(read_data_coord(text, NOW_MS)).nodes[0].tick_delay_s == 0


def test_the_load_of_a_proxy() -> None:
    text = proxy_text(DMLInsert=5, DQLSearch=1.5, DQLQuery=2.5, ReadResultThroughput=1e6)
    assert read_proxy(text) == ProxyLoad(searches=1.5, queries=2.5, result_bytes=1e6)
    assert read_proxy('{"quota_metrics": null}') == ProxyLoad()
    assert read_proxy('{"quota_metrics": {"Rms": null}}') == ProxyLoad()


def test_shares_of_unknown_memory_are_none() -> None:
    assert QueryNode(1, memory_bytes=0, used_bytes=5, growing_bytes=5).used_share == 0
    assert QueryNode(1, memory_bytes=0, used_bytes=5, growing_bytes=5).growing_share == 0
    node = QueryNode(1, memory_bytes=8, used_bytes=4, growing_bytes=2)
    assert (node.used_share, node.growing_share) == (0.5, 0.25)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        '{"cluster": 5}',
        '{"cluster": {"connected_nodes": [7], "connected_data_nodes": 7, "self": {}}}',
        query_coord_text((9, {"Hms": None})),
        query_coord_text((9, {**quota_of_query_node([1]), "Effect": {"CollectionIDs": "7"}})),
        query_coord_text((9, {**quota_of_query_node([1]), "SearchQueue": {}})),
        query_coord_text((9, quota_of_query_node([1], Hms={"memory": "much", "memory_usage": 1}))),
    ],
)
def test_anything_else_is_an_error_of_ours_to_expect(text: str) -> None:
    with pytest.raises(UnreadableMetrics, match="querycoord"):
        whole(read_query_coord(text, NOW_MS))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["cluster", "self", "quota_metrics", "connected_nodes", "Rms", "Label", "Rate", "id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_no_text_raises_anything_but_that(value: object) -> None:
    text = json.dumps(value)
    for read in (
        lambda: whole(read_query_coord(text, NOW_MS)),
        lambda: whole(read_data_coord(text, NOW_MS)),
        lambda: read_proxy(text),
    ):
        with suppress(UnreadableMetrics):
            read()
