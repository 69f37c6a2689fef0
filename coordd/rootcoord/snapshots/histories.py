"""Snapshot keys, read in key order, put together into the history of each plain key. Pure.

The snapshots of one key are not always neighbours: between `a_ts1` and `a_ts2` there may be `a_ts1_ts5`, of
an alias named `a_ts1`. But all of them start with `a_ts`, and whatever starts so is contiguous. So a history
is complete as soon as a key comes that does not start so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from coordd.etcd import KeyValue
from coordd.meta.codecs import is_tombstone
from coordd.meta.layout import MetaLayout


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One snapshot: its hybrid timestamp, whether it is a tombstone, and when its key was written."""

    ts: int
    deleted: bool
    mod_revision: int


@dataclass(frozen=True, slots=True)
class History:
    """The snapshots of one plain key (absolute) that were there when they were read, oldest first."""

    key: str
    versions: tuple[Version, ...]


@dataclass(slots=True)
class _Open:
    prefix: str
    key: str
    versions: list[Version] = field(default_factory=list)


class Histories:
    """Feed it the snapshot keys in key order; what is no snapshot key is passed over."""

    def __init__(self, layout: MetaLayout) -> None:
        self._layout = layout
        self._open: list[_Open] = []  # each prefix starts with the one before

    def feed(self, kvs: Iterable[KeyValue]) -> Iterator[History]:
        """The histories that are complete with these keys."""
        for kv in kvs:
            parsed = self._layout.parse_snapshot(kv.key)
            if parsed is None:
                continue
            while self._open and not kv.key.startswith(self._open[-1].prefix):
                yield _closed(self._open.pop())
            key, ts = parsed
            if not self._open or self._open[-1].key != key:
                self._open.append(_Open(self._layout.snapshots_of(key), key))
            self._open[-1].versions.append(Version(ts, is_tombstone(kv.value), kv.mod_revision))

    def end(self) -> Iterator[History]:
        """There are no more keys: the rest."""
        while self._open:
            yield _closed(self._open.pop())


def _closed(group: _Open) -> History:
    return History(group.key, tuple(sorted(group.versions)))
