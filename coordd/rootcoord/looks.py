"""Who asks for a collection while it changes: whoever did has learnt the old state. Pure.

Proxies learn what they know of a collection from RootCoord alone, by asking for its present state (Milvus
2.3.5 internal/proxy/meta_cache.go). So a proxy that is told to forget a collection before its change is
written knows nothing of it afterwards either, unless somebody has asked in between.
"""


class Looks:
    """The collections that are watched now. One per process; to note a look costs next to nothing while no
    collection changes."""

    def __init__(self) -> None:
        self._watched: dict[int, list[Look]] = {}

    def note(self, collection_id: int) -> None:
        """The present state of a collection is being told to somebody."""
        if self._watched:
            for look in self._watched.get(collection_id, ()):
                look.seen = True

    def watch(self, collection_id: int) -> "Look":
        """Watch one collection from now until `Look.end()`."""
        look = Look(self, collection_id)
        self._watched.setdefault(collection_id, []).append(look)
        return look

    def end(self, look: "Look") -> None:
        """For `Look.end`."""
        watching = self._watched.get(look.collection_id, [])
        if look in watching:
            watching.remove(look)
        if not watching:
            self._watched.pop(look.collection_id, None)


class Look:
    """What was seen of one collection.

    Attributes:
        seen: somebody has asked for it since it is watched.
    """

    def __init__(self, looks: Looks, collection_id: int) -> None:
        self._looks = looks
        self.collection_id = collection_id
        self.seen = False

    def end(self) -> None:
        """Watch no longer; `seen` stays as it is. May be called again."""
        self._looks.end(self)
