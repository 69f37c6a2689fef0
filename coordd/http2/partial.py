"""The beginning of something that comes in pieces."""


class Partial:
    """What was kept until there is enough of it, in about as much memory as it has bytes.

    Attributes:
        waiting: whether there is anything.
    """

    __slots__ = ("_kept", "_wanted", "waiting")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._wanted = 0
        self.waiting = False

    def keep(self, beginning: bytes, wanted: int) -> None:
        """Begin: it is worth looking again once there are `wanted` bytes, more than there are now."""
        self._kept += beginning
        self._wanted = wanted
        self.waiting = True

    def add(self, data: bytes) -> bytes | None:
        """Go on. Returns all of it, which then is no longer kept, or None while it is not enough."""
        self._kept += data
        if len(self._kept) < self._wanted:
            return None
        whole = bytes(self._kept)
        self._kept = bytearray()
        self.waiting = False
        return whole
