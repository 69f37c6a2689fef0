"""The end of old history: snapshots that nobody may still ask for, and what is left of deleted keys.

Every change of metadata leaves a snapshot of the value (`coordd.meta.snapshot`), for look-ups at a past time.
Without this they would pile up for good, and so would the tombstones of deleted keys, which every load reads.

- `histories`: from the snapshot keys, in key order, to the history of each plain key. Pure.
- `retention`: which versions of a history may go, and in which transactions. Pure.
- `collector`: the task of the active replica that reads, decides and deletes, once an hour.

What holds at every moment, also if a round ends half way:

- the newest snapshot of a key that exists stays: Milvus 2.3 loads from the snapshots alone;
- a look-up at a time that is to be kept gets the answer that it got before;
- a key that was deleted stays deleted: its tombstone goes last, together with that of the plain key.

Better than Milvus: 2.3 deletes only what belongs to deleted keys, and fails if that is too much for one
transaction; a 2.4 deleted the last snapshot of keys that exist. Neither is fenced.

Source of truth: Milvus branch 2.5 internal/metastore/kv/rootcoord/suffix_snapshot.go (removeExpiredKvs).
"""

from coordd.rootcoord.snapshots.collector import HOURLY, Pace, SnapshotCollector, SnapshotFigures

__all__ = ["HOURLY", "Pace", "SnapshotCollector", "SnapshotFigures"]
