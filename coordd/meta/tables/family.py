"""What the tables have in common: key families, the default database, absent values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coordd.etcd import Event
from coordd.meta.codecs import TOMBSTONE, DecodeError
from coordd.meta.keys import NO_DB_ID

DEFAULT_DB_ID: Final = 1
DEFAULT_DB_NAME: Final = "default"


@dataclass(frozen=True, slots=True)
class KeyFamily:
    """A `coordd.meta.fold.Table` for one prefix of a table that reads several, or shares its state."""

    prefix: str
    apply: Callable[[Event], None]


def home_db(db_id: int) -> int:
    """Where things are shown: what was written before there were databases belongs to the default one."""
    return DEFAULT_DB_ID if db_id == NO_DB_ID else db_id


def live_value(event: Event) -> bytes | None:
    """The value of a snapshot key's event; None if the key was deleted or holds a tombstone."""
    return None if event.value == TOMBSTONE else event.value


def malformed(key: str, what: str) -> DecodeError:
    """The error for a key that lies under a family's prefix and is none of its keys."""
    return DecodeError(key, f"not the key of {what}")


def require(key: str, *, condition: bool, reason: str) -> None:
    """Check what a value must hold to be served.

    Raises:
        DecodeError: `condition` does not hold.
    """
    if not condition:
        raise DecodeError(key, reason)
