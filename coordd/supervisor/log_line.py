"""One line in the log's format, made without the logging package (see `coordd.log` for the format)."""

import sys
import time
from select import POLLOUT, poll

_WHERE = "supervisor:0"


def text_line(message: str, facts: tuple[tuple[str, int | float | bool], ...], *, json_lines: bool) -> str:
    """A warning as one line without its end. `message` is a constant without quotes or backslashes."""
    shown = [(key, str(value).lower()) for key, value in facts]
    if json_lines:
        texts = (("level", "WARN"), ("time", _timestamp()), ("caller", _WHERE), ("message", message))
        quoted = [(key, f'"{value}"') for key, value in texts]
        return "{" + ", ".join(f'"{key}": {value}' for key, value in (*quoted, *shown)) + "}"
    return f'[{_timestamp()}] [WARN] [{_WHERE}] ["{message}"]' + "".join(
        f" [{key}={value}]" for key, value in shown
    )


def write_line(line: str) -> None:
    """To stderr, unless nobody takes it: the parent must not be held up by a pipe that is full."""
    try:
        ready = poll()
        ready.register(2, POLLOUT)
        if any(events & POLLOUT for _, events in ready.poll(0)):
            sys.stderr.write(line + "\n")  # shorter than PIPE_BUF: if there is room at all, there is enough
            sys.stderr.flush()
    except (OSError, ValueError):
        return


def _timestamp() -> str:
    now = time.time()
    local = time.localtime(now)
    zone = time.strftime("%z", local)
    return f"{time.strftime('%Y/%m/%d %H:%M:%S', local)}.{int(now % 1 * 1000):03d} {zone[:3]}:{zone[3:]}"
