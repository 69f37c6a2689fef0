"""Which snapshots of a history may go, and in which order. Pure.

A version goes when a newer one has been there for `ttl`: nobody may still ask for the time before. All of
them go, and the plain key with them, when the newest is a tombstone and older than `reserve`. Nothing goes
that is younger than `reserve`. So the newest version of a key that exists always stays.

Oldest first: were a tombstone deleted before an older value, that value would be the newest, and the key
would be back.

Source of truth: Milvus branch 2.5 internal/metastore/kv/rootcoord/suffix_snapshot.go. There the older
versions of a deleted key go after `reserve` already.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coordd.meta.layout import MetaLayout
from coordd.rootcoord.snapshots.histories import History, Version
from coordd.rootcoord.tso import LOGICAL_BITS, physical_of

TRANSACTION_KEYS: Final = 64
"""Keys deleted by one transaction: Milvus' `metastore.maxEtcdTxnNum`. etcd takes 128 operations."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """Hybrid timestamps: look-ups from `history` on keep their answers; what was deleted at `deleted` or
    before is forgotten. `history` <= `deleted`.
    """

    history: int
    deleted: int

    @classmethod
    def at(cls, now: int, *, ttl_s: int, reserve_s: int) -> "Horizon":
        """As of the hybrid timestamp `now`."""
        return cls(_before(now, max(ttl_s, reserve_s)), _before(now, reserve_s))


@dataclass(frozen=True, slots=True)
class Removal:
    """Versions of one key, oldest first, to be deleted in this order. `forget`: the plain key, too."""

    key: str
    versions: tuple[Version, ...]
    forget: bool = False


def removal(history: History, horizon: Horizon) -> Removal | None:
    """What may go of a history; None if nothing may."""
    versions = history.versions
    if versions[-1].deleted and versions[-1].ts <= horizon.deleted:
        return Removal(history.key, versions, forget=True)
    seen = bisect_right(versions, horizon.history, key=lambda version: version.ts)
    return Removal(history.key, versions[: seen - 1]) if seen > 1 else None


def transactions(
    removals: Iterable[Removal], *, most: int = TRANSACTION_KEYS
) -> Iterator[tuple[Removal, ...]]:
    """Removals packed into transactions of at most `most` keys, to be carried out in this order.

    One that is too large is cut; then the last part has the newest version and, if so, the plain key.
    """
    batch: list[Removal] = []
    room = most
    for one in removals:
        for part in _parts(one, most):
            if _keys(part) > room:
                yield tuple(batch)
                batch, room = [], most
            batch.append(part)
            room -= _keys(part)
    if batch:
        yield tuple(batch)


def snapshot_keys(layout: MetaLayout, one: Removal) -> Sequence[str]:
    """The keys of its versions."""
    return [layout.snapshot(one.key, version.ts) for version in one.versions]


def _parts(one: Removal, most: int) -> Iterator[Removal]:
    versions = one.versions
    while len(versions) + one.forget > most:
        # The last part must not be the plain key alone: it goes together with its tombstone.
        count = min(most, len(versions) - 1)
        yield Removal(one.key, versions[:count])
        versions = versions[count:]
    yield Removal(one.key, versions, one.forget)


def _keys(one: Removal) -> int:
    return len(one.versions) + one.forget


def _before(now: int, seconds: int) -> int:
    return max(0, physical_of(now) - 1000 * seconds) << LOGICAL_BITS
