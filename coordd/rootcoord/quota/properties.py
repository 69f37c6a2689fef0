"""The ceilings of those collections that have properties for it, found in the tables.

They are looked for anew only when collections have changed, and that bit by bit: each of maybe 100,000
collections has to be looked at, though most have no such properties.
"""

from collections.abc import Generator, Mapping
from types import MappingProxyType

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.meta.tables.collections import CollectionTable
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.quota.ceilings import PROPERTIES, Ceilings, ceilings

_MARK = b"collection."
"""In the value of each collection that has such a property; most values need no decoding."""

AT_ONCE = 2000
"""Collections that are looked at before other tasks get their turn: some milliseconds."""


class OwnCeilings:
    """By collection, kept until something changes."""

    def __init__(self, collections: CollectionTable) -> None:
        self._collections = collections
        self._generation = -1
        self._properties: Mapping[int, Mapping[str, str]] = MappingProxyType({})
        self._settings: QuotaAndLimitsSettings | None = None
        self._found: Mapping[int, Ceilings] = MappingProxyType({})

    def look(self) -> Generator[None, None, None]:
        """Look through the tables if they have changed; other work may be done whenever this yields."""
        generation = self._collections.generation
        if generation == self._generation:
            return
        found = {}
        for number, row in enumerate(list(self._collections), start=1):
            if _MARK in row.value:
                pairs = CollectionInfo.FromString(row.value).properties
                properties = {pair.key: pair.value for pair in pairs if pair.key in PROPERTIES}
                if properties:
                    found[row.collection_id] = properties
            if number % AT_ONCE == 0:
                yield
        self._generation, self._properties, self._settings = generation, found, None

    def by(self, settings: QuotaAndLimitsSettings) -> Mapping[int, Ceilings]:
        """Of the collections with properties; where the properties say nothing those of `settings`."""
        if self._settings is not settings:
            self._settings = settings
            self._found = {one: ceilings(settings, own) for one, own in self._properties.items()}
        return self._found
