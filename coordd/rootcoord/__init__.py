"""The root coordinator: databases, collections, partitions, aliases, users and roles, timestamps and IDs."""

from coordd.rootcoord.coordinator import RootCoord

__all__ = ["RootCoord"]
