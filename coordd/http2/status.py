"""How gRPC writes a deadline and a status into headers.

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md and doc/statuscodes.md.
"""

import math
from enum import IntEnum
from typing import Final
from urllib.parse import quote, unquote


class RpcCode(IntEnum):
    """gRPC status codes, with their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
DEADLINE_EXCEEDED: Final = 4
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16

_UNIT_S: Final = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "S": 1.0, "M": 60.0, "H": 3600.0}
_MAX_DIGITS: Final = 8
_LIMIT: Final = 10**_MAX_DIGITS
_NO_LIMIT_S: Final = 10 * 365 * 24 * 3600.0
"""A deadline so far away (ten years) is none."""

_PLAIN: Final = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What stands for itself in a message: printable ASCII without the percent sign."""


def format_timeout(seconds: float) -> str:
    """`seconds` as a value of grpc-timeout, rounded up: as exact as eight digits allow, at best to 1 us."""
    if seconds <= 0:
        return "0n"
    for unit, per_second in (("u", 1e6), ("m", 1e3), ("S", 1.0)):
        count = math.ceil(seconds * per_second)
        if count < _LIMIT:
            return f"{count}{unit}"
    return f"{min(math.ceil(seconds / 3600), _LIMIT - 1)}H"


def parse_timeout(text: str) -> float | None:
    """The seconds that a value of grpc-timeout stands for; None if it is too long to be a limit.

    Raises:
        ValueError: it is malformed.
    """
    factor = _UNIT_S.get(text[-1:])
    digits = text[:-1]
    if factor is None or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        raise ValueError(f"malformed grpc-timeout {text[:32]!r}")
    seconds = int(digits) * factor
    return seconds if seconds < _NO_LIMIT_S else None


def encode_message(text: str) -> str:
    """A status message as a value of grpc-message: percent-encoded UTF-8."""
    return quote(text, safe=_PLAIN, errors="replace")


def decode_message(value: str) -> str:
    """The status message in a value of grpc-message. What is no percent-encoding stays as it is."""
    return unquote(value, errors="replace")
