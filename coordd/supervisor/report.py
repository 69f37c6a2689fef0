"""What the replica tells its parent: one line of text per beat, the whole state in each.

A beat that is lost (the pipe was full) is thereby made good by the next one. A line is shorter than PIPE_BUF
(4096 bytes on Linux), so a write to the pipe is either whole or not at all (pipe(7)).
"""

from typing import NamedTuple

MAX_STATUS_BYTES = 2000
MAX_LINE_BYTES = 4096

_ENABLED, _READY, _STOPPING, _JSON = b"e", b"r", b"s", b"j"


class Report(NamedTuple):
    """State of a replica whose event loop runs.

    `timeout_ms`: silence longer than this means that it hangs. `enabled`: whether that is to be judged at
    all. `ready`, `stopping`, `status`: as systemd understands them. `json_lines`: the format of its log.
    """

    timeout_ms: int
    enabled: bool = True
    ready: bool = False
    stopping: bool = False
    json_lines: bool = False
    status: str = ""


def encode(report: Report) -> bytes:
    """One line, its end included."""
    flags = b"".join(
        flag
        for flag, is_set in (
            (_ENABLED, report.enabled),
            (_READY, report.ready),
            (_STOPPING, report.stopping),
            (_JSON, report.json_lines),
        )
        if is_set
    )
    status = " ".join(report.status.split()).encode("utf-8", "replace")[:MAX_STATUS_BYTES]
    return b"%d %s %s\n" % (report.timeout_ms, flags or b"-", status)


class Decoder:
    """Takes the pipe's bytes in any pieces, gives whole reports. What is no report is dropped."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Report]:
        """The reports that `data` completes, in order."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:MAX_LINE_BYTES]
        return [report for report in map(_decode, lines) if report is not None]


def _decode(line: bytes) -> Report | None:
    timeout, _, rest = line.partition(b" ")
    flags, _, status = rest.partition(b" ")
    if not timeout.isdigit():
        return None
    return Report(
        timeout_ms=int(timeout),
        enabled=_ENABLED in flags,
        ready=_READY in flags,
        stopping=_STOPPING in flags,
        json_lines=_JSON in flags,
        status=status.decode("utf-8", "replace"),
    )
