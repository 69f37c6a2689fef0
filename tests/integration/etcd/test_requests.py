"""Reads and transactions against a real etcd."""

import asyncio

import pytest

from coordd.etcd import (
    MAX_TXN_OPS,
    Compare,
    Delete,
    DeleteResult,
    EtcdClient,
    Get,
    Nested,
    Put,
    PutResult,
    RangeResult,
    TxnResult,
    errors,
    prefix_end,
)
from tests.support.etcd import EtcdCluster, etcd_cluster


async def test_a_transaction_runs_success_or_failure(client: EtcdClient, root: str) -> None:
    key = f"{root}k"
    first = await client.txn([Compare.version(key, 0)], [Put(key, b"1")], [Get(key)])
    assert (first.succeeded, first.responses) == (True, (PutResult(),))
    second = await client.txn([Compare.version(key, 0)], [Put(key, b"2")], [Get(key)])
    assert not second.succeeded
    (answer,) = second.responses
    assert isinstance(answer, RangeResult)
    assert [(kv.key, kv.value, kv.mod_revision) for kv in answer.kvs] == [(key, b"1", first.revision)]


async def test_a_transaction_inside_a_transaction_decides_for_itself(client: EtcdClient, root: str) -> None:
    outer, inner = f"{root}outer", f"{root}inner"
    nested = Nested([Compare.version(inner, 0)], [Put(inner, b"1")], [Get(inner)])
    first = await client.txn([Compare.version(outer, 0)], [Put(outer, b"1"), nested])
    assert first.responses == (PutResult(), TxnResult(True, first.revision, (PutResult(),)))
    second = await client.txn([Compare.version(outer, 1)], [Put(outer, b"2"), nested])
    assert second.succeeded
    _, answer = second.responses
    assert isinstance(answer, TxnResult)
    assert not answer.succeeded
    (found,) = answer.responses
    assert isinstance(found, RangeResult)
    assert [(kv.value, kv.mod_revision) for kv in found.kvs] == [(b"1", first.revision)]
    third = await client.txn([Compare.version(outer, 1)], [nested], [Get(outer)])
    assert not third.succeeded


async def test_each_compare_holds_and_fails_as_it_should(client: EtcdClient, root: str) -> None:
    key, absent = f"{root}k", f"{root}absent"
    lease = await client.grant(60)
    created = await client.put(key, b"1", lease=lease.id)
    modified = await client.put(key, b"2", lease=lease.id)
    holds = [
        Compare.version(key, 2),
        Compare.create_revision(key, created),
        Compare.mod_revision(key, modified),
        Compare.value(key, b"2"),
        Compare.lease(key, lease.id),
        Compare.version(absent, 0),
        Compare.mod_revision(absent, 0),
        Compare.create_revision(absent, 0),
    ]
    fails = [
        Compare.version(key, 1),
        Compare.create_revision(key, modified),
        Compare.mod_revision(key, created),
        Compare.value(key, b"1"),
        Compare.lease(key, 1),
        Compare.value(absent, b""),
    ]
    assert (await client.txn(holds, [Get(key)])).succeeded
    for compare in fails:
        assert not (await client.txn([compare], [Get(key)])).succeeded, compare
    await client.revoke(lease.id)
    assert (await client.get(key)).kv is None


async def test_a_full_transaction_with_a_fence_is_one_revision(client: EtcdClient, root: str) -> None:
    ops = [Put(f"{root}{number:03}", bytes([number])) for number in range(MAX_TXN_OPS)]
    result = await client.txn([Compare.version(f"{root}fence", 0)], ops)
    found = await client.range(root, prefix_end(root))
    assert [kv.key for kv in found.kvs] == [op.key for op in ops]
    assert {kv.mod_revision for kv in found.kvs} == {result.revision}
    deleted = await client.txn([], [Delete(root, prefix_end(root))])
    assert deleted.responses == (DeleteResult(MAX_TXN_OPS),)


async def test_the_largest_request_that_we_let_pass_is_taken_by_etcd(client: EtcdClient, root: str) -> None:
    size = 1_572_864 - 512 - 100
    await client.txn([], [Put(f"{root}k", bytes(size))])
    found = await client.get(f"{root}k")
    assert found.kv is not None
    assert len(found.kv.value) == size
    with pytest.raises(errors.RequestTooLarge):
        await client.put(f"{root}k", bytes(size + 100))


async def test_a_put_and_a_delete_say_what_they_did(client: EtcdClient, root: str) -> None:
    revision = await client.put(f"{root}k", b"v")
    assert await client.revision() >= revision
    assert await client.delete(f"{root}k") == 1
    assert await client.delete(root, prefix_end(root)) == 0


async def test_keys_that_are_no_utf8(client: EtcdClient, root: str) -> None:
    key = f"{root}\udcff\udc80"
    await client.put(key, b"v")
    found = await client.range(root, prefix_end(root))
    assert [kv.key for kv in found.kvs] == [key]


