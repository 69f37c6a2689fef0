"""A transaction's bytes say what was meant: read by protobuf, and the same as protobuf would write."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from coordd.etcd import Compare, Delete, Get, Nested, Op, Put
from coordd.etcd.messages import rpc
from coordd.etcd.txn_wire import encode_txn
from coordd.etcd.types import CompareTarget, encode_key

keys = st.text(max_size=200) | st.just("\udcff\udc80") | st.just("")
values = st.binary(max_size=300)
numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(0, 300)
compares = st.builds(
    Compare,
    keys,
    st.sampled_from([one for one in CompareTarget if one is not CompareTarget.VALUE]),
    numbers,
) | st.builds(Compare, keys, st.just(CompareTarget.VALUE), values)
plain_ops = (
    st.builds(Put, keys, values, numbers)
    | st.builds(Delete, keys, st.none() | keys)
    | st.builds(Get, keys, st.none() | keys)
)


def lists(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, max_size=4)


ops = plain_ops | st.builds(Nested, lists(compares), lists(plain_ops), lists(plain_ops))
FIELDS = {
    CompareTarget.VERSION: ("VERSION", "version"),
    CompareTarget.CREATE_REVISION: ("CREATE", "create_revision"),
    CompareTarget.MOD_REVISION: ("MOD", "mod_revision"),
    CompareTarget.VALUE: ("VALUE", "value"),
    CompareTarget.LEASE: ("LEASE", "lease"),
}


def message(compares: Sequence[Compare], success: Sequence[Op], failure: Sequence[Op]) -> Any:
    """The same, put together from message objects."""
    return rpc.TxnRequest(
        compare=[compare_message(one) for one in compares],
        success=[op_message(one) for one in success],
        failure=[op_message(one) for one in failure],
    )


def compare_message(compare: Compare) -> Any:
    target, field = FIELDS[compare.target]
    return rpc.Compare(
        result=rpc.Compare.EQUAL,
        target=getattr(rpc.Compare, target),
        key=encode_key(compare.key),
        **{field: compare.operand},
    )


def op_message(op: Op) -> Any:
    if isinstance(op, Put):
        put = rpc.PutRequest(key=encode_key(op.key), value=op.value, lease=op.lease)
        return rpc.RequestOp(request_put=put)
    if isinstance(op, Nested):
        return rpc.RequestOp(request_txn=message(op.compares, op.success, op.failure))
    key = encode_key(op.key) or b"\0"
    end = b"" if op.range_end is None else encode_key(op.range_end) or b"\0"
    if isinstance(op, Delete):
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end))


@given(lists(compares), lists(ops), lists(ops))
def test_it_reads_as_what_was_meant(compares: list[Compare], success: list[Op], failure: list[Op]) -> None:
    expected = message(compares, success, failure)
    assert rpc.TxnRequest.FromString(encode_txn(compares, success, failure)) == expected


def test_no_byte_is_wasted() -> None:
    """But for two of a value that is empty."""
    compares = [Compare.mod_revision("by-dev/meta/session/rootcoord", 300), Compare.version("k", 0)]
    success: list[Op] = [Put("by-dev/meta/x", bytes(1000), 7), Delete("a", "b"), Put("k", b"v")]
    failure: list[Op] = [Get("by-dev/meta/x"), Nested([], [Get("a")], [])]
    expected = message(compares, success, failure).SerializeToString()
    assert encode_txn(compares, success, failure) == expected
    assert encode_txn([], [], []) == b""
