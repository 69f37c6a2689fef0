"""A call that is refused has begun nothing: there is nothing to warn of, and nothing to be taken back."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from coordd.pb import milvus_pb2
from coordd.rootcoord.database_drop import DatabaseDrop
from coordd.rpc.status import MilvusError
from tests.unit.rootcoord.recorded import LAYOUT
from tests.unit.rootcoord.test_alterations import ALIAS, OTHER, change, scene
from tests.unit.rootcoord.test_life import NAME, Running, create_partition, drop, drop_partition, seen, soon


def ask(what: str, request: Any) -> Callable[[Running], Awaitable[object]]:
    return lambda term: getattr(term.life, what)(request, soon())


def alter(method: str, **fields: Any) -> Callable[[Running], Awaitable[object]]:
    return lambda term: change(term, method, **fields)


def drop_database(term: Running) -> Awaitable[object]:
    place = term.place
    assert place.ddl is not None
    return DatabaseDrop(place.tables, LAYOUT, place.ddl, term.operations, "default", soon()).carry_out()


def unknown_collection() -> milvus_pb2.CreatePartitionRequest:
    request = create_partition("p")
    request.collection_name = "unknown"
    return request


REFUSED: dict[str, tuple[Callable[[Running], Awaitable[object]], str]] = {
    "a collection is dropped by an alias": (ask("drop_collection", drop(ALIAS)), "alias"),
    "the default partition is dropped": (ask("drop_partition", drop_partition("_default")), "default"),
    "a partition of no collection": (ask("create_partition", unknown_collection()), "not found"),
    "the default database is dropped": (drop_database, "default"),
    "another name for no collection": (
        alter("RenameCollection", oldName="unknown", newName="new"),
        "not found",
    ),
    "an alias that is none leads elsewhere": (
        alter("AlterAlias", alias="unknown", collection_name=OTHER),
        "not found",
    ),
    "properties of no collection": (
        alter("AlterCollection", collection_name="unknown", delete_keys=["k"]),
        "not found",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_refusal_is_no_failed_step(case: str) -> None:
    call, reason = REFUSED[case]
    async with scene() as term:
        with capture_logs() as logs, pytest.raises(MilvusError, match=reason):
            await call(term)
        await term.quiet()
        assert [line["event"] for line in logs if line["log_level"] != "debug"] == []
        assert "txn" not in term.effects.done


async def test_what_is_begun_and_then_refused_is_a_failed_step() -> None:
    """By another component: the partition is there by then."""
    async with scene() as term:
        term.effects.failing.add("sync partition")
        with capture_logs() as logs, pytest.raises(MilvusError, match="sync partition refused"):
            await term.life.create_partition(create_partition("p"), soon())
        await term.quiet()
        assert "a step failed, undoing" in [line["event"] for line in logs]
        assert seen(term.place)[NAME] == ["_default"]