async def test_reading_the_past_the_future_and_what_is_compacted(
    etcd_server: EtcdCluster, client: EtcdClient, root: str
) -> None:
    key = f"{root}k"
    old = await client.put(key, b"old")
    new = await client.put(key, b"new")
    past = await client.get(key, revision=old)
    assert past.kv is not None
    assert past.kv.value == b"old"
    with pytest.raises(errors.FutureRevision):
        await client.get(key, revision=new + 10_000)
    etcd_server.ctl("compact", str(new))
    with pytest.raises(errors.Compacted):
        await client.get(key, revision=old)
    with pytest.raises(errors.Compacted):
        await client.range(root, prefix_end(root), revision=old)


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_have_every_key_once(client: EtcdClient, root: str, limit: int) -> None:
    keys = [f"{root}{number:03}" for number in range(7)]
    await client.txn([], [Put(key, key.encode()) for key in keys])
    found, start, pages = [], root, 0
    while True:
        page = await client.page(start, prefix_end(root), limit=limit)
        assert len(page.kvs) <= limit
        assert all(kv.mod_revision <= page.revision for kv in page.kvs)
        found += [(kv.key, kv.value) for kv in page.kvs]
        pages += 1
        if page.next is None:
            break
        start = page.next
    assert found == [(key, key.encode()) for key in keys]
    assert pages == -(-7 // limit)


async def test_a_page_is_of_the_present(client: EtcdClient, root: str) -> None:
    await client.txn([], [Put(f"{root}{number}", b"") for number in range(4)])
    first = await client.page(root, prefix_end(root), limit=2)
    await client.txn([], [Delete(f"{root}2"), Put(f"{root}5", b"")])
    assert first.next is not None
    rest = await client.page(first.next, prefix_end(root), limit=9)
    assert [kv.key for kv in (*first.kvs, *rest.kvs)] == [f"{root}{number}" for number in (0, 1, 3, 5)]
    assert (await client.page(f"{root}x", prefix_end(root), limit=9)).kvs == []


@pytest.mark.parametrize("page_size", [1, 7, 100, None])
async def test_a_range_is_of_one_revision_whatever_is_written_meanwhile(
    client: EtcdClient, root: str, page_size: int | None
) -> None:
    """Every transaction rewrites a pair of keys far apart: any mixture of revisions would show."""
    count = 40
    keys = [f"{root}{number:03}" for number in range(count)]
    await client.txn([], [Put(key, b"0") for key in keys])
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            value = str(number).encode()
            await client.txn([], [Put(key, value) for key in keys])

    async with asyncio.TaskGroup() as group:
        group.create_task(write(), name="writer")
        for _ in range(5):
            found = await client.range(root, prefix_end(root), page_size=page_size)
            assert [kv.key for kv in found.kvs] == keys
            assert len({kv.mod_revision for kv in found.kvs}) == 1
            assert found.kvs[0].mod_revision <= found.revision
        stop.set()


async def test_a_range_larger_than_any_default_message_limit(client: EtcdClient, root: str) -> None:
    values = {f"{root}{number:02}": bytes([number]) * 1_000_000 for number in range(12)}
    for key, value in values.items():
        await client.put(key, value)
    found = await client.range(root, prefix_end(root))
    assert {kv.key: kv.value for kv in found.kvs} == values
    bare = await client.range(root, prefix_end(root), keys_only=True)
    assert [kv.key for kv in bare.kvs] == sorted(values)
    assert {kv.value for kv in bare.kvs} == {b""}
    assert await client.delete(root, prefix_end(root)) == len(values)


async def test_one_key_twice_in_a_transaction_is_refused(client: EtcdClient, root: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="duplicate key"):
        await client.txn([], [Put(f"{root}k", b"1"), Put(f"{root}k", b"2")])


async def test_a_put_on_a_lease_that_has_ended(client: EtcdClient, root: str) -> None:
    lease = await client.grant(60)
    await client.revoke(lease.id)
    await client.revoke(lease.id)
    with pytest.raises(errors.LeaseLost):
        await client.txn([], [Put(f"{root}k", b"v", lease=lease.id)])


async def test_status_names_version_leader_and_what_is_down(etcd_server: EtcdCluster) -> None:
    (up,) = etcd_server.endpoints
    async with EtcdClient(etcd_server.settings(endpoints=[up, "127.0.0.1:1"])) as client:
        first, second = await client.status(timeout_s=2)
    assert (first.endpoint, first.version, first.is_leader, first.error) == (up, "3.5.1", True, None)
    assert first.db_size > 0
    assert second.error is not None
    assert "refused" in second.error


async def test_a_full_quota_is_told_and_deletes_still_work(root: str) -> None:
    async def fill(client: EtcdClient) -> None:
        for number in range(60):
            await client.put(f"{root}{number}", bytes(1_000_000))
            await asyncio.sleep(0.05)  # etcd counts what it has written out, each 100 ms

    quota = ["--quota-backend-bytes", str(4 << 20)]
    async with etcd_cluster(arguments=quota) as cluster, EtcdClient(cluster.settings()) as client:
        with pytest.raises(errors.NoSpace, match="alarm disarm") as caught:
            await fill(client)
        assert isinstance(caught.value, errors.OutcomeUnknown)
        assert await client.delete(root, prefix_end(root)) > 0
        assert (await client.status())[0].errors


async def test_a_closed_client_says_so(etcd_server: EtcdCluster, root: str) -> None:
    client = EtcdClient(etcd_server.settings())
    await client.put(f"{root}k", b"v")
    await client.close()
    await client.close()
    with pytest.raises(errors.Unavailable, match="closed"):
        await client.get(f"{root}k")
