"""Answers that are given again: how many are kept, and which."""

from collections.abc import Iterable

import pytest

from coordd.meta.tables import RootCoordTables
from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.milvus_pb2 import DescribeCollectionRequest, DescribeCollectionResponse
from coordd.rootcoord import kept_answers
from coordd.rootcoord.kept_answers import AnswerCache
from coordd.rpc.call import Call
from tests.unit.rootcoord.recorded import LAYOUT, World, world

ROOM = 1000


def answer(size: int) -> DescribeCollectionResponse:
    """One of this size on the wire."""
    made = DescribeCollectionResponse(collection_name="x" * (size - 3))
    assert made.ByteSize() == size
    return made


def cache_of(tables: RootCoordTables | None = None) -> AnswerCache[DescribeCollectionResponse]:
    return AnswerCache(tables or RootCoordTables(LAYOUT), max_bytes=ROOM)


def ask_and_keep(cache: AnswerCache[DescribeCollectionResponse], question: str, size: int) -> None:
    assert cache.get(question) is None
    cache.put(question, answer(size))


def kept(cache: AnswerCache[DescribeCollectionResponse], questions: Iterable[str]) -> list[str]:
    return [question for question in questions if cache.get(question) is not None]


def test_no_more_bytes_are_kept_than_there_is_room_for() -> None:
    cache = cache_of()
    for question in "abcdefghi":
        ask_and_keep(cache, question, 200)
        held = kept(cache, "abcdefghi")
        assert question in held
        assert len(held) * 200 <= ROOM
    assert held == ["f", "g", "h", "i"]


def test_no_more_answers_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "MAX_KEPT_ANSWERS", 2)
    cache = cache_of()
    for question in "abc":
        ask_and_keep(cache, question, 200)
    assert kept(cache, "abc") == ["c"]


def test_an_answer_that_is_too_large_is_not_kept_and_costs_no_other_its_place() -> None:
    cache = cache_of()
    ask_and_keep(cache, "small", ROOM // 2)
    ask_and_keep(cache, "huge", ROOM + 1)
    assert kept(cache, ("small", "huge")) == ["small"]
    ask_and_keep(cache, "all there is", ROOM)
    assert kept(cache, ("small", "all there is")) == ["all there is"]


async def test_what_is_forgotten_leaves_its_room() -> None:
    place = await world()
    cache = cache_of(place.tables)
    ask_and_keep(cache, "a", 900)
    place.fold.load(await place.etcd.range("", "\x7f"))
    ask_and_keep(cache, "b", 900)
    cache.forget()
    ask_and_keep(cache, "c", 500)
    ask_and_keep(cache, "d", 500)
    assert kept(cache, "abcd") == ["c", "d"]


def described(place: World, collection_id: int, db_name: str) -> object:
    base = MsgBase(msg_type=MsgType.DescribeCollection)
    request = DescribeCollectionRequest(base=base, db_name=db_name, collectionID=collection_id)
    found = place.handlers.describe_collection(request, Call(method="", metadata={}))
    assert isinstance(found, DescribeCollectionResponse)
    assert (found.collectionID, found.db_name) == (collection_id, db_name)
    return found


async def test_by_id_only_names_of_databases_that_are_there_take_a_place() -> None:
    place = await world()
    row = place.tables.collections.find(1, "partitioned")
    assert row is not None
    for db_name, is_kept in (("", True), ("default", True), ("nope", False), ("x" * 60_000, False)):
        first = described(place, row.collection_id, db_name)
        assert (described(place, row.collection_id, db_name) is first) is is_kept
