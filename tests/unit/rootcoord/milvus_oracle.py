"""A model of Milvus' timestamp oracle, for takeovers between it and coordd.

Facts from Milvus 2.3.5 internal/tso/tso.go: time in nanoseconds, 50 ms update loop, 3 s saved ahead, a
start at most one millisecond above the saved value.
"""

from dataclasses import dataclass

from coordd.meta.codecs import decode_time_ns, encode_time_ns
from coordd.rootcoord.tso import NS_PER_MS, floor_above

NS = 1_000_000
AHEAD_NS = 3_000 * NS
GUARD_NS = 1 * NS
LOGICAL_LIMIT = 1 << 18


@dataclass
class MilvusOracle:
    """Timestamps (or, without `has_logical_limit`, IDs) as Milvus hands them out."""

    saved_ns: int
    physical_ns: int = 0
    logical: int = 0
    has_logical_limit: bool = True

    @classmethod
    def start(cls, saved: bytes | None, now_ns: int, *, has_logical_limit: bool = True) -> "MilvusOracle":
        last = 0 if saved is None else int.from_bytes(saved, "big")
        start = last + GUARD_NS if now_ns - last < GUARD_NS else now_ns
        return cls(start + AHEAD_NS, start, 0, has_logical_limit=has_logical_limit)

    @property
    def saved(self) -> bytes:
        return self.saved_ns.to_bytes(8, "big")

    def tick(self, now_ns: int) -> None:
        """One round of the 50 ms loop."""
        if now_ns - self.physical_ns > GUARD_NS:
            moved = now_ns
        elif self.logical > LOGICAL_LIMIT // 2:
            moved = self.physical_ns + GUARD_NS
        else:
            return
        if self.saved_ns - moved <= GUARD_NS:
            self.saved_ns = moved + AHEAD_NS
        self.physical_ns, self.logical = moved, 0

    def allocate(self, count: int) -> int | None:
        """First of the block, None when the logical part is used up."""
        if self.has_logical_limit and self.logical + count >= LOGICAL_LIMIT:
            return None
        self.logical += count
        return ((self.physical_ns // NS) << 18) + self.logical - count + 1


def saved_at(end_ms: int) -> bytes:
    """The saved value of a window that coordd persists."""
    return encode_time_ns(end_ms * NS_PER_MS)


def floor_of(saved: bytes | None) -> int:
    """Where coordd starts after `saved`, in ms; 0 when nothing was ever saved."""
    return 0 if saved is None else floor_above(decode_time_ns("by-dev/kv/gid/timestamp", saved))
