"""How much a cluster takes: rates, and what is done when nodes, queues or the disk are full.

Keys, meanings and defaults of `quotaAndLimits` are those of the milvus.yaml that Milvus 2.3.5 ships. A value
outside its range counts as the default, as in Milvus, so a file that Milvus reads is read here too. How the
values work together is said in `coordd.rootcoord.quota`.

Source of truth: Milvus 2.3.5 configs/milvus.yaml, pkg/util/paramtable/quota_param.go.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from coordd.config.keys import Key, Role
from coordd.config.limits import LimitsSettings
from coordd.config.sections import Section

_ROOT = "quotaAndLimits"
_WRITING = f"{_ROOT}.limitWriting"
_READING = f"{_ROOT}.limitReading"
_MEMORY = f"{_WRITING}.memProtection"
_GROWING = f"{_WRITING}.growingSegmentsSizeProtection"

_INTERVAL_S = 3.0
_TICK_DELAY_S = 300.0
_LONGEST_S = 65_536.0
_MEMORY_LOW = 0.85
_MEMORY_HIGH = 0.95
_GROWING_RATIO = 0.5
_GROWING_LOW = 0.2
_GROWING_HIGH = 0.4
_COOL_OFF = 0.9


def _share(default: float) -> AfterValidator:
    return AfterValidator(lambda value: value if 0 < value <= 1 else default)


def _seconds(default: float) -> AfterValidator:
    return AfterValidator(lambda value: value if 0 < value < _LONGEST_S else default)


@dataclass(frozen=True, slots=True)
class WaterLevels:
    """Shares of a whole: up to `low` all is well, from `high` on nothing goes; `low` <= `high`."""

    low: float
    high: float

    def left(self, level: float) -> float:
        """What is left at `level`: 1 up to `low`, falling to 0 at `high`."""
        if level <= self.low:
            return 1.0
        if level >= self.high:
            return 0.0
        return (self.high - level) / (self.high - self.low)


def _levels(low: float, high: float, default_high: float) -> WaterLevels:
    """Milvus' rule: a high level below the low one counts as the default one."""
    return WaterLevels(low, high if low <= high else max(low, default_high))


class ByteCeilingSettings(Section):
    """How many bytes of one kind are taken per second."""

    max_mb_s: Annotated[float, Key("{role}.max", live=True)] = -1.0
    """MiB per second, negative = no limit. Proxies apply it to all collections together; coordinators use it
    where `collection.max` sets no limit.
    """
    collection_max_mb_s: Annotated[float, Key("{role}.collection.max", live=True)] = -1.0
    """Most MiB per second for each collection that has no property of its own for it; negative = that of
    `max`.
    """


class ByteRateSettings(ByteCeilingSettings):
    """How many bytes of one kind are taken per second, and how many in any case."""

    collection_min_mb_s: Annotated[float, Key("{role}.collection.min", live=True)] = 0.0
    """MiB per second to which a collection is slowed down at most, unless writing is denied altogether.
    Negative, or more than the most that is allowed, counts as 0.
    """


class CallRateSettings(Section):
    """How much of one kind is asked per second."""

    max_rate: Annotated[float, Key("{role}.max", live=True)] = -1.0
    """Vectors (of searches) or queries per second, negative = no limit. Proxies apply it to all collections
    together; coordinators use it where `collection.max` sets no limit.
    """
    collection_max_rate: Annotated[float, Key("{role}.collection.max", live=True)] = -1.0
    """Most vectors (of searches) or queries per second for each collection that has no property of its own
    for it; negative = that of `max`.
    """
    collection_min_rate: Annotated[float, Key("{role}.collection.min", live=True)] = 0.0
    """Vectors or queries per second to which a collection is cooled off at most. Negative, or more than the
    most that is allowed, counts as 0.
    """


class DmlSettings(Section):
    """Rates of inserts, upserts, deletes and bulk inserts."""

    enabled: Annotated[bool, Key(f"{_ROOT}.dml.enabled", live=True)] = False
    """Whether the rates below count. Properties of a collection count in any case."""
    insert: Annotated[ByteRateSettings, Role(f"{_ROOT}.dml.insertRate")] = ByteRateSettings()
    """Rate of inserts."""
    upsert: Annotated[ByteRateSettings, Role(f"{_ROOT}.dml.upsertRate")] = ByteRateSettings()
    """Rate of upserts."""
    delete: Annotated[ByteRateSettings, Role(f"{_ROOT}.dml.deleteRate")] = ByteRateSettings()
    """Rate of deletes."""
    bulk_load: Annotated[ByteCeilingSettings, Role(f"{_ROOT}.dml.bulkLoadRate")] = ByteCeilingSettings()
    """Rate of bulk inserts, whose requests name the files and do not hold them."""


