"""The small JSON objects under coordd's own keys: written compactly, and read with every field checked."""

import json
from collections.abc import Mapping
from typing import Any, Final, Self

from coordd.meta.codecs import DecodeError

MAX_INT: Final = (1 << 63) - 1


def encode_object(fields: Mapping[str, object]) -> bytes:
    """The value of a key."""
    return json.dumps(fields, separators=(",", ":")).encode()


class JsonObject:
    """The fields of one value. A field that is absent has its default, or is an error if it has none.

    All readers raise DecodeError, which names the key and the field.
    """

    __slots__ = ("_fields", "_key")

    def __init__(self, key: str, fields: Mapping[str, Any]) -> None:
        self._key = key
        self._fields = fields

    @classmethod
    def parse(cls, key: str, value: bytes) -> Self:
        """Take a value apart.

        Raises:
            DecodeError: not JSON, or not an object.
        """
        try:
            fields = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DecodeError(key, f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise DecodeError(key, f"not a JSON object but {type(fields).__name__}")
        return cls(key, fields)

    def integer(self, name: str, default: int | None = None) -> int:
        """A number from 0 to 2^63 - 1: IDs, revisions, milliseconds."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INT:
            raise self._wrong(name, value, "a whole number from 0 to 2^63 - 1")
        return value

    def length(self, name: str) -> float | None:
        """A number that is not negative; None if it is absent."""
        value = self._fields.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= MAX_INT:
            raise self._wrong(name, value, "a length of time")
        return float(value)

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def child(self, name: str) -> "JsonObject":
        """An object; empty if it is absent."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, value, "a JSON object")
        return JsonObject(self._key, value)

    def _value(self, name: str, default: object) -> object:
        value = self._fields.get(name, default)
        if value is None:
            raise DecodeError(self._key, f"{name} is missing")
        return value

    def _wrong(self, name: str, value: object, expected: str) -> DecodeError:
        shown = repr(value)
        return DecodeError(self._key, f"{name} is {shown[:80]}, not {expected}")
