"""What DataCoord is told of collections that were altered, by a caller's change or in the background.

It is told what holds by then, so to tell it twice, or of something that was not altered, does no harm. A term
may end between a change and this, and so may the caller, who would repeat it. So a new term announces the
collections that were changed lately once more (`Fold.recent_keys`), as it does to the proxies
(`coordd.rootcoord.inherited`). Of a collection that is not available DataCoord is told nothing.

Source of truth: Milvus 2.3.5 internal/rootcoord/alter_collection_task.go, where nobody makes that good;
internal/datacoord/services.go (BroadcastAlteredCollection).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from coordd.clock import boottime
from coordd.meta.keys import CollectionKey, FieldKey
from coordd.meta.layout import MetaLayout
from coordd.meta.tables import RootCoordTables
from coordd.rootcoord.collections import altered_collection
from coordd.rootcoord.operations import Operations
from coordd.rootcoord.peers import DataCoordClient
from coordd.rootcoord.steps import Lane, Step

ATTEMPT_S = 10.0
"""What one attempt in the background may take before it is begun anew."""


@dataclass(frozen=True, slots=True)
class AlterationNews:
    """Of one term. `data_coord` None: without data nodes there is none to ask."""

    tables: RootCoordTables
    operations: Operations
    data_coord: DataCoordClient | None

    async def tell(self, collection_id: int, deadline: float) -> None:
        """Tell DataCoord what a collection is like now. `deadline`: seconds on CLOCK_BOOTTIME.

        Raises:
            CoorddError: see `coordd.rootcoord.peers`.
        """
        row = self.tables.collections.get(collection_id)
        if self.data_coord is None or row is None or not row.available:
            return
        view = self.tables.collections.whole(collection_id)
        if view is not None:
            await self.data_coord.broadcast_altered_collection(altered_collection(view), deadline=deadline)

    def tell_in_background(self, collection_ids: Iterable[int]) -> None:
        """Tell DataCoord of each, again and again until it has heard of it or the term ends."""
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
