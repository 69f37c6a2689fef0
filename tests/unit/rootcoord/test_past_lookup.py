"""Look-ups at a past time that the tables cannot answer."""

from collections.abc import Mapping
from typing import Any

import pytest

from coordd.pb.common_pb2 import MsgBase, MsgType
from coordd.pb.milvus_pb2 import DescribeCollectionRequest
from coordd.rpc.call import Call
from coordd.rpc.status import CollectionNotFound
from tests.unit.meta.samples import CREATING, DROPPING, LAYOUT, collection, database
from tests.unit.rootcoord.recorded import World, world

CALL = Call(method="", metadata={})
WRITTEN, ASKED = 60 << 18, 70 << 18


def with_history(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**keys, **{LAYOUT.snapshot(key, WRITTEN): value for key, value in keys.items()}}


async def holding(state: int) -> World:
    """Collection 50 in database `music`."""
    kept = with_history(collection(50, "a", db_id=7, state=state))
    return await world({**database(1, "default"), **database(7, "music"), **kept})


def asking(db_name: str = "") -> DescribeCollectionRequest:
    base = MsgBase(msg_type=MsgType.DescribeCollection)
    return DescribeCollectionRequest(base=base, collectionID=50, db_name=db_name, time_stamp=ASKED)


async def described(place: World, request: DescribeCollectionRequest) -> Any:
    """As DataCoord and the data nodes ask."""
    answer: Any = place.handlers.describe_collection_internal(request, CALL)
    return await answer


@pytest.mark.parametrize("state", [CREATING, DROPPING])
@pytest.mark.parametrize("db_name", ["", "music"])
async def test_pitfall_12_an_id_is_enough_in_any_database(state: int, db_name: str) -> None:
    answer = await described(await holding(state), asking(db_name))
    assert (answer.collectionID, answer.collection_name) == (50, "a")
    assert sorted(field.fieldID for field in answer.schema.fields) == [0, 1, 100, 101]
    assert answer.num_partitions == 1


async def test_pitfall_12_a_database_that_is_named_is_the_only_one_looked_at() -> None:
    with pytest.raises(CollectionNotFound, match="key not found"):
        await described(await holding(DROPPING), asking("default"))


async def test_what_is_being_dropped_is_for_the_internal_call_only() -> None:
    place = await holding(DROPPING)
    answer: Any = place.handlers.describe_collection(asking(), CALL)
    with pytest.raises(CollectionNotFound):
        await answer
