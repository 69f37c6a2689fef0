"""Structured logging: constant messages, facts as keys, in Milvus' (zap's) line format or as JSON.

A text line reads `[2024/01/18 09:02:23.327 +00:00] [INFO] [replica.py:120] ["message"] [key=value]`, which is
what Milvus' own processes print, so that an operator's filters keep working. Logs of the standard library
(aiohttp, grpc, asyncio) pass through the same renderer.

Source of the format: Milvus 2.3.5 pkg/log/zap_text_encoder.go.
"""

import json
import logging
import logging.handlers
import sys
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger

ROOT_LOGGER = "coordd"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}
_LEVEL_NAMES = {"warning": "WARN", "critical": "FATAL"}
_NEEDS_QUOTES = frozenset(' "[]=\\')


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger below `coordd`; bind what stays the same (role, term), pass the rest per line."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name))


def configure(
    *,
    level: str = "info",
    json_lines: bool = False,
    stream: TextIO | None = None,
    stdout: bool = True,
    file: Path | None = None,
    file_max_bytes: int = 300 << 20,
    file_backups: int = 20,
) -> None:
    """Send all logging of this process to `stream` (default stdout, unless `stdout` is off) and to `file`.

    The file, if given, is rotated at `file_max_bytes`; `file_backups` old ones are kept.

    May be called again; the handlers it installed before are replaced.

    Raises:
        KeyError: `level` is none of `LEVELS`.
        OSError: the file cannot be opened.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.CallsiteParameterAdder(_CALLSITE),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.processors.CallsiteParameterAdder(_CALLSITE),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            render_json if json_lines else render_text,
        ],
    )
    handlers: list[logging.Handler] = []
    if stdout or stream is not None:
        handlers.append(logging.StreamHandler(stream or sys.stdout))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.RotatingFileHandler(file, maxBytes=file_max_bytes, backupCount=file_backups)
        )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)


_CALLSITE = [
    structlog.processors.CallsiteParameter.FILENAME,
    structlog.processors.CallsiteParameter.LINENO,
]


def set_level(level: str) -> None:
    """Change the level of coordd's own loggers at run time; libraries stay at WARNING.

    Raises:
        KeyError: `level` is none of `LEVELS` (case does not matter).
    """
    logging.getLogger(ROOT_LOGGER).setLevel(LEVELS[level.lower()])


def get_level() -> str:
    """The level of coordd's own loggers, as Milvus spells it: debug, info, warn, error, fatal."""
    name = logging.getLevelName(logging.getLogger(ROOT_LOGGER).getEffectiveLevel()).lower()
    return {"warning": "warn", "critical": "fatal"}.get(name, name)


def render_text(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One zap text line; a traceback follows on lines of its own."""
    message, level, where, trace = _take_frame(event)
    fields = "".join(f" [{key}={_quote(value)}]" for key, value in event.items())
    line = f'[{_timestamp()}] [{level}] [{where}] ["{_escape(message)}"]{fields}'
    return _encodable(line if trace is None else f"{line}\n{trace}")


def render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One JSON object per line, with zap's keys `level`, `time`, `caller`, `message`."""
    message, level, where, trace = _take_frame(event)
    record = {"level": level, "time": _timestamp(), "caller": where, "message": message, **event}
    if trace is not None:
        record["stack"] = trace
    return _encodable(json.dumps(record, default=str, ensure_ascii=False))


def _take_frame(event: MutableMapping[str, Any]) -> tuple[str, str, str, str | None]:
    level = str(event.pop("level", "info"))
    where = f"{event.pop('filename', '?')}:{event.pop('lineno', 0)}"
    trace = event.pop("exception", None)
    return str(event.pop("event", "")), _LEVEL_NAMES.get(level, level.upper()), where, trace


def _timestamp() -> str:
    now = datetime.now(UTC).astimezone()
    offset = now.strftime("%z")
    return f"{now:%Y/%m/%d %H:%M:%S}.{now.microsecond // 1000:03d} {offset[:3]}:{offset[3:]}"


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else _plain(value)
    if text == "" or any(char in _NEEDS_QUOTES or ord(char) < 0x20 for char in text):
        return f'"{_escape(text)}"'
    return text


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | dict):
        return "[" + ",".join(_plain(item) for item in value) + "]" if not isinstance(value, str) else value
    return str(value)


def _escape(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _encodable(line: str) -> str:
    """A byte of a damaged key, which is no character, as `\\udcff`: what cannot be encoded would be lost."""
    return line.encode("utf-8", "backslashreplace").decode()
