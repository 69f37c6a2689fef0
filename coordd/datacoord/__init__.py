"""The data coordinator: segments, flush, compaction, indexes. So far it registers, stands by and leads."""

from coordd.datacoord.coordinator import DataCoord

__all__ = ["DataCoord"]
