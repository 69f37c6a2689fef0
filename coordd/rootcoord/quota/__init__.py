"""The quota centre: what the proxies may let through, from the state of the nodes.

`center` asks the other processes and tells the proxies; all else is pure. From what was said (`measures`),
the settings and the collections' properties (`ceilings`, `properties`) follow the limits of each collection
(`writing`, `reading`, `limits`), and from these the message to the proxies (`request`).

| What | Effect |
|---|---|
| `limitWriting.forceDeny`, `limitReading.forceDeny` | nothing is written, or read |
| a disk quota is used up | nothing is written to the collection, or to any |
| late ticks, memory of a node, growing segments | slower inserts, upserts, deletes: the least factor counts |
| … and the factor is 0 (never for growing segments) | nothing is written to the collections of the node |
| long queues, much read | searches and queries at `coolOffSpeed` of the present rate |

Only rates that have a limit are slowed down. Each proxy gets an equal share of a limit.

Not Milvus':

* a peer that does not answer spoils no round (Milvus skips the round for it): what it said last counts. Its
  ticks grow no older meanwhile;
* a denial is not lifted by a least rate, and neither cooling off nor ticks from the future raise a rate above
  its limit (in Milvus they do);
* `resultProtection` without a rate does nothing (in Milvus it always cools off);
* a node that says nothing of its memory is left out (in Milvus it spoils the rates);
* each collection that has a limit has one for all six kinds, so that a proxy keeps no old one for the rest;
  a collection that has none is left out, which a proxy takes as no limit.

Source of truth: Milvus 2.3.5 internal/rootcoord/{quota_center,util}.go, pkg/util/metricsinfo,
internal/proxy/multi_rate_limiter.go.
"""
