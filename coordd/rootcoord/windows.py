"""Saved windows: read at the start of a term, kept ahead of the allocators by a task of the term.

`<kv>/gid/timestamp` and `<kv>/gid/idTimestamp` each hold the end of what one allocator may hand out: 8 bytes,
big-endian, Unix nanoseconds. Everything handed out lies below the saved end, and a successor starts above it.
The keys lie outside the followed range, so they are read and written here, under the term's fence, and not
folded into a table.

A write also compares the key's mod_revision with the one last seen, so that nothing is lost when

- the outcome of a write stays unknown: the key is read back under the fence, and a write that arrives late
  finds its compare false or its value acceptable;
- somebody else writes the key: a Milvus RootCoord that was paused and is deposed goes on writing for a second
  or so, unfenced. Its value is read, the allocator moves above it, and ours is written again.

What to start from when the value is unusable:

- a value that does not decode is never taken for zero. The previous value is read from etcd's history: an
  allocator hands out only what it has saved successfully, so the last good value bounds everything. If etcd
  has compacted it away, the term is refused (`WindowCorruptError`) and the key stays as it is: a timestamp
  handed out twice would damage data silently, and only an operator can say that it cannot happen.
- an absent key is that operator's word, or a fresh cluster: the start lies above the wall clock and above
  every timestamp and ID in the metadata.

Source of truth: Milvus 2.3.5 internal/tso/tso.go, internal/rootcoord/root_coord.go; 2.2.3 for
`<kv>/tso/timestamp`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordd import clock
from coordd.errors import CoorddError
from coordd.etcd import EtcdClient, KeyValue, Put
from coordd.etcd.errors import Compacted, EtcdError, FutureRevision, OutcomeUnknown
from coordd.log import get_logger
from coordd.meta.codecs import DecodeError, decode_time_ns, encode_time_ns
from coordd.meta.commit import CommitConflict, FencedCommitter
from coordd.rootcoord.tso import NS_PER_MS, floor_above

log = get_logger("coordd.rootcoord.windows")

COMMIT_TIMEOUT_S = 2.0
"""A window write that takes longer is read back; `LOW_WATER_MS` of the timestamps is as long."""

POLL_S = 0.2
RETRY_S = 0.05
"""After a write that etcd could not take; short, since each attempt waits for etcd as long as it may."""
REFUSED_RETRY_S = 0.2
"""After one that a person must mend (a full quota, say). As soon as `RETRY_S` when a request waits for it."""
MAX_HISTORY_STEPS = 8
"""How many corrupt writes in a row are looked behind."""


class WindowCorruptError(CoorddError):
    """A saved window does not decode and no earlier value of the key is left; the term must not begin."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(
            f"the saved window {key} cannot be read: {reason}; without it, values could be handed out twice",
            hint="restore the key's last good value, or, if the clocks of all hosts are right, delete it: the"
            " start is then taken from the clock and from the newest timestamp and ID in the metadata",
        )
        self.key = key


class WindowedAllocator(Protocol):
    """What a keeper asks of an allocator; see `TimestampAllocator` and `IdAllocator`."""

    def wanted_window_ms(self, now_ms: int) -> int | None:
        """End of the window to persist, None while there is enough."""

    def extend(self, window_end_ms: int) -> None:
        """That end was persisted."""

    def raise_floor(self, floor_ms: int) -> None:
        """Hand out nothing below."""


@dataclass(frozen=True, slots=True)
class SavedWindow:
    """A window key as read: where an allocator may start, and the key's mod_revision (0: absent)."""

    key: str
    floor_ms: int
    mod_revision: int


async def window_floor(client: EtcdClient, kv: KeyValue) -> int:
    """First millisecond above a saved window, from the key's history if its value does not decode.

    Raises:
        WindowCorruptError: no value of the key that is left decodes.
        EtcdError: the history could not be read.
    """
    try:
        return decode_floor(kv)
    except DecodeError as error:
        reason = error.reason
        log.error("saved window is corrupt, looking for its last good value", key=kv.key, reason=reason)
    revision = kv.mod_revision
    for _ in range(MAX_HISTORY_STEPS):
        try:
            older = (await client.get(kv.key, revision=revision - 1)).kv
        except (Compacted, FutureRevision):
            break
        if older is None:
            break
        revision = older.mod_revision
        try:
            floor_ms = decode_floor(older)
        except DecodeError:
            continue
        log.warning("last good value of the saved window found", key=kv.key, revision=revision)
        return floor_ms
    raise WindowCorruptError(kv.key, reason)


