"""The limits that hold for a collection while nothing is wrong: its own properties, else the settings.

Pure. A property that is no number, or negative, counts as absent. Properties hold also while the setting
`dml.enabled` or `dql.enabled` is false.

Source of truth: Milvus 2.3.5 internal/rootcoord/util.go (getCollectionRateLimitConfig), pkg/common/common.go,
pkg/util/paramtable/quota_param.go.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from coordd.config.quota import DiskProtectionSettings, QuotaAndLimitsSettings

MIB = 1 << 20
UNLIMITED = math.inf

DISK_QUOTA = "collection.diskProtection.diskQuota.mb"


class Kind(IntEnum):
    """What is limited; the numbers are those of internal.RateType."""

    INSERT = 5
    DELETE = 6
    BULK_LOAD = 7
    SEARCH = 8
    QUERY = 9
    UPSERT = 10


WRITES = (Kind.INSERT, Kind.UPSERT, Kind.DELETE, Kind.BULK_LOAD)
READS = (Kind.SEARCH, Kind.QUERY)


@dataclass(frozen=True, slots=True)
class Range:
    """A rate per second: bytes of writes, vectors of searches, queries. 0 <= `least` <= `most`."""

    most: float = UNLIMITED
    least: float = 0.0


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one collection: the range of each kind, and from how many bytes of binlogs on it is full."""

    rates: Mapping[Kind, Range]
    disk_bytes: float = UNLIMITED

    @property
    def limited(self) -> bool:
        """Whether any rate has a limit."""
        return any(one.most < UNLIMITED for one in self.rates.values())


@dataclass(frozen=True, slots=True)
class _Names:
    """Properties of a collection, and the unit of their values."""

    most: str
    least: str
    unit: int


_NAMES: Final[Mapping[Kind, _Names]] = MappingProxyType(
    {
        Kind.INSERT: _Names("collection.insertRate.max.mb", "collection.insertRate.min.mb", MIB),
        Kind.UPSERT: _Names("collection.upsertRate.max.mb", "collection.upsertRate.min.mb", MIB),
        Kind.DELETE: _Names("collection.deleteRate.max.mb", "collection.deleteRate.min.mb", MIB),
        Kind.BULK_LOAD: _Names("collection.bulkLoadRate.max.mb", "collection.bulkLoadRate.min.mb", MIB),
        Kind.SEARCH: _Names("collection.searchRate.max.vps", "collection.searchRate.min.vps", 1),
        Kind.QUERY: _Names("collection.queryRate.max.qps", "collection.queryRate.min.qps", 1),
    }
)

PROPERTIES: Final = frozenset(
    {DISK_QUOTA, *(name for names in _NAMES.values() for name in (names.most, names.least))}
)
"""The properties of a collection that are looked at."""


def ceilings(
    settings: QuotaAndLimitsSettings, properties: Mapping[str, str] = MappingProxyType({})
) -> Ceilings:
    """What holds for a collection with these properties."""
    configured = _configured(settings)
    rates = {kind: configured.get(kind, Range()) for kind in _NAMES}
    return with_properties(Ceilings(rates, _disk_quota(settings.writing.disk)), properties)


def with_properties(usual: Ceilings, properties: Mapping[str, str]) -> Ceilings:
    """The same, for a collection for which `usual` holds where its properties say nothing."""
    if not properties:
        return usual
    rates = {}
    for kind, names in _NAMES.items():
        range_ = usual.rates[kind]
        most = _property(properties, names.most, names.unit)
        least = _property(properties, names.least, names.unit)
        rates[kind] = _range(range_.most if most is None else most, range_.least if least is None else least)
    disk_bytes = _property(properties, DISK_QUOTA, MIB)
    return Ceilings(rates, usual.disk_bytes if disk_bytes is None else disk_bytes)


def total_disk_quota(settings: DiskProtectionSettings) -> float:
    """Bytes of binlogs of all collections from which on nothing is written."""
    return settings.quota_mb * MIB if settings.quota_mb > 0 else UNLIMITED


def _disk_quota(settings: DiskProtectionSettings) -> float:
    if settings.quota_per_collection_mb > 0:
        return settings.quota_per_collection_mb * MIB
    return total_disk_quota(settings)


def _configured(settings: QuotaAndLimitsSettings) -> dict[Kind, Range]:
    """By the settings; kinds without any are left out."""
    found: dict[Kind, Range] = {}
    dml, dql = settings.dml, settings.dql
    if dml.enabled:
        for kind, bytes_ in ((Kind.INSERT, dml.insert), (Kind.UPSERT, dml.upsert), (Kind.DELETE, dml.delete)):
            most = _most(bytes_.collection_max_mb_s, bytes_.max_mb_s)
            found[kind] = _range(most * MIB, bytes_.collection_min_mb_s * MIB)
        most = _most(dml.bulk_load.collection_max_mb_s, dml.bulk_load.max_mb_s)
        found[Kind.BULK_LOAD] = Range(most * MIB)
    if dql.enabled:
        for kind, calls in ((Kind.SEARCH, dql.search), (Kind.QUERY, dql.query)):
            most = _most(calls.collection_max_rate, calls.max_rate)
            found[kind] = _range(most, calls.collection_min_rate)
    return found


def _most(of_collection: float, of_all: float) -> float:
    if of_collection >= 0:
        return of_collection
    return of_all if of_all >= 0 else UNLIMITED


def _range(most: float, least: float) -> Range:
    return Range(most, least if 0 < least <= most else 0.0)


def _property(properties: Mapping[str, str], name: str, unit: int) -> float | None:
    text = properties.get(name)
    if text is None or "_" in text or text != text.strip():
        return None  # no number to Go
    try:
        value = float(text)
    except ValueError:
        return None
    return value * unit if value >= 0 else None
