"""The log level over HTTP, with the requests and replies of zap's level handler, which Milvus serves.

GET answers `{"level":"info"}`. PUT takes the same JSON, or a form with `level`, and answers the new level;
what it cannot read is 400 with `{"error":"..."}`.

Source of truth: go.uber.org/zap http_handler.go.
"""

import json
from urllib.parse import parse_qs

from coordd import log
from coordd.errors import CoorddError

FORM = "application/x-www-form-urlencoded"


class BadLevel(CoorddError):
    """The request names no level, or one that does not exist."""


def current() -> str:
    """The reply to a GET."""
    return json.dumps({"level": log.get_level()}, separators=(",", ":")) + "\n"


def error(text: str) -> str:
    """The reply to what cannot be done."""
    return json.dumps({"error": text}, separators=(",", ":")) + "\n"


def change(content_type: str, body: str) -> tuple[str, str]:
    """Set the level that a PUT asks for; returns the old one and the new one.

    Raises:
        BadLevel: nothing was changed.
    """
    wanted = _wanted(content_type, body)
    before = log.get_level()
    try:
        log.set_level(wanted)
    except KeyError as unknown:
        raise BadLevel(f'unrecognized level: "{wanted}"') from unknown
    return before, log.get_level()


def _wanted(content_type: str, body: str) -> str:
    if content_type == FORM:
        level: object = parse_qs(body).get("level", [""])[0]
    else:
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError) as bad:
            raise BadLevel(f"malformed request body: {bad}") from bad
        level = parsed.get("level") if isinstance(parsed, dict) else None
    if not isinstance(level, str) or not level:
        raise BadLevel("must specify logging level")
    return level