def decode_floor(kv: KeyValue) -> int:
    """First millisecond above a saved window.

    Raises:
        DecodeError: not 8 bytes, or no time that a cluster can have saved.
    """
    saved_ns = decode_time_ns(kv.key, kv.value)
    try:
        return floor_above(saved_ns)
    except ValueError as error:
        raise DecodeError(kv.key, str(error)) from error


class WindowKeeper:
    """Persists the window of one allocator for one term, ahead of need.

    `mod_revision`: that of the key as last seen. `now_ms` is the wall clock. Not thread-safe; one `run` per
    keeper.

    Attributes:
        key: the window's key in etcd.
    """

    def __init__(
        self,
        key: str,
        mod_revision: int,
        allocator: WindowedAllocator,
        committer: FencedCommitter,
        *,
        now_ms: Callable[[], int] = clock.unix_ms,
    ) -> None:
        self.key = key
        self._mod_revision = mod_revision
        self._allocator = allocator
        self._committer = committer
        self._now_ms = now_ms
        self._attempted: set[int] = set()
        self._wanted = asyncio.Event()
        self._extended = asyncio.Event()

    async def run(self) -> None:
        """Keep the window ahead until cancelled. Whatever etcd's trouble is, it does not end the term: an
        etcd whose quota is used up, say, is mended by a person while the replica waits.

        Raises:
            FenceLost: the term is over.
        """
        complaint = ""
        while True:
            try:
                await self.extend()
            except EtcdError as error:
                if complaint != str(error):
                    complaint = str(error)
                    log.error("cannot extend the saved window, trying again", key=self.key, reason=complaint)
                await asyncio.sleep(RETRY_S)
                await self._wait_wanted(REFUSED_RETRY_S - RETRY_S)
                self._wanted.clear()
            else:
                complaint = ""
                self._wanted.clear()
                await self._wait_wanted(POLL_S)

    async def _wait_wanted(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def extend(self) -> None:
        """Persist what the allocator wants, if anything; tries again while etcd is out of reach.

        Raises:
            FenceLost: the term is over.
            EtcdError: one that trying again cannot mend.
        """
        complained = False
        while (end_ms := self._allocator.wanted_window_ms(self._now_ms())) is not None:
            try:
                await self._persist(end_ms)
            except EtcdError as error:
                if not error.retriable:
                    raise
                if not complained:
                    log.warning("cannot extend the saved window yet", key=self.key, reason=str(error))
                complained = True
                await asyncio.sleep(RETRY_S)
        self._announce()

    async def wait_extended(self, timeout_s: float) -> None:
        """Ask for more, and return when the window has been extended or after `timeout_s` seconds."""
        extended = self._extended
        self._wanted.set()
        try:
            async with asyncio.timeout(timeout_s):
                await extended.wait()
        except TimeoutError:
            return

    def close(self) -> None:
        """The term is over: whoever waits goes on at once."""
        self._announce()

    def _announce(self) -> None:
        self._extended.set()
        self._extended = asyncio.Event()

    async def _persist(self, end_ms: int) -> None:
        """One attempt; on return either the window was extended or the key's present state is known."""
        end_ns = end_ms * NS_PER_MS
        self._attempted.add(end_ns)
        deadline = clock.boottime() + COMMIT_TIMEOUT_S
        try:
            revision = await self._committer.commit(
                [Put(self.key, encode_time_ns(end_ns))], guard_revision=self._mod_revision, deadline=deadline
            )
        except (CommitConflict, OutcomeUnknown) as error:
            log.info("reading the saved window back", key=self.key, reason=str(error))
            deadline = clock.boottime() + COMMIT_TIMEOUT_S
            self._adopt((await self._committer.read([self.key], deadline=deadline)).values[self.key])
        else:
            self._persisted(end_ms, revision)

    def _persisted(self, end_ms: int, mod_revision: int) -> None:
        self._mod_revision = mod_revision
        self._attempted.clear()
        self._allocator.extend(end_ms)

    def _adopt(self, found: KeyValue | None) -> None:
        """Go on from what the key is: unchanged, an own write given up for lost, or somebody else's."""
        revision = 0 if found is None else found.mod_revision
        if revision == self._mod_revision:
            return
        self._mod_revision = revision
        if found is None:
            log.warning("the saved window was deleted by somebody else, writing it again", key=self.key)
            return
        try:
            saved_ns = decode_time_ns(found.key, found.value)
            if saved_ns in self._attempted:
                self._persisted(saved_ns // NS_PER_MS, revision)
                return
            self._allocator.raise_floor(decode_floor(found))
        except DecodeError as error:
            log.warning("somebody else broke the saved window, writing it again", reason=str(error))
            return
        log.warning("the saved window was written by somebody else, moving above it", key=self.key)