class DqlSettings(Section):
    """Rates of searches and queries."""

    enabled: Annotated[bool, Key(f"{_ROOT}.dql.enabled", live=True)] = False
    """Whether the rates below count. Properties of a collection count in any case."""
    search: Annotated[CallRateSettings, Role(f"{_ROOT}.dql.searchRate")] = CallRateSettings()
    """Rate of searches."""
    query: Annotated[CallRateSettings, Role(f"{_ROOT}.dql.queryRate")] = CallRateSettings()
    """Rate of queries."""


class TtProtectionSettings(Section):
    """Slower writing while nodes lag behind with consuming it."""

    enabled: Annotated[bool, Key(f"{_WRITING}.ttProtection.enabled", live=True)] = False
    """Whether writing is slowed down while nodes lag behind."""
    max_delay_s: Annotated[
        float, _seconds(_TICK_DELAY_S), Key(f"{_WRITING}.ttProtection.maxTimeTickDelay", live=True)
    ] = _TICK_DELAY_S  # fmt: skip
    """How old the newest time tick that a node has consumed may be, seconds, above 0 and below 65536. Rates
    fall in proportion; from this age on writing is denied.
    """


class MemoryLevelSettings(Section):
    """From where to where the memory of a kind of node runs out."""

    low: Annotated[float, _share(_MEMORY_LOW), Key("{role}LowWaterLevel", live=True)] = _MEMORY_LOW
    """Used share of a node's memory up to which nothing is done, above 0, at most 1."""
    high: Annotated[float, _share(_MEMORY_HIGH), Key("{role}HighWaterLevel", live=True)] = _MEMORY_HIGH
    """Used share of a node's memory from which on writing to its collections is denied, above 0, at most 1,
    and not below the low level.
    """

    @property
    def levels(self) -> WaterLevels:
        """The levels in force."""
        return _levels(self.low, self.high, _MEMORY_HIGH)


class MemProtectionSettings(Section):
    """Slower writing while the memory of nodes runs out."""

    enabled: Annotated[bool, Key(f"{_MEMORY}.enabled", live=True)] = True
    """Whether writing is slowed down, and denied in the end, while the memory of a node runs out."""
    data_node: Annotated[MemoryLevelSettings, Role(f"{_MEMORY}.dataNodeMemory")] = MemoryLevelSettings()
    """The memory of data nodes."""
    query_node: Annotated[MemoryLevelSettings, Role(f"{_MEMORY}.queryNodeMemory")] = MemoryLevelSettings()
    """The memory of query nodes."""


class GrowingProtectionSettings(Section):
    """Slower writing while growing segments take up much memory of query nodes."""

    enabled: Annotated[bool, Key(f"{_GROWING}.enabled", live=True)] = False
    """Whether writing is slowed down while growing segments take up much memory of a query node."""
    min_rate_ratio: Annotated[
        float, _share(_GROWING_RATIO), Key(f"{_GROWING}.minRateRatio", live=True)
    ] = _GROWING_RATIO  # fmt: skip
    """Share of the rates to which they are slowed down for this at most, above 0, at most 1."""
    low: Annotated[float, _share(_GROWING_LOW), Key(f"{_GROWING}.lowWaterLevel", live=True)] = _GROWING_LOW
    """Share of a query node's memory in growing segments up to which nothing is done, above 0, at most 1."""
    high: Annotated[
        float, _share(_GROWING_HIGH), Key(f"{_GROWING}.highWaterLevel", live=True)
    ] = _GROWING_HIGH  # fmt: skip
    """Share of a query node's memory in growing segments at which rates would have fallen to 0, above 0, at
    most 1, and not below the low level.
    """

    @property
    def levels(self) -> WaterLevels:
        """The levels in force."""
        return _levels(self.low, self.high, _GROWING_HIGH)


