"""Aliases, names and properties: which proxies are told while the change is written, and which again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from coordd.clock import boottime
from coordd.etcd import TxnResult
from coordd.etcd.errors import OutcomeUnknown
from coordd.pb import milvus_pb2
from coordd.pb.common_pb2 import KeyValuePair, MsgBase, MsgType
from coordd.rootcoord.handlers import alterations
from coordd.rpc.call import Call
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.rootcoord.memory_etcd import LOST_REQUEST, MemoryEtcd
from tests.unit.rootcoord.test_life import NAME, Effects, Running, create, running, soon, with_a_database

OTHER, ALIAS, BY_ID = "papers", "latest", ""
PROPERTY = [KeyValuePair(key="mmap.enabled", value="true")]
REQUESTS: dict[str, dict[str, Any]] = {
    "CreateAlias": {"alias": "new", "collection_name": NAME},
    "AlterAlias": {"alias": ALIAS, "collection_name": OTHER},
    "DropAlias": {"alias": ALIAS},
    "RenameCollection": {"oldName": NAME, "newName": "new"},
    "AlterCollection": {"collection_name": ALIAS, "properties": PROPERTY},
    "AlterCollectionField": {"collection_name": NAME, "field_name": "vec", "properties": PROPERTY},
}


@asynccontextmanager
async def scene() -> AsyncIterator[Running]:
    """Two collections, of which the first has an alias; nothing has happened, and nobody has asked."""
    async with running(with_a_database(), Effects()) as term:
        await term.life.create_collection(create(NAME), soon())
        await term.life.create_collection(create(OTHER), soon())
        await change(term, "CreateAlias", alias=ALIAS, collection_name=NAME)
        term.effects.done.clear()
        term.effects.heard.clear()
        yield term


async def change(term: Running, method: str, **fields: Any) -> None:
    kind = dict(MsgType.items()).get(method, 0)
    request = getattr(milvus_pb2, f"{method}Request")(base=MsgBase(msg_type=kind), **fields)
    handler = "".join(f"_{one.lower()}" if one.isupper() else one for one in method).removeprefix("_")
    await getattr(term.place.handlers, handler)(request, Call(method, {}, boottime() + 20))


def describe(term: Running, name: str) -> None:
    """A proxy asks for a collection by name, alias, or for the first one by its ID."""
    row = term.place.tables.resolve(1, NAME)
    assert row is not None
    request = milvus_pb2.DescribeCollectionRequest(
        base=MsgBase(msg_type=MsgType.DescribeCollection),
        collection_name=name,
        collectionID=0 if name else row.collection_id,
    )
    term.place.handlers.describe_collection(request, Call("DescribeCollection", {}, boottime() + 20))


@pytest.mark.parametrize(
    ("method", "asked", "told"),
    [
        ("CreateAlias", None, ["new", NAME]),
        ("CreateAlias", NAME, ["new", NAME]),
        ("AlterAlias", None, [ALIAS]),
        ("AlterAlias", OTHER, [ALIAS]),
        ("AlterAlias", ALIAS, [ALIAS] * 2),
        ("AlterAlias", BY_ID, [ALIAS] * 2),
        ("DropAlias", None, [ALIAS]),
        ("DropAlias", ALIAS, [ALIAS] * 2),
        ("RenameCollection", None, [NAME]),
        ("RenameCollection", NAME, [NAME] * 2),
        ("AlterCollection", None, [NAME]),
        ("AlterCollection", ALIAS, [NAME] * 2),
        ("AlterCollectionField", None, [NAME]),
        ("AlterCollectionField", BY_ID, [NAME] * 2),
    ],
)
async def test_who_asks_for_the_old_state_while_it_is_written_is_told_again(
    method: str, asked: str | None, told: list[str]
) -> None:
    """Only what a name led to before can be learnt too early: not the new target of an alias."""
    async with scene() as term:
        effects, early = term.effects, list(dict.fromkeys(told))
        effects.held.add("txn")
        changing = asyncio.create_task(change(term, method, **REQUESTS[method]))
        await eventually(lambda: len(effects.heard) == len(early))
        assert (effects.heard, effects.done.count("txn"), changing.done()) == (early, 1, False)
        if asked is not None:
            describe(term, asked)
        effects.let_go.set()
        await changing
        assert effects.heard == told


@pytest.mark.parametrize("asked", [ALIAS, BY_ID, NAME])
async def test_who_has_just_asked_by_any_name_is_told_when_it_is_written(asked: str) -> None:
    """The answer may still be on its way, and come after a notice that is sent early."""
    async with scene() as term:
        describe(term, asked)
        await change(term, "AlterAlias", **REQUESTS["AlterAlias"])
        assert term.effects.done == ["txn", "forget"]


@pytest.mark.parametrize(
    ("method", "name", "data_coord"), [("AlterAlias", ALIAS, False), ("AlterCollection", NAME, True)]
)
async def test_what_was_not_known_to_be_written_is_told_when_it_is(
    monkeypatch: pytest.MonkeyPatch, method: str, name: str, *, data_coord: bool
) -> None:
    """Nobody repeats the call; etcd carries it out late, and until then a proxy can learn the old state."""
    monkeypatch.setattr(alterations, "TIMEOUT_S", 0.2)
    async with scene() as term:
        etcd, done, heard = term.place.etcd, term.effects.done, term.effects.heard
        sent = note_transactions(etcd)
        etcd.faults += [LOST_REQUEST] * 1000
        with pytest.raises(OutcomeUnknown):
            await change(term, method, **REQUESTS[method])
        etcd.faults.clear()
        heard.clear()
        assert (await sent[0]()).succeeded
        done.clear()
        await eventually(lambda: "txn" in done)  # it asks for the outcome, and has to wait for the watch
        describe(term, name)
        assert heard == []
        term.place.fold.load(await etcd.range("", "\x7f"))  # what the watch does
        await eventually(lambda: heard == [name])
        await term.quiet()
        assert ("broadcast" in done) == data_coord


def note_transactions(etcd: MemoryEtcd) -> list[Callable[[], Awaitable[TxnResult]]]:
    """What is sent from now on, to be carried out once more."""
    sent: list[Callable[[], Awaitable[TxnResult]]] = []
    real = etcd.txn

    async def txn(*arguments: Any, **options: Any) -> TxnResult:
        sent.append(partial(real, *arguments, **options))
        return await real(*arguments, **options)

    etcd.__dict__["txn"] = txn
    return sent


async def test_a_proxy_that_refuses_one_name_hears_of_the_others() -> None:
    async with scene() as term:
        term.effects.failing.add("forget")
        with pytest.raises(MilvusError, match="forget refused"):
            await change(term, "CreateAlias", **REQUESTS["CreateAlias"])
        assert term.effects.heard[:2] == ["new", NAME]
        assert term.place.tables.resolve(1, "new") == term.place.tables.resolve(1, NAME)
