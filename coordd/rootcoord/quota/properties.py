"""The ceilings of those collections that have properties for it, found in the tables.

They are looked for anew only when collections have changed, and that bit by bit: each of maybe 100,000
collections has to be looked at, though most have no such properties.
"""

from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from coordd.config.quota import QuotaAndLimitsSettings
from coordd.meta.tables.collections import CollectionTable
from coordd.pb.etcd_meta_pb2 import CollectionInfo
from coordd.rootcoord.quota.bit_by_bit import cut
from coordd.rootcoord.quota.ceilings import PROPERTIES, Ceilings, ceilings, with_properties

_MARK = b"collection."
"""In the value of each collection that has such a property; most values need no decoding."""

_Properties: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, sorted."""

LOOKED_AT_ONCE = 200
"""Collections that are looked at without a pause, if each has such properties: two milliseconds."""


class OwnCeilings:
    """By collection, kept until something changes; one and the same for those with equal properties."""

    def __init__(self, collections: CollectionTable) -> None:
        self._collections = collections
        self._generation = -1
        self._properties: Mapping[int, _Properties] = MappingProxyType({})
        self._settings: QuotaAndLimitsSettings | None = None
        self._found: Mapping[int, Ceilings] = MappingProxyType({})

    def look(self) -> Generator[None, None, None]:
        """Look through the tables if they have changed; other work may be done whenever this yields."""
        generation = self._collections.generation
        if generation == self._generation:
            return
        found: dict[int, _Properties] = {}
        alike: dict[_Properties, _Properties] = {}
        for some in cut(self._collections.ids(), LOOKED_AT_ONCE):
            for row in filter(None, map(self._collections.get, some)):
                properties = _limits(row.value) if _MARK in row.value else ()
                if properties:
                    found[row.collection_id] = alike.setdefault(properties, properties)
            yield
        self._generation, self._properties, self._settings = generation, found, None

    def by(self, settings: QuotaAndLimitsSettings) -> Generator[None, None, Mapping[int, Ceilings]]:
        """Of the collections with properties; where the properties say nothing those of `settings`."""
        if self._settings is not settings:
            usual, found = ceilings(settings), dict[int, Ceilings]()
            made: dict[_Properties, Ceilings] = {}
            for some in cut(self._properties.items(), LOOKED_AT_ONCE):
                for collection_id, own in some:
                    if own not in made:
                        made[own] = with_properties(usual, dict(own))
                    found[collection_id] = made[own]
                yield
            self._settings, self._found = settings, found
        return self._found


def _limits(value: bytes) -> _Properties:
    """The properties for it that a stored collection has."""
    pairs = CollectionInfo.FromString(value).properties
    found = {pair.key: pair.value for pair in pairs if pair.key in PROPERTIES}
    return tuple(sorted(found.items()))
