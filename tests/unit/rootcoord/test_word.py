"""Proxies that are told of a change while it is written, and those who have to be told again."""

import asyncio
from typing import Any

import pytest

from coordd.pb.common_pb2 import MsgType
from coordd.rootcoord.collections import Change
from coordd.rootcoord.lookup import CollectionLookup, Wanted
from coordd.rpc.status import MilvusError
from tests.support.etcd import eventually
from tests.unit.rootcoord.test_life import (
    ASK,
    NAME,
    Effects,
    create,
    drop,
    prepared,
    running,
    soon,
    with_a_database,
)


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("what", ["drop collection", "create partition", "drop partition"])
async def test_who_asks_while_it_is_written_is_told_again(what: str, asked: bool) -> None:
    """A proxy that has forgotten early, and asks before the change is there, knows the old state again."""
    etcd = await prepared(what)
    before = "sync partition" if what == "create partition" else "txn"
    effects = Effects(held={before})
    async with running(etcd, effects) as term:
        ask = asyncio.create_task(ASK[what](term.life))
        await eventually(lambda: before in effects.done)
        if before != "txn":
            effects.held, passed, effects.let_go = {"txn"}, effects.let_go, asyncio.Event()
            passed.set()
        await eventually(lambda: "forget" in effects.done)
        assert not ask.done()
        if asked:
            CollectionLookup(term.place.tables, term.means.looks).now(Wanted("", NAME, 0))
        effects.let_go.set()
        await ask
        assert effects.done.count("forget") == 1 + asked
        await term.quiet()


@pytest.mark.parametrize("what", ["drop collection", "create partition", "drop partition"])
async def test_who_has_just_asked_is_told_when_it_is_written(what: str) -> None:
    """The answer may still be on its way, and come after a notice that is sent early."""
    etcd = await prepared(what)
    effects = Effects()
    async with running(etcd, effects) as term:
        CollectionLookup(term.place.tables, term.means.looks).now(Wanted("", NAME, 0))
        await ASK[what](term.life)
        last_write = len(effects.done) - 1 - effects.done[::-1].index("txn")
        assert [effects.done.count("forget"), effects.done.index("forget")] == [1, last_write + 1]
        await term.quiet()


async def test_a_write_of_unknown_outcome_is_told_again() -> None:
    """It may be applied after the last look at who has asked."""
    effects = Effects()
    async with running(with_a_database(), effects) as term:
        word = term.means.word(Change((), "default", (NAME,), 7))
        word.begin(term.means.looks, term.means.operations.start)
        word.end()
        await word.ended()
        await word.spread(0)
        assert effects.done == ["forget", "forget"]
        await word.spread(9)
        assert effects.done == ["forget", "forget"]


@pytest.mark.parametrize("early", [False, True])
async def test_a_refusal_keeps_no_other_name_from_being_told(early: bool) -> None:
    effects = Effects(failing={"forget"})
    async with running(with_a_database(), effects) as term:
        word = term.means.word(Change((), "default", ("a", "b", "c")))
        if early:
            word.begin(term.means.looks, term.means.operations.start)
            word.end()
            await word.ended()
            assert effects.heard == ["a", "b", "c"]
        with pytest.raises(MilvusError, match="forget refused"):
            await word.spread(9)
        assert effects.heard == ["a", "b", "c", *(["a"] if early else [])]
        await word.spread(9)


async def test_without_a_name_and_an_id_there_is_nothing_to_forget() -> None:
    effects = Effects()
    async with running(with_a_database(), effects) as term:
        for change in (Change((), "default", ("",)), Change((), "default"), Change((), "", (), 7)):
            await term.means.word(change).spread(0)
        assert effects.heard == [""]


async def test_who_cannot_be_told_yet_is_told_again() -> None:
    effects = Effects(unsure=2)
    async with running(with_a_database(), effects) as term:
        await term.means.word(Change((), "default", ("a", "b"))).spread(9)
        assert effects.heard == ["a", "a", "a", "b"]


async def test_a_word_comes_from_this_server_with_a_timestamp_of_the_change_or_later() -> None:
    async with running(with_a_database(), Effects()) as term:
        proxies: Any = term.means.peers.proxies
        before = await term.means.oracle.wait_timestamps(1, soon())
        await term.life.create_collection(create(), soon())
        await term.life.drop_collection(drop(), soon())
        bases = [request.base for request in proxies.news]
        assert [base.sourceID for base in bases] == [4] * len(bases)
        assert before < bases[0].timestamp < bases[-1].timestamp
        assert bases[-1].msg_type == MsgType.DropCollection
        assert term.means.oracle.newest_timestamp < await term.means.oracle.wait_timestamps(1, soon())
        await term.quiet()
