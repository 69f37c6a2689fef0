"""The fake that unit tests commit to answers as a real server does."""

import random
from collections.abc import Sequence

import pytest

from coordd.etcd import Compare, Delete, EtcdClient, Get, Op, Put, RangeResult, TxnResult
from tests.support.etcd import EtcdCluster, unique_root
from tests.unit.meta.fake_etcd import FakeEtcd

KEYS = ("a", "b", "c")


def random_ops(draw: random.Random, root: str, *, writes: bool) -> list[Op]:
    ops: list[Op] = []
    for key in draw.sample(KEYS, draw.randint(0, 3)):
        kinds = [
            Put(f"{root}/{key}", draw.choice([b"", b"x", b"y"])),
            Delete(f"{root}/{key}"),
            Get(f"{root}/{key}"),
        ]
        ops.append(draw.choice(kinds) if writes else kinds[2])
    return ops


def shape(result: TxnResult, base: int) -> object:
    """A result with revisions relative to `base`, so that two servers can be compared."""
    answers = [
        [
            (kv.key, kv.value, kv.create_revision - base, kv.mod_revision - base, kv.version)
            for kv in response.kvs
        ]
        if isinstance(response, RangeResult)
        else response
        for response in result.responses
    ]
    return result.succeeded, result.revision - base, answers


def compares(draw: random.Random, root: str, known: Sequence[int], base: int) -> list[Compare]:
    """Of keys' mod_revisions, some of which hold; `known` holds revisions relative to `base`."""
    chosen = draw.sample(KEYS, draw.randint(0, 2))
    revisions = [draw.choice([0, *(base + relative for relative in known)]) for _ in chosen]
    return [
        Compare.mod_revision(f"{root}/{key}", revision)
        for key, revision in zip(chosen, revisions, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_same_answers(etcd_server: EtcdCluster, seed: int) -> None:
    draw, root = random.Random(seed), unique_root()
    fake = FakeEtcd()
    async with EtcdClient(etcd_server.settings()) as real:
        bases = (fake.revision, await real.revision())
        known: list[int] = []
        for _ in range(150):
            state = draw.getstate()
            shapes = []
            for server, base in zip((fake, real), bases, strict=True):
                draw.setstate(state)
                condition = compares(draw, root, known[-6:], base)
                success = random_ops(draw, root, writes=True)
                result = await server.txn(condition, success, random_ops(draw, root, writes=False))
                shapes.append(shape(result, base))
            assert shapes[0] == shapes[1]
            known.append(fake.revision - bases[0])
    assert known[-1] > 30
