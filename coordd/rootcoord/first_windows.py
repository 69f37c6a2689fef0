"""The first windows of a term, saved by the very transaction that makes it.

A takeover would otherwise read the saved windows and write the next ones, two round trips to etcd before the
first timestamp. Every replica follows the window keys, so it knows them with their mod_revisions, and

- a campaign has the winner's windows written if the keys are still as followed: an inner transaction
  compares that (a *claim*);
- a handover has the heir's windows written likewise, by the one who leaves (a *bequest*). The heir sees in
  the watch what was written, and what stood there before, which is where it starts.

Nobody else can write the windows after that: the same revision makes every earlier fence fail. If a key is
not as followed, or its value is missing, old-fashioned or corrupt, nothing is written, and the term begins by
reading (`coordd.rootcoord.oracle`, `coordd.rootcoord.windows`).

What was saved also tells for how long there was a term: a window is saved about once a second while one
lasts, and its end goes with the clock. So a revision can be dated in terms' time, which stands still while
nobody leads or etcd takes nothing, and in which no clock is set forward.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from coordd.etcd import Compare, Event, KeyValue, Nested, Put
from coordd.meta.codecs import DecodeError, encode_time_ns
from coordd.meta.layout import MetaLayout
from coordd.rootcoord.ids import IdAllocator
from coordd.rootcoord.tso import NS_PER_MS, WINDOW_MS, TimestampAllocator
from coordd.rootcoord.windows import WindowedAllocator, decode_floor

LATELY_MS: Final = 120_000
"""Earlier terms may not have told all of what was changed in the last of their time. A proxy is told at once,
or barred on record in 2 s; all of that again if the watch lags, which is taken for dead in 30 s at most
(`coordd.ha.follower`). A term that ends early leaves that to the next."""
SAVES_KEPT: Final = 512
"""Of the timestamp window: those of `LATELY_MS`, even with a takeover every few seconds."""


@dataclass(frozen=True, slots=True)
class FirstWindows:
    """Allocators of a term to be, and the ends of their first windows in Unix milliseconds."""

    timestamps: TimestampAllocator
    ids: IdAllocator
    timestamp_end_ms: int
    id_end_ms: int

    def begin(self) -> None:
        """The ends were saved: the allocators may hand out."""
        self.timestamps.extend(self.timestamp_end_ms)
        self.ids.extend(self.id_end_ms)


class WindowTable:
    """The window keys as followed."""

    def __init__(self, layout: MetaLayout) -> None:
        self.prefix = layout.window_prefix
        self._keys = layout.timestamp, layout.id_window
        self._saved: dict[str, KeyValue] = {}
        self._before: dict[str, KeyValue] = {}
        self._ends: deque[tuple[int, int]] = deque(maxlen=SAVES_KEPT)  # revisions; first ms after the window

    def apply(self, event: Event) -> None:
        """Take one event."""
        before = self._saved.pop(event.key, None)
        self._before.pop(event.key, None)
        if event.value is None:
            return
        self._saved[event.key] = KeyValue(
            event.key, event.value, event.create_revision, event.mod_revision, event.version, event.lease
        )
        if before is not None and before.version == event.version - 1:  # no write between them was missed
            self._before[event.key] = before
        if event.key == self._keys[0]:
            with suppress(DecodeError):
                self._ends.append((event.mod_revision, decode_floor(self._saved[event.key])))

    def long_ago(self, epoch: int) -> int:
        """A revision from which to the end of the terms before `epoch` passed `LATELY_MS` of terms' time.

        0: none is known.
        """
        passed_ms, later = 0, 0
        for revision, end in reversed(self._ends):
            if revision >= epoch:
                continue
            passed_ms += min(max(0, later - end), WINDOW_MS)
            if passed_ms >= LATELY_MS:
                return revision
            later = end
        return 0

    def next(self, now_ms: int) -> tuple[FirstWindows, Nested] | None:
        """Windows above those saved, and what saves them if the keys are as followed; None: look at etcd."""
        first = self._above(self._saved, now_ms)
        if first is None:
            return None
        ends = first.timestamp_end_ms, first.id_end_ms
        op = Nested(
            [Compare.mod_revision(key, self._saved[key].mod_revision) for key in self._keys],
            [Put(key, encode_time_ns(end * NS_PER_MS)) for key, end in zip(self._keys, ends, strict=True)],
        )
        return first, op

    def bequeathed(self, epoch: int, now_ms: int) -> FirstWindows | None:
        """The windows that were saved at revision `epoch`, by the transaction that made the term."""
        first = self._above(self._before, now_ms)
        if first is None or any(self._saved[key].mod_revision != epoch for key in self._keys):
            return None
        try:
            ends = [decode_floor(self._saved[key]) - 1 for key in self._keys]
        except DecodeError:
            return None
        return FirstWindows(first.timestamps, first.ids, *ends)

    def _above(self, saved: Mapping[str, KeyValue], now_ms: int) -> FirstWindows | None:
        """Windows above saved ones; None if those are not there or do not decode."""
        try:
            floors = [decode_floor(saved[key]) for key in self._keys]
        except (KeyError, DecodeError):
            return None
        timestamps = TimestampAllocator(floor_ms=floors[0], now_ms=now_ms)
        ids = IdAllocator(floor_ms=floors[1], now_ms=now_ms)
        return FirstWindows(timestamps, ids, _wanted(timestamps, now_ms), _wanted(ids, now_ms))


def _wanted(allocator: WindowedAllocator, now_ms: int) -> int:
    end_ms = allocator.wanted_window_ms(now_ms)
    if end_ms is None:
        raise TypeError("a new allocator has a window")
    return end_ms
