"""Keys whose current value could not be taken into a table.

One bad value must not stop the rest from being served, and must not be served as something else. So it is
set aside here, with the reason, until a later value of that key is good or the key is deleted.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QuarantinedValue:
    """Why the value that `key` got at `revision` is not served. `unexpected`: a bug of ours, not bad data."""

    key: str
    reason: str
    revision: int
    unexpected: bool


class Quarantine:
    """The quarantined values of one fold, by key."""

    def __init__(self) -> None:
        self._values: dict[str, QuarantinedValue] = {}
        self._total = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[QuarantinedValue]:
        return iter(tuple(self._values.values()))

    @property
    def total(self) -> int:
        """How many values were ever quarantined: a counter that never falls."""
        return self._total

    def get(self, key: str) -> QuarantinedValue | None:
        """Why `key` is quarantined; None if it is not."""
        return self._values.get(key)

    def add(self, value: QuarantinedValue) -> bool:
        """Set a value aside. False if its key was so already, for the same reason: do not log it again."""
        known = self._values.get(value.key)
        self._values[value.key] = value
        self._total += 1
        return known is None or known.reason != value.reason

    def clear(self, key: str) -> None:
        """The key has a good value, or none, now."""
        self._values.pop(key, None)
