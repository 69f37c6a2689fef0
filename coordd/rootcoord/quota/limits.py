"""From measures, settings and properties to the limits of each collection.

Pure. `judge` does what concerns whole nodes, bit by bit; a `Judgement` then tells collection by collection,
so that who asks may pause in between.

Source of truth: Milvus 2.3.5 internal/rootcoord/quota_center.go (calculateRates).
"""

from collections.abc import Collection, Generator, Hashable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.rootcoord.quota.ceilings import READS, UNLIMITED, WRITES, Ceilings, Kind, Range, ceilings
from coordd.rootcoord.quota.measures import Measures
from coordd.rootcoord.quota.reading import CoolOff, cool_off
from coordd.rootcoord.quota.writing import Brake, FullDisk, Reason, brakes, full_disk


@dataclass(frozen=True, slots=True)
class CollectionLimits:
    """What holds for one collection: a rate per second for each kind, and why writing or reading is denied.

    Where it is denied the rates are 0.
    """

    rates: Mapping[Kind, float]
    writing_denied: Reason | None = None
    reading_denied: Reason | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return any(rate < UNLIMITED for rate in self.rates.values())


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows for the collections; see `judge`. `own`: the ceilings of those with properties for it.
    `served`: those that a node works for.
    """

    measures: Measures
    served: Collection[int]
    force_deny_writing: bool
    force_deny_reading: bool
    usual: Ceilings
    own: Mapping[int, Ceilings]
    brakes: Mapping[int, Brake]
    full: FullDisk
    cool_off: CoolOff

    def collections(self) -> Iterator[int]:
        """All that may have limits, each once; others have none."""
        for_all = self.force_deny_writing or self.force_deny_reading or self.full.all_full
        served, brakes = self.served, self.brakes
        if for_all or self.usual.limited:
            yield from served
            yield from (one for one in self.full.collections if one not in served)
        else:  # whoever has a brake is served
            yield from brakes
            yield from (one for one in self.own if one in served and one not in brakes)
            for one in self.full.collections:
                if one not in brakes and not (one in self.own and one in served):
                    yield one

    def alike(self, collection_id: int) -> Hashable:
        """Collections of which this is equal have the same limits."""
        return (
            id(own) if (own := self.own.get(collection_id)) is not None else None,
            self.brakes.get(collection_id),
            collection_id in self.full.collections,
            collection_id in self.cool_off.collections,
        )

    def of(self, collection_id: int) -> CollectionLimits:
        """The limits of a collection."""
        ranges = self.own.get(collection_id, self.usual).rates
        writing, reading = self._writing_denied(collection_id), self._reading_denied()
        rates: dict[Kind, float] = {}
        for kind in WRITES:
            rates[kind] = self._write_rate(collection_id, kind, ranges[kind]) if writing is None else 0.0
        for kind in READS:
            rates[kind] = self.cool_off.rate(collection_id, kind, ranges[kind]) if reading is None else 0.0
        return CollectionLimits(rates, writing, reading)

    def _write_rate(self, collection_id: int, kind: Kind, range_: Range) -> float:
        brake = self.brakes.get(collection_id)
        if brake is None or kind is Kind.BULK_LOAD or range_.most == UNLIMITED:
            return range_.most
        return max(range_.most * brake.factor, range_.least)

    def _writing_denied(self, collection_id: int) -> Reason | None:
        if self.force_deny_writing:
            return Reason.FORCE_DENY
        brake = self.brakes.get(collection_id)
        if brake is not None and brake.factor <= 0:
            return brake.reason
        if self.full.all_full or collection_id in self.full.collections:
            return Reason.DISK
        return None

    def _reading_denied(self) -> Reason | None:
        return Reason.FORCE_DENY if self.force_deny_reading else None


def judge(
    measures: Measures,
    settings: QuotaAndLimitsSettings,
    own: Mapping[int, Ceilings] = MappingProxyType({}),
) -> Generator[None, None, Judgement]:
    """What follows for the collections. `own`: the ceilings of those that have properties for it.

    There may be 100,000 of them: other work may be done whenever this yields.
    """
    usual = ceilings(settings)
    return Judgement(
        measures=measures,
        served=(yield from measures.collections()),
        force_deny_writing=settings.writing.force_deny,
        force_deny_reading=settings.reading.force_deny,
        usual=usual,
        own=own,
        brakes=(yield from brakes(measures, settings.writing)),
        full=(yield from full_disk(measures.data, settings.writing, usual, own)),
        cool_off=(yield from cool_off(measures, settings.reading)),
    )
