"""Changes that begin with one transaction, and of which the proxies are told: drops, and new partitions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from coordd.meta.transaction import Write
from coordd.rootcoord.batch import Decide
from coordd.rootcoord.collections import Change, plan_finish_partition
from coordd.rootcoord.databases import Stamp
from coordd.rootcoord.life.ends import CollectionEnd, PartitionEnd
from coordd.rootcoord.life.means import Means
from coordd.rootcoord.operations import Operation, Step
from coordd.rootcoord.settling import settle_and_forget
from coordd.rootcoord.steps import Lane
from coordd.rootcoord.word import Telling
from coordd.rpc.peer import PeerUnavailable

End = TypeVar("End", CollectionEnd, PartitionEnd)


def collection_end(means: Means, change: Change) -> CollectionEnd | None:
    """Of the collection that a change marks; None if it marks none."""
    return CollectionEnd(means, change.collection_id) if change.collection_id else None


def partition_end(means: Means, change: Change) -> PartitionEnd | None:
    """Of the partition that a change makes or marks; None if there is none."""
    if not change.partition_id:
        return None
    return PartitionEnd(means, change.collection_id, change.partition_id)


@dataclass(slots=True)
class Planned(Generic[End]):
    """One request on its way.

    `plan` decides what to write, or refuses; it is asked again if the metadata is not as it was known.
    `ends`: the end of what a change makes or marks. `deadline`: seconds on CLOCK_BOOTTIME. `db_name`, `name`:
    the collection, or an alias of it.
    """

    means: Means
    plan: Callable[[Stamp], Change]
    ends: Callable[[Means, Change], End | None]
    deadline: float
    db_name: str
    name: str
    drops_collection: bool = False
    _change: Change = field(default=Change((), ""), init=False)  # planned last, written or not
    _telling: Telling = field(init=False)

    def __post_init__(self) -> None:
        self._telling = self.means.telling(drops_collection=self.drops_collection)

    @property
    def end(self) -> End | None:
        """The end of what the change makes or marks; None: there is nothing to do, or nothing was planned."""
        return self.ends(self.means, self._change)

    async def write(self) -> None:
        """Carry the plan out."""
        await self._commit(lambda stamp: self._decide(stamp).writes)

    async def write_and_tell(self, then: Callable[[], Sequence[Write]] | None = None) -> None:
        """Carry the plan out, or write what comes `then`, and tell the proxies beside that."""

        def decide(stamp: Stamp) -> Change:
            return self._decide(stamp) if then is None else replace(self._change, writes=tuple(then()))

        await self._telling.write(decide, self._commit)

    async def forget(self) -> None:
        """Tell the proxies, but for those who know."""
        await self._telling.tell(self._change)

    def _decide(self, stamp: Stamp) -> Change:
        self._change = self.plan(stamp)
        return self._change

    async def _commit(self, decide: Decide) -> int:
        return await self.means.commit_beside(decide, self.deadline, db_name=self.db_name, name=self.name)


def dropping(drop: Planned[End], *, replicated: bool) -> Operation:
    """Answered when nobody sees the collection or partition any more; the rest follows.

    If the outcome of the write is unknown, or a proxy refuses to hear of it, the drop cannot be taken back,
    and a repeated call would find nothing of that name: it is finished if it was written.

    `replicated`: it was asked for in another cluster, and comes from there.
    """
    means = drop.means

    def finish() -> None:
        if drop.end is not None:
            drop.end.finish(replicated=replicated)

    async def finish_if_written() -> None:
        if drop.end is not None and drop.end.dropped:
            drop.end.finish(replicated=replicated)

    async def resume() -> None:
        if drop.end is not None:
            steps = settle_and_forget(means.ddl, drop.forget)
            steps.append(Step("finish", finish_if_written, lane=Lane.LOOK))
            means.operations.in_background(f"resume drop of {drop.end}", steps, urgent=True)

    steps = [Step("write", drop.write_and_tell, resume, may_refuse=True), Step("proxies forget", drop.forget)]
    return Operation(steps, finish)


def making(partition: Planned[PartitionEnd]) -> Operation:
    """Written so that nobody sees it, made known to QueryCoord, then made visible; undone if that fails.

    The proxies are told beside that, not earlier: one that forgets before can learn the old list of
    partitions again, and keeps it. If one refuses to hear of it, the partition is there all the same, and a
    repeated call tells them anew.
    """
    means, maybe_loaded = partition.means, False

    async def undo() -> None:
        if partition.end is not None:
            partition.end.undo(loaded=maybe_loaded)

    async def load() -> None:
        nonlocal maybe_loaded
        made = partition.end
        if made is None or not means.others_are_asked:
            return
        maybe_loaded = True
        try:
            await means.peers.query_coord.sync_new_created_partition(
                made.collection_id, made.partition_id, deadline=partition.deadline
            )
        except PeerUnavailable as error:
            maybe_loaded = error.asked
            raise

    async def finish() -> None:
        made = partition.end
        if made is not None:
            ids = made.collection_id, made.partition_id
            await partition.write_and_tell(lambda: plan_finish_partition(means.tables, means.layout, *ids))

    return Operation(
        [
            Step("write", partition.write, undo, may_refuse=True),
            Step("load", load),
            Step("finish", finish),
            Step("proxies forget", partition.forget),
        ]
    )
