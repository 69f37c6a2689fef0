"""zap's level handler, without HTTP."""

from collections.abc import Iterator

import pytest

from coordd import log
from coordd.management import log_level


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    log.set_level("info")
    yield
    log.set_level("info")


def test_current() -> None:
    assert log_level.current() == '{"level":"info"}\n'


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", '{"level":"debug"}'),
        ("application/octet-stream", '{"level": "DEBUG"}'),
        (log_level.FORM, "level=debug"),
    ],
)
def test_change(content_type: str, body: str) -> None:
    assert log_level.change(content_type, body) == ("info", "debug")
    assert log.get_level() == "debug"


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("application/json", '{"level":"loud"}', 'unrecognized level: "loud"'),
        ("application/json", "{}", "must specify logging level"),
        ("application/json", '{"level":3}', "must specify logging level"),
        ("application/json", "[]", "must specify logging level"),
        ("application/json", "", "malformed request body"),
        ("application/json", "level=debug", "malformed request body"),
        ("application/json", "[" * 4000, "malformed request body"),
        (log_level.FORM, "", "must specify logging level"),
    ],
)
def test_what_cannot_be_read_changes_nothing(content_type: str, body: str, text: str) -> None:
    with pytest.raises(log_level.BadLevel, match=text):
        log_level.change(content_type, body)
    assert log.get_level() == "info"
