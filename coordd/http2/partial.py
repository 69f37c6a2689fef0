"""The beginning of something that comes in pieces."""


class Partial:
    """Pieces that were kept until there are enough of them. Each is copied once, when they are joined.

    Attributes:
        waiting: whether there are any.
    """

    __slots__ = ("_have", "_pieces", "_wanted", "waiting")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = self._wanted = 0
        self.waiting = False

    def keep(self, beginning: bytes, wanted: int) -> None:
        """Begin: it is worth looking again once there are `wanted` bytes, more than there are now."""
        self._pieces.append(beginning)
        self._have = len(beginning)
        self._wanted = wanted
        self.waiting = True

    def add(self, data: bytes) -> bytes | None:
        """Go on. Returns all of it, which then is no longer kept, or None while it is not enough."""
        self._pieces.append(data)
        self._have += len(data)
        if self._have < self._wanted:
            return None
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self.waiting = False
        return whole
