"""Structured logging: constant messages, facts as keys, in Milvus' (zap's) line format or as JSON.

A text line reads `[2024/01/18 09:02:23.327 +00:00] [INFO] [replica.py:120] ["message"] [key=value]`, which is
what Milvus' own processes print, so that an operator's filters keep working. Logs of the standard library
(aiohttp, grpc, asyncio) pass through the same renderer.

Source of the format: Milvus 2.3.5 pkg/log/zap_text_encoder.go.
"""

import asyncio
import json
import logging
import logging.handlers
import re
import sys
import time
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
_NEEDS_QUOTES = re.compile(r'[\x00-\x20"\[\]=\\]')


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger below `coordd`; bind what stays the same (role, term), pass the rest per line."""
    return cast(FilteringBoundLogger, structlog.stdlib.get_logger(name))


class Later:
    """Lines of one logger that wait until there is time for them.

    A line takes up to a millisecond after an idle time, and a takeover has many of them. Those said here are
    written `DELAY_S` later, with the time and the place at which they were said, in their order; without a
    running loop at once.
    """

    DELAY_S = 0.05

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger
        self._waiting: list[tuple[int, str, dict[str, Any]]] = []

    def info(self, message: str, **facts: Any) -> None:
        """Say it at level INFO."""
        self._add(logging.INFO, message, facts)

    def warning(self, message: str, **facts: Any) -> None:
        """Say it at level WARN."""
        self._add(logging.WARNING, message, facts)

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting = self._waiting, []
        for level, message, facts in waiting:
            self._logger.log(level, message, **facts)

    def _add(self, level: int, message: str, facts: dict[str, Any]) -> None:
        frame = sys._getframe(2)  # noqa: SLF001 - what the logging module itself looks at
        place = {"filename": Path(frame.f_code.co_filename).name, "lineno": frame.f_lineno}
        self._waiting.append((level, message, {**facts, **place, _SAID_AT: datetime.now(UTC)}))
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if len(self._waiting) == 1:
            loop.call_later(self.DELAY_S, self.flush)


def configure(
    *,
    level: str = "info",
    json_lines: bool = False,
    stream: TextIO | None = None,
    stdout: bool = True,
    file: Path | None = None,
    file_max_bytes: int = 300 << 20,
    file_backups: int = 20,
    file_max_age_days: int = 0,
) -> None:
    """Send all logging of this process to `stream` (default stdout, unless `stdout` is off) and to `file`.

    The file, if given, is rotated at `file_max_bytes`; see `LogFile` for what becomes of the old ones.

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
            _add_place,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            _add_place,
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
        handlers.append(LogFile(file, file_max_bytes, file_backups, file_max_age_days))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)


class LogFile(logging.handlers.RotatingFileHandler):
    """A file of log lines, and those that were rotated away before it: `name.1` is the newest of them.

    Of these `backups` are kept (0: whatever their number), and none whose last line is older than
    `max_age_days` (0: whatever their age). Age is looked at when the file is opened and at each rotation.

    Raises:
        OSError: the file cannot be opened.
    """

    MOST_BACKUPS = 10_000

    def __init__(self, file: Path, max_bytes: int, backups: int, max_age_days: int) -> None:
        self._max_age_s = max_age_days * 86_400
        super().__init__(file, maxBytes=max_bytes, backupCount=backups or self.MOST_BACKUPS)
        self._drop_old()

    def doRollover(self) -> None:  # noqa: N802 - as logging calls it
        """Begin a new file."""
        super().doRollover()
        self._drop_old()

    def _drop_old(self) -> None:
        if not self._max_age_s:
            return
        limit = time.time() - self._max_age_s
        file = Path(self.baseFilename)
        for old in file.parent.iterdir():
            if re.fullmatch(rf"{re.escape(file.name)}\.\d+", old.name) and old.stat().st_mtime < limit:
                old.unlink()


_SAID_AT = "said_at"
_ADD_CALL_SITE = structlog.processors.CallsiteParameterAdder(
    [structlog.processors.CallsiteParameter.FILENAME, structlog.processors.CallsiteParameter.LINENO],
    additional_ignores=[__name__],
)


def _add_place(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """File and line of the statement, unless they came along."""
    return event if "lineno" in event else _ADD_CALL_SITE(logger, method, event)


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
    time, message, level, where, trace = _take_frame(event)
    fields = "".join(f" [{key}={_quote(value)}]" for key, value in event.items())
    line = f'[{time}] [{level}] [{where}] ["{_escape(message)}"]{fields}'
    return _encodable(line if trace is None else f"{line}\n{trace}")


def render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """One JSON object per line, with zap's keys `level`, `time`, `caller`, `message`."""
    time, message, level, where, trace = _take_frame(event)
    record = {"level": level, "time": time, "caller": where, "message": message, **event}
    if trace is not None:
        record["stack"] = trace
    return _encodable(json.dumps(record, default=str, ensure_ascii=False))


def _take_frame(event: MutableMapping[str, Any]) -> tuple[str, str, str, str, str | None]:
    time = _timestamp(event.pop(_SAID_AT, None) or datetime.now(UTC))
    level = str(event.pop("level", "info"))
    where = f"{event.pop('filename', '?')}:{event.pop('lineno', 0)}"
    trace = event.pop("exception", None)
    return time, str(event.pop("event", "")), _LEVEL_NAMES.get(level, level.upper()), where, trace


def _timestamp(moment: datetime) -> str:
    now = moment.astimezone()
    offset = now.strftime("%z")
    return f"{now:%Y/%m/%d %H:%M:%S}.{now.microsecond // 1000:03d} {offset[:3]}:{offset[3:]}"


def _quote(value: object) -> str:
    text = value if isinstance(value, str) else _plain(value)
    if text == "" or _NEEDS_QUOTES.search(text):
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
