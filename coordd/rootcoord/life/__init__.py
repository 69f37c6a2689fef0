"""The life of collections and partitions: made and dropped step by step, with the other components.

What a step has done is in the metadata before the next one begins, so that a term which ends in between
leaves something to go on from: what is Creating is undone by the next term, what is Dropping is finished.

| CreateCollection (`creation`) | CreatePartition (`planned`) |
|---|---|
| IDs and channels are taken, the CreateCollection message is sent | – |
| written, Creating | written, Creating |
| proxies forget the name, DataCoord watches the channels | QueryCoord loads it if the collection is loaded |
| written, Created | written, Created, and the proxies forget the collection |

Why here, and not before: a proxy that forgets too early can learn the old state again. Of a collection that
is being created it can learn nothing, and it keeps nothing of a name that leads nowhere. So it may forget the
name at any time before the last step, beside what DataCoord is asked for. Of a partition that is being
created it can learn the list without it, and keeps that. So it is told with the last step.

Undone by (`ends`): the DropCollection message if DataCoord may know of it, the keys, the channels; for a
partition its release and its key. An undone collection is nobody's name any more, so nobody waits for the
undoing.

A drop (`planned`) is answered when it is written and the proxies have forgotten: one that forgets first can
learn the old state again, and is told once more if it may have (`coordd.rootcoord.word`). QueryCoord's
release, the indexes, the message and its tick, DataCoord's confirmation that no segment is left, and the end
of the keys follow (`ends`), a few collections at a time, and callers go first.

Without a message queue (`mq.type: none`) there are no data nodes, and the other components are not asked.

Not Milvus': no proxy has forgotten only before the change is written (see `coordd.rootcoord.proxies`);
segments are asked for after a minute, and then more and more seldom, and not every twenty, since DataCoord
knows of each from its allocation.

Source of truth: Milvus 2.3.5 internal/rootcoord/{create,drop}_{collection,partition}_task.go, step.go,
garbage_collector.go, root_coord.go (restore); internal/proxy/meta_cache.go (what a proxy keeps).
"""

from coordd.rootcoord.life.changes import Life
from coordd.rootcoord.life.means import Means

__all__ = ["Life", "Means"]
