"""Values of metadata keys: how each family is written and read.

Forms in use: binary protobuf, the JSON of a credential, plain text, the empty value, eight bytes of
big-endian nanoseconds, and the tombstone. A value that does not decode raises `DecodeError`, which names the
key and the reason; nothing here guesses.

Source of truth: Milvus 2.3.5 internal/metastore/kv/rootcoord/{kv_catalog,suffix_snapshot}.go,
internal/tso/tso.go, pkg/util/typeutil/convension.go.
"""

import json
from typing import Final, TypeVar

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from coordd.errors import CoorddError

TOMBSTONE: Final = b"\xe2\x9b\xbc"
"""Written in place of a deleted value of a snapshot key; such a key counts as absent."""

EMPTY: Final = b""
"""The value of keys whose name says all: roles and user-role mappings."""

TIME_BYTES: Final = 8

M = TypeVar("M", bound=Message)


class DecodeError(CoorddError):
    """The value of a metadata key is not what its family holds, or the key itself is malformed."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"metadata key {key!r}: {reason}")
        self.key = key
        self.reason = reason


def decode_proto(key: str, value: bytes, kind: type[M]) -> M:
    """A message of type `kind` from its binary form.

    A value cut off between two fields still decodes; callers check the fields they cannot do without.

    Raises:
        DecodeError: not protobuf, or a string field that is not UTF-8.
    """
    message = kind()
    try:
        message.ParseFromString(value)
    except ProtobufDecodeError as error:
        raise DecodeError(key, f"not a {kind.DESCRIPTOR.full_name}: {error}") from error
    return message


def encode_proto(message: Message) -> bytes:
    """Binary form of a message; equal messages have equal bytes (map fields are sorted)."""
    return message.SerializeToString(deterministic=True)


def decode_credential(key: str, value: bytes) -> str:
    """The bcrypt hash in `{"encrypted_password": "..."}`.

    Raises:
        DecodeError: not a JSON object with that string.
    """
    try:
        fields = json.loads(value)
    except ValueError as error:  # also UnicodeDecodeError
        raise DecodeError(key, f"not JSON: {error}") from error
    password = fields.get("encrypted_password") if isinstance(fields, dict) else None
    if not isinstance(password, str):
        raise DecodeError(key, "no JSON object with a string encrypted_password")
    return password


def encode_credential(encrypted_password: str) -> bytes:
    """What Milvus stores for a user: the hash only, in compact JSON."""
    return json.dumps({"encrypted_password": encrypted_password}, separators=(",", ":")).encode()


def decode_text(key: str, value: bytes) -> str:
    """UTF-8 text.

    Raises:
        DecodeError: not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(key, f"not UTF-8: {error}") from error


def decode_time_ns(key: str, value: bytes) -> int:
    """Unix nanoseconds of an allocator's saved window (timestamps and IDs).

    Raises:
        DecodeError: not eight bytes, or a time before 1970 (the highest bit is set).
    """
    if len(value) != TIME_BYTES:
        raise DecodeError(key, f"{len(value)} bytes instead of {TIME_BYTES}")
    time_ns = int.from_bytes(value, "big", signed=True)
    if time_ns < 0:
        raise DecodeError(key, f"a negative time: {time_ns} ns")
    return time_ns


def encode_time_ns(time_ns: int) -> bytes:
    """Eight big-endian bytes. `time_ns`: Unix nanoseconds, 0 up to 2^63 - 1.

    Raises:
        OverflowError: out of range.
    """
    if time_ns < 0:
        raise OverflowError(f"a time before 1970: {time_ns} ns")
    return time_ns.to_bytes(TIME_BYTES, "big", signed=True)


def is_tombstone(value: bytes | None) -> bool:
    """Whether a snapshot key's value stands for "deleted"."""
    return value == TOMBSTONE
