"""What librdkafka's mock broker does not do: ask who it is that connects. Pure, but for a nonce.

Before it has logged in, a client may ask which requests there are, name the mechanism (SaslHandshake) and go
through it (SaslAuthenticate); anything else ends the connection, and so does a failure.

Source of truth: Kafka's protocol guide; RFC 4616 (PLAIN), RFC 5802 and RFC 7677 (SCRAM).
"""

import base64
import hashlib
import hmac
import secrets
import struct
from collections.abc import Generator, Mapping
from typing import Final

from tests.support.kafka_numbers import Reader, Request

SASL_HANDSHAKE: Final = 17
API_VERSIONS: Final = 18
SASL_AUTHENTICATE: Final = 36

UNSUPPORTED_MECHANISM: Final = 33
AUTHENTICATION_FAILED: Final = 58

PLAIN: Final = "PLAIN"
SCRAM: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
ITERATIONS: Final = 4096

Steps = Generator[tuple[bytes, str], bytes, None]
"""Takes what the client says; yields what it is told, and the user's name once that is proven."""


class RefusedError(Exception):
    """The client is not let in."""


class Login:
    """The login of one connection.

    Attributes:
        mechanism: the one that the client named.
        user: who has logged in, "" so far.
        over: it failed.
    """

    def __init__(self, users: Mapping[str, str], mechanisms: tuple[str, ...]) -> None:
        """`users`: passwords by name."""
        self._users = users
        self._mechanisms = mechanisms
        self._steps: Steps | None = None
        self._listings: dict[int, int] = {}
        self.mechanism = ""
        self.user = ""
        self.over = False

    def take(self, request: Request) -> bytes | None:
        """The answer with its length, or None if the request is for the broker.

        Raises:
            ConnectionError: nobody has logged in.
        """
        if request.api == SASL_HANDSHAKE:
            return _answer(request, self._handshake(request.body))
        if request.api == SASL_AUTHENTICATE:
            return _answer(request, self._authenticate(request))
        if request.api == API_VERSIONS:
            self._listings[request.correlation] = request.version
        elif not self.user:
            raise ConnectionError("nobody has logged in")
        return None

    def _handshake(self, body: Reader) -> bytes:
        self.mechanism = body.take(body.number("h")).decode()
        self.over = self.mechanism not in self._mechanisms
        if not self.over:
            self._steps = _plain(self._users) if self.mechanism == PLAIN else self._scram()
            next(self._steps)
        names = b"".join(_string(name) for name in self._mechanisms)
        code = UNSUPPORTED_MECHANISM if self.over else 0
        return struct.pack(">hi", code, len(self._mechanisms)) + names

    def _scram(self) -> Steps:
        return _scram(self._users, SCRAM[self.mechanism])

    def _authenticate(self, request: Request) -> bytes:
        assert self._steps is not None
        said = request.body.take(request.body.number("i"))
        code, told, reason = 0, b"", ""
        try:
            told, self.user = self._steps.send(said)
        except RefusedError:
            self.over = True
            code, reason = AUTHENTICATION_FAILED, "Authentication failed: invalid credentials"
        lifetime = struct.pack(">q", 0) if request.version else b""
        return struct.pack(">h", code) + _string(reason) + struct.pack(">i", len(told)) + told + lifetime

    def listed(self, answer: bytes) -> bytes:
        """An answer of the broker, without its length; the requests above are added where it lists them."""
        correlation, code = struct.unpack_from(">ih", answer)
        version = self._listings.pop(correlation, None)
        if version is None or code:
            return answer
        reader = Reader(answer[6:])
        compact = version >= 3
        count = reader.varint() - 1 if compact else reader.number("i")
        tags = b"\0" if compact else b""
        rows = reader.take(count * (6 + len(tags)))
        rows += b"".join(struct.pack(">hhh", api, 0, 1) + tags for api in (SASL_HANDSHAKE, SASL_AUTHENTICATE))
        count += 2
        size = bytes((count + 1,)) if compact else struct.pack(">i", count)
        assert count < 0x7F  # or the size would not be one byte
        return answer[:6] + size + rows + reader.rest()


def _plain(users: Mapping[str, str]) -> Steps:
    _, user, password = (yield b"", "").decode().split("\0")
    if users.get(user) != password:
        raise RefusedError
    yield b"", user


def _scram(users: Mapping[str, str], algorithm: str) -> Steps:
    first = (yield b"", "").decode().removeprefix("n,,")
    user, nonce = _attributes(first)["n"], _attributes(first)["r"] + secrets.token_hex(8)
    salt = secrets.token_bytes(16)
    challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i={ITERATIONS}"
    final, _, proof = (yield challenge.encode(), "").decode().rpartition(",p=")
    salted = hashlib.pbkdf2_hmac(algorithm, users.get(user, "").encode(), salt, ITERATIONS)
    key = hmac.digest(salted, b"Client Key", algorithm)
    exchanged = f"{first},{challenge},{final}".encode()
    signature = hmac.digest(hashlib.new(algorithm, key).digest(), exchanged, algorithm)
    expected = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    if user not in users or _attributes(final)["r"] != nonce or base64.b64decode(proof) != expected:
        raise RefusedError
    own = hmac.digest(hmac.digest(salted, b"Server Key", algorithm), exchanged, algorithm)
    yield b"v=" + base64.b64encode(own), user


def _attributes(text: str) -> dict[str, str]:
    return {part[0]: part[2:] for part in text.split(",")}


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _answer(request: Request, body: bytes) -> bytes:
    return struct.pack(">ii", len(body) + 4, request.correlation) + body
