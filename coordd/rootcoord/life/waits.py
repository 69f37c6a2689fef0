"""What the end of a collection or a partition waits for: readers who hear of it, segments that go away.

These are steps in the background. One that has nothing to do yet says when to ask again, with pauses that
grow: thousands of ends may wait at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from coordd.log import get_logger
from coordd.rootcoord.life.means import Means, soon
from coordd.rootcoord.peers import ALL_PARTITIONS
from coordd.rootcoord.steps import NotYet
from coordd.rpc.status import MilvusError

log = get_logger("coordd.rootcoord.life")

GROWTH: Final = 2
HEARD_FIRST_S: Final = 0.05
HEARD_MAX_S: Final = 2.0
"""A tick comes every `proxy.timeTickInterval` (0.2 s), as long as all proxies report."""
SEGMENTS_GROWTH_MAX: Final = 20
"""The pauses grow from a minute to 20, which is Milvus'. Dropped segments stay for hours by default
(`dataCoord.gc.dropTolerance`), if there were any."""


@dataclass(slots=True)
class Message:
    """One message to the readers of some channels; without a message queue there are none."""

    means: Means
    _channels: Sequence[str] = ()
    _timestamp: int = 0
    _pause_s: float = HEARD_FIRST_S

    async def send(self, channels: Sequence[str], build: Callable[[int], bytes]) -> None:
        """Send it. `build` makes it from its timestamp. Raises as `Broadcaster.send`."""
        if self.means.broadcaster is not None:
            self._timestamp, _ids = await self.means.broadcaster.send(channels, build, deadline=soon())
            self._channels = channels

    async def heard(self) -> NotYet | None:
        """Whether the readers have been told that they have it."""
        broadcaster = self.means.broadcaster
        if broadcaster is None or broadcaster.heard(self._channels, self._timestamp):
            return None
        pause = NotYet(self._pause_s)
        self._pause_s = min(GROWTH * self._pause_s, HEARD_MAX_S)
        return pause


@dataclass(slots=True)
class Segments:
    """The segments of a dropped collection, or of one of its partitions."""

    means: Means
    collection_id: int
    partition_id: int = ALL_PARTITIONS
    _pause_s: float = field(init=False)
    _waited: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._pause_s = self.means.segments_every_s

    async def wait(self) -> NotYet | None:
        """Let the data nodes hear of the end first."""
        if self._waited or not self.means.others_are_asked:
            return None
        self._waited = True
        return NotYet(self.means.segments_every_s)

    async def gone(self) -> NotYet | None:
        """Whether DataCoord confirms that none is left."""
        if not self.means.others_are_asked:
            return None
        if await self._confirmed():
            return None
        pause = NotYet(self._pause_s)
        self._pause_s = min(GROWTH * self._pause_s, SEGMENTS_GROWTH_MAX * self.means.segments_every_s)
        return pause

    async def _confirmed(self) -> bool:
        """A refusal is no confirmation, and no reason to ask sooner."""
        data_coord = self.means.peers.data_coord
        try:
            return await data_coord.gc_confirm(self.collection_id, self.partition_id, deadline=soon())
        except MilvusError as refusal:
            log.debug("DataCoord does not confirm yet", collection=self.collection_id, reason=str(refusal))
            return False
