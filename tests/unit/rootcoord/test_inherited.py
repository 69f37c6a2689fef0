"""What proxies are told when a term begins, because earlier terms may not have."""

import asyncio
from typing import Any

from coordd.pb.proxy_pb2 import InvalidateCollMetaCacheRequest
from coordd.rootcoord.collections import Change
from coordd.rootcoord.inherited import changes, tell
from coordd.rootcoord.proxies.manager import SessionsNotKnown
from coordd.rpc.failure import RpcCode, RpcFailure
from coordd.rpc.status import MilvusError
from tests.unit.meta.samples import LAYOUT, database, loaded


def told(*keys: str) -> list[tuple[str, str, int]]:
    tables, _ = loaded(database(1, "default"), database(7, "music"))
    found = changes(tables, LAYOUT, keys)
    return [(one.db_name, *(one.names or ("",)), one.collection_id) for one in found]


def test_each_collection_once_whatever_of_it_was_changed() -> None:
    keys = [
        LAYOUT.collection(1, 50),
        LAYOUT.field(50, 100),
        LAYOUT.partition(60, 61),
        LAYOUT.function(70, 1),
        LAYOUT.collection(7, 60),
        LAYOUT.collection(0, 80),
    ]
    assert told(*keys) == [("", "", 50), ("", "", 60), ("", "", 70), ("", "", 80)]


def test_aliases_by_name_in_their_database() -> None:
    keys = [LAYOUT.alias(1, "a"), LAYOUT.alias(7, "a"), LAYOUT.alias(0, "b"), LAYOUT.oldest_alias("c")]
    assert told(*keys, LAYOUT.alias(9, "gone")) == [
        ("default", "a", 0),
        ("music", "a", 0),
        ("default", "b", 0),
        ("default", "c", 0),
    ]


def test_other_keys_concern_no_proxy() -> None:
    assert told(LAYOUT.database(7), LAYOUT.user("u"), LAYOUT.session("rootcoord"), "else") == []


class Proxies:
    """Raises what is listed, one for each call."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.asked: list[int] = []

    async def invalidate_collection_meta_cache(
        self, request: InvalidateCollMetaCacheRequest, **_options: Any
    ) -> None:
        assert (request.base.sourceID, request.base.timestamp) == (4, 7)
        self.asked.append(request.collectionID)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        await asyncio.sleep(0)


async def test_a_refusal_stops_nothing_and_the_end_of_the_term_does() -> None:
    proxies: Any = Proxies(
        MilvusError("no"), SessionsNotKnown("later"), RpcFailure(RpcCode.UNAVAILABLE, "over")
    )
    await tell(proxies, [Change((), "", collection_id=one) for one in range(1, 5)], 4, 7)
    assert proxies.asked == [1, 2, 2]
