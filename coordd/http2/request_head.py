"""The headers of a client's requests as bytes, made once for each method and metadata. Pure.

Source of truth: gRPC's doc/PROTOCOL-HTTP2.md, "Requests".
"""

import re
from collections.abc import Sequence
from typing import Final

from coordd.http2 import hpack
from coordd.http2.outcome import not_sent
from coordd.http2.status import INTERNAL, format_timeout

Metadata = Sequence[tuple[str, str]]

_MAX_KEPT: Final = 256
"""Methods and metadata that are known by heart. A caller with ever new metadata makes them anew each time."""
_NAME: Final = re.compile(r"[0-9a-z_.\-]+")
_TIMEOUT: Final = hpack.encode((("grpc-timeout", ""),))[:-1]
"""The field without its value, which has one byte for its length as it is short (RFC 7541, section 5.2)."""
_VALUE: Final = re.compile(r"[\x20-\x7e]*")


class RequestHeads:
    """Header blocks of one connection's requests."""

    def __init__(self, scheme: str, authority: str, user_agent: str) -> None:
        self._scheme = scheme
        self._authority = authority
        self._user_agent = user_agent
        self._kept: dict[tuple[str, Metadata], bytes] = {}

    def head(self, path: str, metadata: Metadata, timeout_s: float | None = None) -> bytes:
        """The header block of a call; `timeout_s`, if any, is told to the server.

        Raises:
            CallFailed: a name or value of the metadata cannot be sent.
        """
        key = path, tuple(metadata)
        block = self._kept.get(key)
        if block is None:
            block = self._make(path, metadata)
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[key] = block
        if timeout_s is None:
            return block
        text = format_timeout(timeout_s).encode()
        return b"".join((block, _TIMEOUT, bytes((len(text),)), text))

    def _make(self, path: str, metadata: Metadata) -> bytes:
        for name, value in metadata:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise not_sent(INTERNAL, f"metadata that cannot be sent: {name!r}")
        return hpack.encode(
            [
                (":method", "POST"),
                (":scheme", self._scheme),
                (":path", path),
                (":authority", self._authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", self._user_agent),
                *metadata,
            ]
        )
