"""The timestamps and IDs of one term: the pure allocators together with the keepers of their windows.

Handing out is synchronous while the window lasts, which it does as long as etcd takes a write every second or
two; the waiting forms are for the rest. Nothing is handed out before `start` has persisted both windows.

Source of truth: Milvus 2.3.5 internal/rootcoord/root_coord.go (AllocTimestamp, AllocID).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from coordd import clock
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, KeyValue
from coordd.log import get_logger
from coordd.meta.commit import FencedCommitter, FenceLost
from coordd.meta.layout import MetaLayout
from coordd.rootcoord.first_windows import FirstWindows
from coordd.rootcoord.ids import IdAllocator
from coordd.rootcoord.tso import LOGICAL_BITS, TimestampAllocator, Wait, physical_of
from coordd.rootcoord.windows import SavedWindow, WindowKeeper, window_floor

log = get_logger("coordd.rootcoord.oracle")

CLOCK_STEP_S = 0.001
"""Sleep when the logical part is used up: until the clock shows the next millisecond."""


FAR_AHEAD_MS = 60_000
"""More than takeovers in a row explain: the clock of an earlier host was wrong, or this one's is."""


class NotHandedOutError(CoorddError):
    """No block until the deadline: the window could not be extended, or demand is beyond the clock."""


class TermOverError(NotHandedOutError):
    """This replica does not lead any more; whoever asks must look for the one that does."""


class KnownIds(Protocol):
    """What the metadata knows of timestamps and IDs; asked only when no window was ever saved."""

    async def newest_timestamp(self) -> int:
        """The newest hybrid timestamp in the metadata, 0 if there is none."""

    async def newest_id(self) -> int:
        """The largest ID in the metadata, 0 if there is none."""


