"""What a round of the quota centre came to, for metrics and the log.

Pure. Source of truth for what is shown: Milvus 2.3.5 pkg/metrics/rootcoord_metrics.go.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Self

from coordd.rootcoord.quota.limits import Judgement
from coordd.rootcoord.quota.writing import Reason


@dataclass(frozen=True, slots=True)
class QuotaState:
    """After one round.

    `denied`: for each reason the number of collections that may not be written to (with the reason
    `FORCE_DENY` also: not be read). `slowed`: by collection, the share of its rates that is taken away, 0 to
    1. `tick_delays_s`: by role and server ID of a node, how old its newest consumed time ticks are.
    """

    denied: Mapping[Reason, int]
    slowed: Mapping[int, float]
    tick_delays_s: Mapping[tuple[str, int], float]

    @classmethod
    def of(cls, judgement: Judgement) -> Self:
        """What `judgement` comes to."""
        measures = judgement.measures
        nodes = chain(
            (("datanode", node) for node in measures.data.nodes),
            (("querynode", node) for node in measures.query_nodes),
        )
        return cls(
            denied=_denied(judgement),
            slowed={one: 1 - brake.factor for one, brake in judgement.brakes.items()},
            tick_delays_s={
                (role, node.node_id): node.tick_delay_s
                for role, node in nodes
                if node.tick_delay_s is not None
            },
        )


def _denied(judgement: Judgement) -> dict[Reason, int]:
    denied = Counter(brake.reason for brake in judgement.brakes.values() if brake.factor <= 0)
    if judgement.full.all_full:
        denied[Reason.DISK] = len(judgement.measures.collections | judgement.full.collections)
    elif judgement.full.collections:
        denied[Reason.DISK] = len(judgement.full.collections)
    if judgement.force_deny_writing or judgement.force_deny_reading:
        denied[Reason.FORCE_DENY] = len(judgement.measures.collections)
    return dict(denied)


def changes(before: QuotaState | None, now: QuotaState) -> Iterator[dict[str, object]]:
    """Facts for a log line per reason that denies something now and did not before, or the reverse."""
    earlier = {} if before is None else before.denied
    for reason in Reason:
        if (reason in earlier) != (reason in now.denied):
            yield {"because_of": reason.name, "collections": now.denied.get(reason, 0)}
