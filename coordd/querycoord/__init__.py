"""The query coordinator: load, balance, targets of query nodes. So far it registers, stands by and leads."""

from coordd.querycoord.coordinator import QueryCoord

__all__ = ["QueryCoord"]
