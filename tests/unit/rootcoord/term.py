"""A term over the in-memory etcd: fence, committer, oracle."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from coordd import clock
from coordd.etcd import Compare
from coordd.ha.tasks import TaskScope
from coordd.meta.commit import FencedCommitter
from coordd.rootcoord.ddl import Ddl
from coordd.rootcoord.known import KnownInTables
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.oracle import Oracle
from tests.unit.rootcoord.memory_etcd import MemoryEtcd
from tests.unit.rootcoord.recorded import LAYOUT, World

ACTIVE_KEY = LAYOUT.session("rootcoord")


@dataclass
class FencedTerm:
    """A term that holds until somebody writes the ACTIVE key."""

    etcd: MemoryEtcd
    committer: FencedCommitter
    lost: list[bool] = field(default_factory=list)


def begin_term(place: World) -> FencedTerm:
    """Write the ACTIVE key and fence on it."""
    epoch = place.etcd.put_now(ACTIVE_KEY, b'{"ServerID":4,"ServerName":"rootcoord","Version":"2.3.5"}')
    lost: list[bool] = []
    fence = Compare.mod_revision(ACTIVE_KEY, epoch)
    return FencedTerm(
        place.etcd, FencedCommitter(place.etcd, fence, place.fold, lambda: lost.append(True)), lost
    )


@asynccontextmanager
async def start_oracle(
    place: World, term: FencedTerm | None = None, *, now_ms: Callable[[], int] = clock.unix_ms
) -> AsyncIterator[Oracle]:
    """An oracle whose keepers run until the block is left."""
    term = term or begin_term(place)
    oracle = await Oracle.start(
        place.client, LAYOUT, term.committer, KnownInTables(place.tables), now_ms=now_ms
    )
    place.oracle = oracle
    place.ddl = Ddl(term.committer, oracle, place.tables.ddl_mark)
    place.access = Ddl(term.committer, oracle, place.tables.access_mark)
    try:
        async with TaskScope() as scope:
            scope.create_task(oracle.keep_timestamps(), name="timestamps")
            scope.create_task(oracle.keep_ids(), name="ids")
            place.operations = Operations(lambda coroutine, name: scope.create_task(coroutine, name=name))
            yield oracle
    finally:
        if place.operations is not None:
            place.operations.close()
        oracle.close()
