"""The ceilings of those collections that have properties for it, found in the tables.

They are looked for anew only when collections or settings have changed: most collections have none.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.meta.tables.collections import CollectionTable
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.quota.ceilings import PROPERTIES, Ceilings, ceilings

_MARKS = tuple({".".join(name.split(".")[:2]).encode() for name in PROPERTIES})
"""One of these is in the value of each collection that has such a property; most values need no decoding."""


class OwnCeilings:
    """By collection, kept until something changes."""

    def __init__(self, collections: CollectionTable) -> None:
        self._collections = collections
        self._generation = -1
        self._properties: Mapping[int, Mapping[str, str]] = {}
        self._settings: QuotaAndLimitsSettings | None = None
        self._found: Mapping[int, Ceilings] = MappingProxyType({})

    def by(self, settings: QuotaAndLimitsSettings) -> Mapping[int, Ceilings]:
        """Of the collections with properties, where the properties say nothing those of `settings`."""
        fresh = self._generation == self._collections.generation
        if not fresh:
            self._generation = self._collections.generation
            self._properties = dict(self._look())
        if not fresh or self._settings is not settings:
            self._settings = settings
            self._found = {one: ceilings(settings, own) for one, own in self._properties.items()}
        return self._found

    def _look(self) -> Iterator[tuple[int, Mapping[str, str]]]:
        for row in self._collections:
            if any(mark in row.value for mark in _MARKS):
                pairs = CollectionInfo.FromString(row.value).properties
                properties = {pair.key: pair.value for pair in pairs if pair.key in PROPERTIES}
                if properties:
                    yield row.collection_id, properties
