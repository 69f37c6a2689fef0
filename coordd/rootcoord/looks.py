"""Who asks for a collection while it changes, or right before: whoever did may have learnt the old state.

Proxies learn what they know of a collection from RootCoord alone, by asking for its present state (Milvus
2.3.5 internal/proxy/meta_cache.go). So a proxy that is told to forget a collection before its change is
written knows nothing of it afterwards either, unless it has asked in between, or so shortly before that the
answer was still on its way when the proxy forgot: an answer and a notice take different connections.

What an earlier term has answered, in another process perhaps, is not known here. So when a term begins
everything counts as just asked for.
"""

from collections.abc import Callable
from typing import Final

from coordd.clock import boottime

ON_ITS_WAY_S: Final = 1.0
"""How long an answer may be on its way, at least; up to twice that is allowed for."""


class Looks:
    """Which collections were asked for of late. One per process.

    `now`: seconds of any clock that goes forward.
    """

    def __init__(self, now: Callable[[], float] = boottime) -> None:
        self._now = now
        self._turned_at = now()
        self._latest: set[int] = set()
        self._before: set[int] = set()
        self._watched: dict[int, list[Look]] = {}
        self._known_from = now()

    def begin_term(self) -> None:
        """From now on nobody else answers; what others have answered may still be on its way."""
        self._known_from = self._now() + 2 * ON_ITS_WAY_S

    def note(self, collection_id: int) -> None:
        """The present state of a collection is being told to somebody."""
        self._turn()
        self._latest.add(collection_id)
        if self._watched:
            for look in self._watched.get(collection_id, ()):
                look.seen = True

    def watch(self, collection_id: int) -> "Look":
        """Watch one collection from now until `Look.end()`."""
        now = self._turn()
        recent = now < self._known_from or collection_id in self._latest or collection_id in self._before
        look = Look(self, collection_id, seen=recent)
        self._watched.setdefault(collection_id, []).append(look)
        return look

    def end(self, look: "Look") -> None:
        """For `Look.end`."""
        watching = self._watched.get(look.collection_id, [])
        if look in watching:
            watching.remove(look)
        if not watching:
            self._watched.pop(look.collection_id, None)

    def _turn(self) -> float:
        """Forget what was seen long ago; returns the time."""
        now = self._now()
        passed = now - self._turned_at
        if passed >= ON_ITS_WAY_S:
            self._before = self._latest if passed < 2 * ON_ITS_WAY_S else set()
            self._latest = set()
            self._turned_at = now
        return now


class Look:
    """What was seen of one collection.

    Attributes:
        seen: somebody has asked for it since it is watched, or right before, as far as cannot be ruled out.
    """

    def __init__(self, looks: Looks, collection_id: int, *, seen: bool) -> None:
        self._looks = looks
        self.collection_id = collection_id
        self.seen = seen

    def end(self) -> None:
        """Watch no longer; `seen` stays as it is. May be called again."""
        self._looks.end(self)
