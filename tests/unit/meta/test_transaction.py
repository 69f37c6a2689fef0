"""Planning transactions, and judging what made one lose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import MAX_REQUEST_BYTES, MAX_TXN_OPS, Compare, Delete, Put
from coordd.etcd.codec import txn_request
from coordd.meta.transaction import Transaction, TransactionTooLarge, Write, default_guard, plan, split

FENCE = Compare.mod_revision("session/rootcoord", 7)


def planned(*ops: Write, guard: str = "a", revision: int = 3, **expect: int) -> Transaction:
    return plan(FENCE, ops, guard_key=guard, guard_revision=revision, expect=expect)


def test_compares_fence_guard_and_what_is_expected() -> None:
    transaction = planned(Put("a", b"x"), Delete("b"), c=9)
    assert transaction.compares == [FENCE, Compare.mod_revision("a", 3), Compare.mod_revision("c", 9)]
    assert [get.key for get in transaction.reads] == ["session/rootcoord", "a", "c", "b"]
    assert transaction.keys == {"a", "b"}


def test_events_are_those_of_the_watch() -> None:
    events = planned(Put("a", b"x", 5), Delete("b")).events(11)
    assert [(event.key, event.value, event.mod_revision, event.lease) for event in events] == [
        ("a", b"x", 11, 5),
        ("b", None, 11, 0),
    ]


@pytest.mark.parametrize(
    ("ops", "guard", "revision", "reason"),
    [
        ([Put("a", b""), Put("a", b"x")], "a", 3, "written twice"),
        ([Put("a", b""), Delete("b", "c")], "a", 3, "exact keys"),
        ([Put("a", b"")], "b", 3, "not written"),
        ([Delete("a"), Put("b", b"")], "a", 0, "is deleted"),
        ([Delete("a"), Put("b", b"")], "a", 3, "is deleted"),
    ],
)
def test_what_cannot_be_guarded_is_refused(ops: list[Write], guard: str, revision: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        planned(*ops, guard=guard, revision=revision)


def test_default_guard() -> None:
    assert default_guard([Delete("a"), Put("b", b""), Put("c", b"")]) == "b"
    assert default_guard([Delete("a"), Delete("b")]) == "a"
    with pytest.raises(ValueError, match="without operations"):
        default_guard([])


def test_as_many_operations_as_etcd_takes() -> None:
    full = planned(*(Put(f"{'a' if index == 0 else index}", b"") for index in range(MAX_TXN_OPS)))
    assert len(full.reads) == MAX_TXN_OPS
    txn_request(full.compares, full.ops, full.reads)
    with pytest.raises(TransactionTooLarge, match="129 operations"):
        planned(*full.ops, Put("one more", b""))
    with pytest.raises(TransactionTooLarge, match="129 operations"):
        planned(Put("a", b""), **{f"k{index}": 1 for index in range(MAX_TXN_OPS - 1)})


groups = st.lists(st.lists(st.integers(0, 400_000), min_size=1, max_size=70), max_size=12)


@given(groups)
def test_split_keeps_order_groups_and_limits(sizes: list[list[int]]) -> None:
    value = bytes(400_000)
    writes = [
        [Put(f"k{number}/{index}", value[:size]) for index, size in enumerate(group)]
        for number, group in enumerate(sizes)
    ]
    try:
        batches = split(writes)
    except TransactionTooLarge:
        assert any(sum(group) > MAX_REQUEST_BYTES // 2 for group in sizes)
        return
    assert [op for batch in batches for op in batch] == [op for group in writes for op in group]
    for group in writes:
        assert any(set(group) <= set(batch) for batch in batches)
    for batch in batches:
        transaction = plan(FENCE, batch, guard_key=batch[0].key, guard_revision=1, expect={})
        txn_request(transaction.compares, transaction.ops, transaction.reads)


def test_split_fills_batches() -> None:
    pairs = [[Put(f"{index}", b""), Put(f"s/{index}", b"")] for index in range(100)]
    assert [len(batch) for batch in split(pairs)] == [128, 72]
    assert [len(batch) for batch in split(pairs, max_ops=65)] == [64, 64, 64, 8]
    assert split([]) == []