class DiskProtectionSettings(Section):
    """No writing when the object storage is full."""

    enabled: Annotated[bool, Key(f"{_WRITING}.diskProtection.enabled", live=True)] = True
    """Whether writing is denied when a quota of object storage is used up."""
    quota_mb: Annotated[float, Key(f"{_WRITING}.diskProtection.diskQuota", live=True)] = -1.0
    """MiB of binlogs of all collections from which on writing is denied; 0 or less = no limit."""
    quota_per_collection_mb: Annotated[
        float, Key(f"{_WRITING}.diskProtection.diskQuotaPerCollection", live=True)
    ] = -1.0  # fmt: skip
    """MiB of binlogs of one collection from which on writing to it is denied, unless a property of it says
    otherwise; 0 or less = that of `diskQuota`.
    """


class LimitWritingSettings(Section):
    """When writing is slowed down or denied."""

    force_deny: Annotated[bool, Key(f"{_WRITING}.forceDeny", live=True)] = False
    """Whether all inserts, upserts, deletes and bulk inserts are denied."""
    ticks: TtProtectionSettings = TtProtectionSettings()
    """Slower writing while nodes lag behind with consuming it."""
    memory: MemProtectionSettings = MemProtectionSettings()
    """Slower writing while the memory of nodes runs out."""
    growing: GrowingProtectionSettings = GrowingProtectionSettings()
    """Slower writing while growing segments take up much memory of query nodes."""
    disk: DiskProtectionSettings = DiskProtectionSettings()
    """No writing when the object storage is full."""


class QueueProtectionSettings(Section):
    """Fewer searches and queries while they queue up at query nodes."""

    enabled: Annotated[bool, Key(f"{_READING}.queueProtection.enabled", live=True)] = False
    """Whether searches and queries are cooled off while they queue up at a query node."""
    nq: Annotated[int, Key(f"{_READING}.queueProtection.nqInQueueThreshold", live=True)] = -1
    """Vectors to search for (a query counts as one) in the queues of a query node from which on its
    collections are cooled off; negative = no limit.
    """
    latency_s: Annotated[float, Key(f"{_READING}.queueProtection.queueLatencyThreshold", live=True)] = -1.0
    """Average time in the queue of a query node from which on its collections are cooled off, seconds;
    negative = no limit. (The file that Milvus ships says milliseconds, but its code takes seconds.)
    """


class ResultProtectionSettings(Section):
    """Fewer searches and queries while their results are many."""

    enabled: Annotated[bool, Key(f"{_READING}.resultProtection.enabled", live=True)] = False
    """Whether searches and queries are cooled off while their results are many."""
    max_mb_s: Annotated[float, Key(f"{_READING}.resultProtection.maxReadResultRate", live=True)] = -1.0
    """MiB per second of results from all proxies together from which on all collections are cooled off;
    negative = no limit.
    """


class LimitReadingSettings(Section):
    """When searches and queries are cooled off or denied."""

    force_deny: Annotated[bool, Key(f"{_READING}.forceDeny", live=True)] = False
    """Whether all searches and queries are denied."""
    queue: QueueProtectionSettings = QueueProtectionSettings()
    """Fewer searches and queries while they queue up at query nodes."""
    result: ResultProtectionSettings = ResultProtectionSettings()
    """Fewer searches and queries while their results are many."""
    cool_off_speed: Annotated[float, _share(_COOL_OFF), Key(f"{_READING}.coolOffSpeed", live=True)] = (
        _COOL_OFF
    )
    """What the present rates are multiplied with in each round of cooling off, above 0, at most 1."""


class QuotaAndLimitsSettings(Section):
    """Bounds on what a cluster holds and takes."""

    enabled: Annotated[bool, Key(f"{_ROOT}.enabled", live=True)] = True
    """Whether RootCoord tells the proxies what to take. The proxies read this key, too, and apply no rate at
    all without it. (Milvus' code default is false, its shipped file says true.)
    """
    limits: LimitsSettings = LimitsSettings()
    """How many collections there may be."""
    collect_interval_s: Annotated[
        float, _seconds(_INTERVAL_S), Key(f"{_ROOT}.quotaCenterCollectInterval", live=True)
    ] = _INTERVAL_S  # fmt: skip
    """How often the state of the nodes is asked for and the proxies are told, seconds, above 0 and below
    65536.
    """
    dml: DmlSettings = DmlSettings()
    """Rates of inserts, upserts, deletes and bulk inserts."""
    dql: DqlSettings = DqlSettings()
    """Rates of searches and queries."""
    writing: LimitWritingSettings = LimitWritingSettings()
    """When writing is slowed down or denied."""
    reading: LimitReadingSettings = LimitReadingSettings()
    """When searches and queries are cooled off or denied."""
