"""Steps of a script: each calls pymilvus once, says what must come of it, and keeps what came.

An outcome is plain data without what differs from run to run (IDs and timestamps), so two runs compare line
by line. A step that fails does not end the script: the line tells.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from grpc import Call, RpcError
from pymilvus import connections, db
from pymilvus.exceptions import MilvusException

TIMEOUT_S = 30
"""An int: pymilvus 2.3.5 ignores floats in its retry loop."""
WITHIN = {"timeout": TIMEOUT_S}
USING = "default"
DEFAULT_DB = "default"
BECOMES_WITHIN_S = 20.0
POLL_S = 0.1
RUN_DEPENDENT = 10**15
"""IDs and timestamps are some 4.6e17."""
RUN_DEPENDENT_TEXT = re.compile(r"\d{16,}|(?<=rootcoord-dml_)\d+|(?<=delegator )\d+|(?<=QueryNode ID = )\d+")
IN_ANY_ORDER = re.compile(r"(?<=supported the object types: \[)[^]]*")
"""Comes out of a Go map."""
DIGITS = 5

NOTHING = "nothing"
"""The outcome of a call that returns nothing."""


def handler() -> Any:
    """What pymilvus' classes call: it checks less, so that the server has to."""
    return connections._fetch_handler(USING)


@contextmanager
def in_database(name: str) -> Iterator[None]:
    """Calls of the default connection go to this database."""
    try:
        db.using_database(name, using=USING)
        yield
    finally:
        db.using_database(DEFAULT_DB, using=USING)


def plain(value: Any) -> Any:
    """JSON data of what pymilvus returns; no IDs, no timestamps, floats as exact as a float32."""
    if hasattr(value, "item") and callable(value.item):  # of numpy
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, int | float):
        return _plain_number(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    text = RUN_DEPENDENT_TEXT.sub("<id>", str(value))
    return IN_ANY_ORDER.sub(lambda found: " ".join(sorted(found[0].split())), text)


def _plain_number(value: float) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    return "<id>" if value >= RUN_DEPENDENT else value


def refusal(error: Exception) -> dict[str, Any]:
    """A failed call: by gRPC, or with Milvus' code."""
    if isinstance(error, MilvusException):
        return {"refused": plain(error.code), "text": plain(error.message)}
    if isinstance(error, Call):
        return {"refused": error.code().name, "text": plain(error.details())}
    return {"refused": type(error).__name__, "text": plain(str(error))}


def outcome_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What comes of a call, as plain data."""
    try:
        got = call(*args, **kwargs)
    except (MilvusException, RpcError) as error:
        return refusal(error)
    return NOTHING if got is None else plain(got)


class Steps:
    """The lines of one section, each `{"what", "got", "right"}` and, if it is not right, `"wanted"`."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def gives(self, what: str, wanted: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call returns this."""
        got, expected = outcome_of(call, *args, **kwargs), plain(wanted)
        self._keep(what, got, expected, right=got == expected)

    def done(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call succeeds; what it returns does not matter."""
        got = outcome_of(call, *args, **kwargs)
        failed = isinstance(got, dict) and "refused" in got
        self._keep(what, got if failed else "done", "done", right=not failed)

    def seen(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call succeeds; what it returns is for the comparison with another run."""
        got = outcome_of(call, *args, **kwargs)
        failed = isinstance(got, dict) and "refused" in got
        self._keep(what, got, "no refusal", right=not failed)

    def refused(self, what: str, text: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call fails with a text that has this in it."""
        got = outcome_of(call, *args, **kwargs)
        right = isinstance(got, dict) and text in got.get("text", "") and "refused" in got
        self._keep(what, got, {"text": f"... {text} ..."}, right=right)

    def becomes(self, what: str, wanted: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """The call, repeated for a while, comes to return this."""
        expected, deadline = plain(wanted), time.monotonic() + BECOMES_WITHIN_S
        while True:
            got = outcome_of(call, *args, **kwargs)
            if got == expected or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        self._keep(what, got, expected, right=got == expected)

    def becomes_refused(self, what: str, text: str, call: Callable[..., Any], *args: Any, **kw: Any) -> None:
        """The call, repeated for a while, comes to be refused with a text that has this in it."""
        deadline = time.monotonic() + BECOMES_WITHIN_S
        while True:
            got = outcome_of(call, *args, **kw)
            right = isinstance(got, dict) and text in got.get("text", "") and "refused" in got
            if right or time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
        self._keep(what, got, {"text": f"... {text} ..."}, right=right)

    def _keep(self, what: str, got: Any, wanted: Any, *, right: bool) -> None:
        line = {"what": what, "got": got, "right": right}
        self.lines.append(line if right else {**line, "wanted": wanted})
