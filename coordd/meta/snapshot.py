"""Snapshot keys: how the history of a value is written, and how it is read at a past time.

A write at hybrid time `ts` puts the same value under the plain key and under `snapshots/<key>_ts<ts>`, in one
transaction; a deletion puts the tombstone under both. `ts` 0 leaves no history. Both copies must agree, since
Milvus 2.3 loads from the snapshots when it starts, 2.5 from the plain keys. So no write may be older than the
newest snapshot of its key; that is for the caller, who takes his timestamps from the oracle.

Reading one key at `ts`: the plain key if no snapshot is newer, else the newest snapshot not after `ts`.
Reading a prefix: snapshots only, so a plain key without any snapshot does not show. `ts` 0, and the largest
one, mean now, and read the plain keys (2.5; in 2.3 the largest one reads the snapshots).

Better than Milvus: keys are matched exactly (there, snapshots of an alias `a_ts1` count as some of `a`, and
deletions reach all keys that start alike).

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/suffix_snapshot.go; 2.5 for `ts` 0.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coordd.etcd import Delete, EtcdClient, KeyValue, Put, prefix_end
from coordd.meta.codecs import TOMBSTONE, is_tombstone
from coordd.meta.layout import MAX_TS, MetaLayout
from coordd.meta.transaction import Write

NOW: Final = frozenset((0, MAX_TS))
"""Timestamps that stand for the present."""


@dataclass(frozen=True, slots=True)
class ValueAt:
    """A key's value at a past time, as etcd held it at `revision`; None: it did not exist."""

    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class ValuesAt:
    """Values by absolute plain key, in key order, at a past time, as etcd held them at `revision`."""

    values: Mapping[str, bytes]
    revision: int


def plan_put(layout: MetaLayout, key: str, value: bytes, ts: int) -> tuple[Write, ...]:
    """What to write for `key` (absolute) := `value` at `ts`; keep it in one transaction.

    Raises:
        ValueError: the value would read as a deletion.
    """
    if is_tombstone(value):
        raise ValueError(f"the value for {key!r} is the mark of a deletion")
    if ts == 0:
        return (Put(key, value),)
    return (Put(key, value), Put(layout.snapshot(key, ts), value))


def plan_delete(layout: MetaLayout, key: str, ts: int) -> tuple[Write, ...]:
    """What to write to delete `key` (absolute), which exists, at `ts`; keep it in one transaction."""
    if ts == 0:
        return (Delete(key),)
    return (Put(key, TOMBSTONE), Put(layout.snapshot(key, ts), TOMBSTONE))


def history_of(layout: MetaLayout, key: str, kvs: Iterable[KeyValue]) -> dict[int, bytes]:
    """Values by timestamp of the snapshots of exactly `key` among `kvs`."""
    return {
        parsed[1]: kv.value
        for kv in kvs
        if (parsed := layout.parse_snapshot(kv.key)) is not None and parsed[0] == key
    }


def value_at(history: Mapping[int, bytes], ts: int) -> bytes | None:
    """The newest value not after `ts`; None if there is none or it is a deletion."""
    newest = max((when for when in history if when <= ts), default=None)
    value = None if newest is None else history[newest]
    return None if is_tombstone(value) else value


def values_at(layout: MetaLayout, kvs: Iterable[KeyValue], ts: int) -> dict[str, bytes]:
    """For every plain key with snapshots among `kvs`: its value at `ts`, if it existed then; in key order."""
    histories: dict[str, dict[int, bytes]] = {}
    for kv in kvs:
        parsed = layout.parse_snapshot(kv.key)
        if parsed is not None:
            histories.setdefault(parsed[0], {})[parsed[1]] = kv.value
    values = {key: value_at(history, ts) for key, history in histories.items()}
    return {key: value for key, value in sorted(values.items()) if value is not None}


class SnapshotReader:
    """Reads at past times from etcd. `revision` pins a read to one state of etcd (0: the present one).

    All methods raise EtcdError when etcd cannot be read. They are safe to cancel.
    """

    def __init__(self, client: EtcdClient, layout: MetaLayout) -> None:
        self._client = client
        self._layout = layout

    async def read(self, key: str, ts: int, *, revision: int = 0) -> ValueAt:
        """The value of an absolute plain key at `ts`."""
        if ts not in NOW:
            prefix = self._layout.snapshots_of(key)
            found = await self._client.range(prefix, prefix_end(prefix), revision=revision)
            history = history_of(self._layout, key, found.kvs)
            if any(when > ts for when in history):
                return ValueAt(value_at(history, ts), found.revision)
            revision = found.revision
        plain = await self._client.get(key, revision=revision)
        value = None if plain.kv is None or is_tombstone(plain.kv.value) else plain.kv.value
        return ValueAt(value, revision or plain.revision)

    async def read_prefix(self, prefix: str, ts: int, *, revision: int = 0) -> ValuesAt:
        """The values of all plain keys under `prefix` (absolute, ends with `/`) at `ts`.

        Raises:
            ValueError: `prefix` does not end with `/`, so it would reach into other families.
        """
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} does not end with a separator")
        if ts in NOW:
            plain = await self._client.range(prefix, prefix_end(prefix), revision=revision)
            values = {kv.key: kv.value for kv in plain.kvs if not is_tombstone(kv.value)}
            return ValuesAt(values, revision or plain.revision)
        start = self._layout.snapshot_prefix + prefix[len(self._layout.meta) + 1 :]
        found = await self._client.range(start, prefix_end(start), revision=revision)
        return ValuesAt(values_at(self._layout, found.kvs, ts), revision or found.revision)
