"""What DataCoord is told of collections that were altered, by a caller's change or in the background.

A call that waits for DataCoord repeats what it was begun with, for a minute maybe (`coordd.rpc.peer`). So of
one collection it is told one thing at a time, whoever tells it: what holds when the one before has ended. The
last that it hears is then what the last alteration has made. To tell it twice, or of something that was not
altered, does no harm.

A term may end between a change and this, and so may the caller, who would repeat it. So a new term announces
the collections that were changed lately once more (`Fold.recent_keys`), as it does to the proxies
(`coordd.rootcoord.inherited`); but whenever that was, since DataCoord may have been away for as long, and to
hear of it makes it ask nobody. Of a collection that is not available DataCoord is told nothing.

Not promised: that what was given up, or what an earlier term has sent, is not carried out by a DataCoord that
hung, after what it was told since.

Source of truth: Milvus 2.3.5 internal/rootcoord/alter_collection_task.go, where nobody makes that good;
internal/datacoord/services.go (BroadcastAlteredCollection).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

from coordd.clock import boottime
from coordd.meta.key_locks import CommitsOverloaded, KeyLocks
from coordd.meta.keys import CollectionKey, FieldKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.rootcoord.collections import altered_collection
from coordd.rootcoord.operations import QUEUE_MAX, Operations
from coordd.rootcoord.peers import DataCoordClient
from coordd.rootcoord.steps import Lane, Step
from coordd.rpc.peer import PeerUnavailable

ATTEMPT_S = 10.0
"""What one attempt in the background may take before it is begun anew."""


@dataclass(frozen=True, slots=True)
class AlterationNews:
    """Of one term. `data_coord` None: without data nodes there is none to ask."""

    tables: RootCoordTables
    operations: Operations
    data_coord: DataCoordClient | None
    _turns: KeyLocks = field(default_factory=lambda: KeyLocks(QUEUE_MAX), init=False)

    async def tell(self, collection_id: int, deadline: float) -> None:
        """Tell DataCoord what a collection is like, now or later. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            PeerUnavailable: DataCoord has not even answered by then what it was told of it before.
            CoorddError: see `coordd.rootcoord.peers`.
        """
        try:
            async with self._turns.hold((str(collection_id),), deadline=deadline):
                await self._tell(collection_id, deadline)
        except CommitsOverloaded as error:
            raise PeerUnavailable(
                "datacoord",
                f"datacoord has not answered yet what it was told before of collection {collection_id}",
                hint="look at the log of the active datacoord",
            ) from error

    async def _tell(self, collection_id: int, deadline: float) -> None:
        row = self.tables.collections.get(collection_id)
        if self.data_coord is None or row is None or not row.available:
            return
        view = self.tables.collections.whole(collection_id)
        if view is not None:
            await self.data_coord.broadcast_altered_collection(altered_collection(view), deadline=deadline)

    def tell_in_background(self, collection_ids: Iterable[int]) -> None:
        """Tell DataCoord of each, again and again until it has heard what holds, or the term ends."""
        for collection_id in () if self.data_coord is None else collection_ids:
            step = Step("tell DataCoord", partial(self._attempt, collection_id), lane=Lane.DATA_COORD)
            self.operations.in_background(f"announce collection {collection_id}", [step])

    async def _attempt(self, collection_id: int) -> None:
        await self.tell(collection_id, boottime() + ATTEMPT_S)


def altered(layout: MetaLayout, keys: Iterable[str]) -> list[int]:
    """IDs of the collections that may have been altered if these keys were changed: each once."""
    found: dict[int, None] = {}
    for key in keys:
        match layout.parse(key):
            case CollectionKey(_, collection_id) | FieldKey(collection_id, _):
                found[collection_id] = None
            case _:
                pass
    return list(found)
