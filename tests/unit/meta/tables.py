"""A table for tests of the fold: a dict of what it was given, with values it cannot take."""

from coordd.etcd import Event
from coordd.meta.codecs import DecodeError


class DictTable:
    """Keeps values by key. `bad...` does not decode; `bug...` makes it fail in a way it should not."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.values: dict[str, bytes] = {}
        self.applied: list[Event] = []

    def apply(self, event: Event) -> None:
        assert event.key.startswith(self.prefix)
        self.applied.append(event)
        self.values.pop(event.key, None)
        if event.value is None:
            return
        if event.value.startswith(b"bad"):
            raise DecodeError(event.key, "does not decode")
        self.values[event.key] = event.value
        if event.value.startswith(b"bug"):
            raise RuntimeError("a bug")