class Oracle:
    """Timestamps and IDs of one term. Build it with `Oracle.start` or `Oracle.begun`.

    Attributes:
        timestamps, ids: the pure allocators, for metrics and tests.
    """

    def __init__(
        self,
        timestamps: TimestampAllocator,
        ids_: IdAllocator,
        timestamp_keeper: WindowKeeper,
        id_keeper: WindowKeeper,
        now_ms: Callable[[], int],
    ) -> None:
        self.timestamps = timestamps
        self.ids = ids_
        self._timestamp_keeper = timestamp_keeper
        self._id_keeper = id_keeper
        self._now_ms = now_ms
        self._closed = False

    @classmethod
    async def start(
        cls,
        client: EtcdClient,
        layout: MetaLayout,
        committer: FencedCommitter,
        known: KnownIds,
        *,
        now_ms: Callable[[], int] = clock.unix_ms,
    ) -> "Oracle":
        """Read the saved windows and persist the first ones of this term: two round trips to etcd.

        Raises:
            WindowCorruptError: a saved window is unreadable, so the term must not begin.
            FenceLost: the term is over.
            EtcdError: etcd cannot be used, in a way that waiting does not mend.
        """
        saved = await committer.read([layout.timestamp, layout.old_timestamp, layout.id_window])
        timestamp_window = SavedWindow(
            layout.timestamp,
            await _timestamp_floor(
                client, saved.values[layout.timestamp] or saved.values[layout.old_timestamp], known
            ),
            saved.mod_revision(layout.timestamp),
        )
        id_window = SavedWindow(
            layout.id_window,
            await _id_floor(client, saved.values[layout.id_window], known),
            saved.mod_revision(layout.id_window),
        )
        now = now_ms()
        timestamps = TimestampAllocator(floor_ms=timestamp_window.floor_ms, now_ms=now)
        ids_ = IdAllocator(floor_ms=id_window.floor_ms, now_ms=now)
        keepers = (
            WindowKeeper(
                layout.timestamp, timestamp_window.mod_revision, timestamps, committer, now_ms=now_ms
            ),
            WindowKeeper(layout.id_window, id_window.mod_revision, ids_, committer, now_ms=now_ms),
        )
        await _first_windows(keepers)
        _look_ahead(timestamps, now)
        return cls(timestamps, ids_, *keepers, now_ms)

    @classmethod
    def begun(
        cls,
        first: FirstWindows,
        epoch: int,
        layout: MetaLayout,
        committer: FencedCommitter,
        *,
        now_ms: Callable[[], int] = clock.unix_ms,
    ) -> "Oracle":
        """Of a term whose first windows were saved by the transaction that made it, at revision `epoch`."""
        first.begin()
        _look_ahead(first.timestamps, now_ms())
        return cls(
            first.timestamps,
            first.ids,
            WindowKeeper(layout.timestamp, epoch, first.timestamps, committer, now_ms=now_ms),
            WindowKeeper(layout.id_window, epoch, first.ids, committer, now_ms=now_ms),
            now_ms,
        )

    async def keep_timestamps(self) -> None:
        """Task of the term: keeps the window of timestamps ahead; ends when the term is lost."""
        await self._keep(self._timestamp_keeper)

    async def keep_ids(self) -> None:
        """Task of the term: keeps the window of IDs ahead; ends when the term is lost."""
        await self._keep(self._id_keeper)

    def close(self) -> None:
        """The term is over: nothing is handed out any more, waiting callers go on at once."""
        self._closed = True
        self._timestamp_keeper.close()
        self._id_keeper.close()

    @property
    def newest_timestamp(self) -> int:
        """None that this term has handed out is above it, all that it will hand out are."""
        return max(self.timestamps.last, (self.timestamps.physical_ms << LOGICAL_BITS) - 1)

    def timestamps_now(self, count: int) -> int | Wait:
        """First of `count` consecutive timestamps, or what there is to wait for.

        Raises:
            ValueError: `count` is outside 1..`tso.MAX_COUNT`.
        """
        if self._closed:
            return Wait.WINDOW
        return self.timestamps.allocate(count, self._now_ms())

    def ids_now(self, count: int) -> int | Wait:
        """First of `count` consecutive IDs, or `Wait.WINDOW`.

        Raises:
            ValueError: `count` is outside 1..`ids.MAX_COUNT`.
        """
        return Wait.WINDOW if self._closed else self.ids.allocate(count)

    async def wait_timestamps(self, count: int, deadline: float) -> int:
        """First of `count` timestamps; waits until `deadline` (seconds of CLOCK_BOOTTIME).

        Raises:
            NotHandedOutError: none until then.
            TermOverError: there will be none here.
            ValueError: `count` is outside 1..`tso.MAX_COUNT`.
        """
        while True:
            first = self.timestamps_now(count)
            if not isinstance(first, Wait):
                return first
            remaining_s = self._remaining_s(deadline, first)
            if first is Wait.CLOCK:
                await asyncio.sleep(CLOCK_STEP_S)
            else:
                await self._timestamp_keeper.wait_extended(remaining_s)

    async def wait_ids(self, count: int, deadline: float) -> int:
        """First of `count` IDs; waits until `deadline` (seconds of CLOCK_BOOTTIME).

        Raises:
            NotHandedOutError: none until then.
            TermOverError: there will be none here.
            ValueError: `count` is outside 1..`ids.MAX_COUNT`.
        """
        while True:
            first = self.ids_now(count)
            if not isinstance(first, Wait):
                return first
            await self._id_keeper.wait_extended(self._remaining_s(deadline, first))

    async def _keep(self, keeper: WindowKeeper) -> None:
        try:
            await keeper.run()
        except FenceLost:
            self.close()  # the committer has told the election

    def _remaining_s(self, deadline: float, wait: Wait) -> float:
        if self._closed:
            raise TermOverError("the term of this rootcoord is over")
        remaining_s = deadline - clock.boottime()
        if remaining_s <= 0:
            raise NotHandedOutError(wait.value)
        return remaining_s


def _look_ahead(timestamps: TimestampAllocator, now_ms: int) -> None:
    ahead_ms = timestamps.physical_ms - now_ms
    if ahead_ms > FAR_AHEAD_MS:
        log.warning("timestamps go on far ahead of this machine's clock", ahead_s=ahead_ms // 1000)


async def _first_windows(keepers: Iterable[WindowKeeper]) -> None:
    """Persist them at the same time; of several failures the first is raised, by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for keeper in keepers:
                group.create_task(keeper.extend(), name=f"rootcoord:first-window:{keeper.key}")
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _timestamp_floor(client: EtcdClient, saved: KeyValue | None, known: KnownIds) -> int:
    """Where timestamps start. `saved`: the key of Milvus 2.2 where the present one is absent."""
    if saved is not None:
        return await window_floor(client, saved)
    newest = await known.newest_timestamp()
    if newest:
        log.warning("no saved window of timestamps, starting above the newest in the metadata", newest=newest)
    return physical_of(newest) + 1


async def _id_floor(client: EtcdClient, saved: KeyValue | None, known: KnownIds) -> int:
    if saved is not None:
        return await window_floor(client, saved)
    newest = await known.newest_id()
    if newest:
        log.warning("no saved window of IDs, starting above the largest one in the metadata", newest=newest)
    return (newest >> LOGICAL_BITS) + 1
