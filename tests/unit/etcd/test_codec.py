import pytest

from coordd.etcd import MAX_REQUEST_BYTES, MAX_TXN_OPS, Compare, Delete, Get, KeyValue, Put
from coordd.etcd.codec import key_values, range_request, txn_request, watch_request
from coordd.etcd.errors import RequestTooLarge, TooManyOperations
from coordd.etcd.messages import mvcc, rpc


def test_a_transaction_carries_every_compare_and_operation() -> None:
    body = txn_request(
        [
            Compare.version("k", 0),
            Compare.create_revision("k", 7),
            Compare.mod_revision("k", 8),
            Compare.value("k", b"x"),
            Compare.lease("k", 9),
        ],
        [Put("a", b"1", lease=3), Delete("b"), Delete("c", "d")],
        [Get("e"), Get("f", "g")],
    )
    request = rpc.TxnRequest.FromString(body)
    kinds = [one.WhichOneof("target_union") for one in request.compare]
    assert kinds == ["version", "create_revision", "mod_revision", "value", "lease"]
    assert request.compare[2].mod_revision == 8
    assert (request.success[0].request_put.lease, request.success[0].request_put.value) == (3, b"1")
    assert request.success[2].request_delete_range.range_end == b"d"
    assert request.failure[1].request_range.range_end == b"g"
    assert request.failure[1].request_range.revision == 0


def test_the_fence_takes_no_place_of_an_operation() -> None:
    txn_request([Compare.version("f", 0)], [Put(f"k{n}", b"") for n in range(MAX_TXN_OPS)], ())


@pytest.mark.parametrize("where", ["success", "failure", "compares"])
def test_one_operation_too_many(where: str) -> None:
    many = [Put(f"k{n}", b"") for n in range(MAX_TXN_OPS + 1)]
    compares = [Compare.version(f"k{n}", 0) for n in range(MAX_TXN_OPS + 1)] if where == "compares" else []
    with pytest.raises(TooManyOperations, match="129"):
        txn_request(compares, many if where == "success" else (), many if where == "failure" else ())


def test_one_byte_too_many_of_a_value() -> None:
    with pytest.raises(RequestTooLarge, match=str(MAX_REQUEST_BYTES - 512)):
        txn_request((), [Put("k", bytes(MAX_REQUEST_BYTES - 512))], ())


def test_empty_bounds_mean_the_whole_keyspace() -> None:
    request = range_request("", "")
    assert (request.key, request.range_end) == (b"\0", b"\0")
    assert range_request("k", None).range_end == b""


def test_a_watch_asks_for_progress_and_fragments_from_its_revision() -> None:
    create = watch_request("a", "b", 17, prev_kv=False).create_request
    assert (create.start_revision, create.progress_notify, create.fragment) == (17, True, True)


def test_what_one_transaction_wrote_shares_its_revision() -> None:
    revisions = [70_000, 70_000, 80_000, 70_000]
    raws = [
        mvcc.KeyValue(
            key=b"k%d" % n, value=b"v", create_revision=60_000, mod_revision=one, version=n, lease=9
        )
        for n, one in enumerate(revisions)
    ]
    kvs = key_values(raws)
    assert kvs == [KeyValue(f"k{n}", b"v", 60_000, one, n, 9) for n, one in enumerate(revisions)]
    assert kvs[0].mod_revision is kvs[1].mod_revision
