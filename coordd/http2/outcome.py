"""How a call ends: gRPC's statuses, read from trailers, HTTP statuses and the codes of reset streams. Pure.

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md and doc/statuscodes.md.
"""

from collections.abc import Iterable
from typing import Final

from coordd.errors import CoorddError
from coordd.http2.frames import CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, REFUSED_STREAM
from coordd.http2.status import (
    CANCELLED,
    INTERNAL,
    OK,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    UNKNOWN,
    decode_message,
)

_HIGHEST: Final = UNAUTHENTICATED
"""gRPC has no status with a higher number."""

_OF_HTTP: Final = {
    "400": INTERNAL,
    "401": UNAUTHENTICATED,
    "403": PERMISSION_DENIED,
    "404": UNIMPLEMENTED,
    "429": UNAVAILABLE,
    "502": UNAVAILABLE,
    "503": UNAVAILABLE,
    "504": UNAVAILABLE,
}
_OF_RESET: Final = {
    REFUSED_STREAM: (UNAVAILABLE, "the peer refused the call before it looked at it"),
    CANCEL: (CANCELLED, "the peer cancelled the call"),
    ENHANCE_YOUR_CALM: (RESOURCE_EXHAUSTED, "the peer is asked too much of (ENHANCE_YOUR_CALM)"),
    INADEQUATE_SECURITY: (PERMISSION_DENIED, "the connection is not secure enough for the peer"),
}


class CallFailed(CoorddError):
    """A call that has no answer.

    Attributes:
        code: gRPC's number, never 0.
        from_server: the peer said so itself, in trailers.
        sent: False if certainly nothing of the call was carried out: it was never written to a connection, or
            the peer says that it has not looked at it (a refused stream, or one above a GOAWAY's last).
    """

    def __init__(self, code: int, message: str, *, sent: bool, from_server: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.sent = sent
        self.from_server = from_server


def not_sent(code: int, message: str) -> CallFailed:
    """A failure of which the peer knows nothing."""
    return CallFailed(code, message, sent=False)


def after_sending(code: int, message: str) -> CallFailed:
    """A failure seen on this side, of a call that the peer may have carried out."""
    return CallFailed(code, message, sent=True)


def of_reset(code: int) -> CallFailed:
    """The stream was reset by the peer, or broke a rule, with this HTTP/2 error code."""
    status, text = _OF_RESET.get(code, (INTERNAL, f"the peer ended the call with HTTP/2 error {code:#x}"))
    return CallFailed(status, text, sent=code != REFUSED_STREAM)


def of_trailers(headers: Iterable[tuple[str, str]], http_status: str) -> CallFailed | None:
    """What the last headers of an answer say; None is success. `http_status`: `:status` of the first."""
    code, message = None, ""
    for name, value in headers:
        if name == "grpc-status":
            code = value
        elif name == "grpc-message":
            message = value
    if code == "0":
        return None
    if code is None:
        return of_http(http_status)
    return CallFailed(_number(code), decode_message(message), sent=True, from_server=True)


def of_http(status: str) -> CallFailed:
    """There is no grpc-status: something that does not speak gRPC has answered."""
    if status == "200":
        return after_sending(UNKNOWN, "the answer ended without grpc-status")
    return after_sending(_OF_HTTP.get(status, UNKNOWN), f"the answer has HTTP status {status[:16] or 'none'}")


def _number(text: str) -> int:
    """An unknown status is UNKNOWN; so is a success that is not spelt "0"."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else UNKNOWN
    return number if OK < number <= _HIGHEST else UNKNOWN
