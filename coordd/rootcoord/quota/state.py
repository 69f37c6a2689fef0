"""What a round of the quota centre came to, for metrics and the log.

Pure. Source of truth for what is shown: Milvus 2.3.5 pkg/metrics/rootcoord_metrics.go.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Self

from coordd.rootcoord.quota.bit_by_bit import cut
from coordd.rootcoord.quota.limits import Judgement
from coordd.rootcoord.quota.writing import Brake, Reason


@dataclass(frozen=True, slots=True)
class QuotaState:
    """After one round.

    `denied`: for each reason the number of collections that may not be written to (with the reason
    `FORCE_DENY` also: not be read). `brakes`: by collection, for those that are slowed down. `tick_delays_s`:
    by role and server ID of a node, how old its newest consumed time ticks are.
    """

    denied: Mapping[Reason, int]
    brakes: Mapping[int, Brake]
    tick_delays_s: Mapping[tuple[str, int], float]

    @property
    def slowed(self) -> dict[int, float]:
        """By collection, the share of its rates that is taken away, 0 to 1; made anew by each call."""
        return {one: 1 - brake.factor for one, brake in self.brakes.items()}

    @classmethod
    def of(cls, judgement: Judgement) -> Generator[None, None, Self]:
        """What `judgement` comes to, bit by bit."""
        measures = judgement.measures
        nodes = chain(
            (("datanode", node) for node in measures.data.nodes),
            (("querynode", node) for node in measures.query_nodes),
        )
        denied: Counter[Reason] = Counter()
        for some in cut(judgement.brakes.values()):
            denied.update(brake.reason for brake in some if brake.factor <= 0)
            yield
        return cls(
            denied=dict(denied) | (yield from _denied(judgement)),
            brakes=judgement.brakes,
            tick_delays_s={
                (role, node.node_id): node.tick_delay_s
                for role, node in nodes
                if node.tick_delay_s is not None
            },
        )


def _denied(judgement: Judgement) -> Generator[None, None, dict[Reason, int]]:
    """Without those that have come to a stop by their brakes."""
    denied: dict[Reason, int] = {}
    full, served = judgement.full.collections, judgement.served
    if judgement.full.all_full:
        denied[Reason.DISK] = len(served)
        for some in cut(full):
            denied[Reason.DISK] += sum(one not in served for one in some)
            yield
    elif full:
        denied[Reason.DISK] = len(full)
    if judgement.force_deny_writing or judgement.force_deny_reading:
        denied[Reason.FORCE_DENY] = len(served)
    return denied


def changes(before: QuotaState | None, now: QuotaState) -> Iterator[dict[str, object]]:
    """Facts for a log line per reason that denies something now and did not before, or the reverse."""
    earlier = {} if before is None else before.denied
    for reason in Reason:
        if (reason in earlier) != (reason in now.denied):
            yield {"because_of": reason.name, "collections": now.denied.get(reason, 0)}
