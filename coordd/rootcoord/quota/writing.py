"""How much slower collections may be written to, and which not at all.

Pure. A factor is 1 while all is well and 0 where writing is denied. Of several factors for one collection the
least counts; of equal ones that of the ticks.

Source of truth: Milvus 2.3.5 internal/rootcoord/quota_center.go (calculateWriteRates, checkDiskQuota).
"""

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

from coordd.config.quota import LimitWritingSettings, WaterLevels
from coordd.rootcoord.quota.bit_by_bit import cut
from coordd.rootcoord.quota.ceilings import UNLIMITED, Ceilings, total_disk_quota
from coordd.rootcoord.quota.measures import DataSide, Measures, Node, QueryNode


class Reason(IntEnum):
    """Why something is denied; the numbers are those of common.ErrorCode."""

    FORCE_DENY = 48
    MEMORY = 53
    DISK = 54
    TICKS = 55


@dataclass(frozen=True, slots=True)
class Brake:
    """What rates are multiplied with, 0 to 1, and why."""

    factor: float
    reason: Reason


def brakes(measures: Measures, settings: LimitWritingSettings) -> Generator[None, None, dict[int, Brake]]:
    """By collection, bit by bit; those without one are written to as fast as their limits say."""
    found: dict[int, Brake] = {}
    for node, brake in chain(
        _ticks(measures, settings), _memory(measures, settings), _growing(measures.query_nodes, settings)
    ):
        for some in cut(node.collections):
            for collection_id in some:
                other = found.get(collection_id)
                if other is None or brake.factor < other.factor:
                    found[collection_id] = brake
            yield
    return found


def _ticks(measures: Measures, settings: LimitWritingSettings) -> Iterator[tuple[Node, Brake]]:
    if not settings.ticks.enabled:
        return
    for node in (*measures.data.nodes, *measures.query_nodes):
        if node.tick_delay_s is not None:
            factor = max(0.0, 1 - node.tick_delay_s / settings.ticks.max_delay_s)
            yield node, Brake(factor, Reason.TICKS)


def _memory(measures: Measures, settings: LimitWritingSettings) -> Iterator[tuple[Node, Brake]]:
    if not settings.memory.enabled:
        return
    yield from _full(measures.query_nodes, settings.memory.query_node.levels)
    yield from _full(measures.data.nodes, settings.memory.data_node.levels)


def _full(nodes: Iterable[Node], levels: WaterLevels) -> Iterator[tuple[Node, Brake]]:
    for node in nodes:
        left = levels.left(node.used_share)
        if left < 1:
            yield node, Brake(left, Reason.MEMORY)


def _growing(nodes: Iterable[QueryNode], settings: LimitWritingSettings) -> Iterator[tuple[Node, Brake]]:
    if not settings.growing.enabled:
        return
    for node in nodes:
        left = settings.growing.levels.left(node.growing_share)
        if left < 1:
            yield node, Brake(max(left, settings.growing.min_rate_ratio), Reason.MEMORY)


@dataclass(frozen=True, slots=True)
class FullDisk:
    """Whether the quota of all collections is used up, and which collections have used up their own."""

    all_full: bool = False
    collections: Collection[int] = frozenset()


def full_disk(
    data: DataSide, settings: LimitWritingSettings, usual: Ceilings, own: Mapping[int, Ceilings]
) -> Generator[None, None, FullDisk]:
    """What is full by what DataCoord says, bit by bit; nothing, if it says nothing.

    `own`: the ceilings of those collections for which the `usual` ones do not count.
    """
    sizes = data.collection_binlog_bytes
    if not settings.disk.enabled or sizes is None:
        return FullDisk()
    full: set[int] = set()
    for some in cut(sizes if usual.disk_bytes < UNLIMITED else own):
        full.update(one for one in some if one in sizes and sizes[one] >= own.get(one, usual).disk_bytes)
        yield
    return FullDisk(data.binlog_bytes >= total_disk_quota(settings.disk), full)
