"""Which collections' searches and queries are cooled off.

Pure. What passes is known of whole proxies only, not of single collections, so each collection that is cooled
off gets a share of what passes in all, as in Milvus; its limit still holds.

Source of truth: Milvus 2.3.5 internal/rootcoord/quota_center.go (calculateReadRates).
"""

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass

from coordd.config.quota import LimitReadingSettings
from coordd.rootcoord.quota.bit_by_bit import cut
from coordd.rootcoord.quota.ceilings import MIB, UNLIMITED, Kind, Range
from coordd.rootcoord.quota.measures import Measures, QueryNode


@dataclass(frozen=True, slots=True)
class CoolOff:
    """The collections, and the rate of each kind that they may have, 0 if it is not known."""

    collections: Collection[int]
    rates: Mapping[Kind, float]

    def rate(self, collection_id: int, kind: Kind, range_: Range) -> float:
        """What a collection may have within its limits."""
        rate = self.rates[kind]
        if collection_id not in self.collections or rate <= 0 or range_.most == UNLIMITED:
            return range_.most
        return max(min(range_.most, rate), range_.least)


def cool_off(measures: Measures, settings: LimitReadingSettings) -> Generator[None, None, CoolOff]:
    """Who is cooled off now, and to what, bit by bit."""
    collections: set[int] = set()
    many = _results_are_many(measures, settings)
    for node in measures.query_nodes:
        if many or _queues_up(node, settings):
            for some in cut(node.collections):
                collections.update(some)
                yield
    speed = settings.cool_off_speed
    return CoolOff(
        collections,
        {
            Kind.SEARCH: speed * sum(proxy.searches for proxy in measures.proxies),
            Kind.QUERY: speed * sum(proxy.queries for proxy in measures.proxies),
        },
    )


def _queues_up(node: QueryNode, settings: LimitReadingSettings) -> bool:
    queue = settings.queue
    if not queue.enabled:
        return False
    return 0 <= queue.latency_s <= node.waited_s or 0 <= queue.nq <= node.queued


def _results_are_many(measures: Measures, settings: LimitReadingSettings) -> bool:
    result = settings.result
    if not result.enabled or result.max_mb_s < 0:
        return False
    return sum(proxy.result_bytes for proxy in measures.proxies) >= result.max_mb_s * MIB
