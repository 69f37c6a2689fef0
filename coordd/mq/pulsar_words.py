"""What Pulsar's C++ client says of itself: the only place where it tells why a broker cannot be used.

The client keeps the logger of its first instance for as long as the process lives, and lets all later ones
talk there, too. So there is one, that of `logging` by this name, and each queue listens to it. The lines name
brokers, topics and reasons, never payloads. Where a login asks for a token elsewhere, lines hold that token
and the secret it is asked for with; a private key that is not usable is told, too, or taken for the name of a
file. All of these are masked.
"""

import logging
import re
from collections.abc import Iterable
from typing import Final

from coordd.config.keys import MASK
from coordd.log import get_logger

log = get_logger("coordd.mq")

LOGGER: Final = "coordd.mq.pulsar-client"

LOGIN_REFUSED: Final = "the broker answered the login with an error"

_SECRET: Final = re.compile(
    r"""((?:secret|token|password)\w*["']?\s*[=:]\s*["']?|role token )[^\s&"',]+""", re.IGNORECASE
)
_CREDENTIALS: Final = re.compile(r"(credentials from ).*", re.DOTALL)
_SHORTEST: Final = 4
"""Shorter secrets cannot be told from parts of words."""

_CONNECTION: Final = re.compile(r"^(\[[^\]]* -> [^\]]*\]) +")
_CONNECTED: Final = "Connected to broker"
_ANSWER: Final = "Handling incoming command: "
_GONE: Final = "Destroyed connection"
_ECHOES: Final = ("Connection closed with", "Error Checking/Getting Partition Metadata")
"""Complaints that repeat a result, after the one that told the reason."""


class Words(logging.Handler):
    """Keeps the newest complaint. Called in the threads of the C++ client, which no error may reach.

    `secrets`: of the login, to be masked wherever they are.

    Attributes:
        newest: the complaint, "" for none.
        logger: for the client.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self.newest = ""
        self._secrets = tuple(secret for secret in secrets if len(secret) >= _SHORTEST)
        self._unanswered: set[str] = set()
        self.logger = logging.getLogger(LOGGER)
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False
        if not any(isinstance(one, logging.NullHandler) for one in self.logger.handlers):
            self.logger.addHandler(logging.NullHandler())  # else what comes late goes to stderr
        self.logger.addHandler(self)

    def stop(self) -> None:
        """Listen no more."""
        self.logger.removeHandler(self)
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the client."""
        text = self.masked(record.getMessage())
        log.debug("pulsar's client says", text=text)
        found = _CONNECTION.match(text)
        said = text[found.end() :] if found else text
        if found and self._is_refusal(found[1], said):
            self.newest = LOGIN_REFUSED
        elif record.levelno >= logging.ERROR and not said.startswith(_ECHOES):
            self.newest = text

    def masked(self, text: str) -> str:
        """`text` without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return _SECRET.sub(rf"\1{MASK}", _CREDENTIALS.sub(rf"\1{MASK}", text))

    def _is_refusal(self, connection: str, said: str) -> bool:
        """Whether the first answer on a connection is an error: it is to the login, and told in no words."""
        if said == _CONNECTED:
            self._unanswered.add(connection)
        elif connection in self._unanswered and said.startswith((_ANSWER, _GONE)):
            self._unanswered.discard(connection)
            return said == f"{_ANSWER}ERROR"
        return False
