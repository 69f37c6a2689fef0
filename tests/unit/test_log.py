"""The log's two line formats: zap's text as Milvus prints it, and JSON."""

import asyncio
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordd import log

TEXT = re.compile(
    r"\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[(\w+)\] \[(test_log\.py:\d+)\] (.*)\n",
    re.DOTALL,
)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Puts back what `configure` replaces for the whole process."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, logging.getLogger(log.ROOT_LOGGER).level
    root.handlers = []
    yield
    root.handlers, root.level = before[0], before[1]
    logging.getLogger(log.ROOT_LOGGER).setLevel(before[2])


def text_line(*arguments: object, **facts: object) -> tuple[str, str]:
    """Level, and what follows the place, of one line."""
    stream = io.StringIO()
    log.configure(stream=stream)
    log.get_logger("coordd.test").warning(*arguments, **facts)
    found = TEXT.fullmatch(stream.getvalue())
    assert found is not None, stream.getvalue()
    return found[1], found[3]


def test_a_text_line_is_zaps() -> None:
    assert text_line("session ended", role="rootcoord", epoch=7, ok=True, roles=("a", "b")) == (
        "WARN",
        '["session ended"] [role=rootcoord] [epoch=7] [ok=true] [roles="[a,b]"]',
    )


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "no"', '"say \\"no\\""'),
        ("first\nsecond", '"first\\nsecond"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("größe", "größe"),
    ],
)
def test_a_value_cannot_break_out_of_its_brackets(value: str, printed: str) -> None:
    assert text_line("m", key=value)[1] == f'["m"] [key={printed}]'


def test_a_key_that_is_not_utf8_is_printed_all_the_same() -> None:
    key = b"by-dev/\xff".decode("utf-8", "surrogateescape")
    assert text_line("damaged", key=key)[1].encode() == b'["damaged"] [key=by-dev/\\udcff]'


def test_json_lines_have_zaps_keys() -> None:
    stream = io.StringIO()
    log.configure(stream=stream, json_lines=True)
    log.get_logger("coordd.test").info("hello", key=b"\xff".decode("utf-8", "surrogateescape"))
    try:
        int("the cause")
    except ValueError:
        log.get_logger("coordd.test").exception("it failed")
    stream.getvalue().encode()
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["message"], first["key"]) == ("INFO", "hello", "\udcff")
    assert first["caller"].startswith("test_log.py:")
    assert (second["level"], second["message"]) == ("ERROR", "it failed")
    assert "ValueError: invalid literal" in second["stack"]


def test_only_our_own_loggers_speak_below_warning() -> None:
    stream = io.StringIO()
    log.configure(stream=stream, level="DEBUG")
    log.get_logger("coordd.test").debug("ours")
    logging.getLogger("aiohttp").info("theirs")
    logging.getLogger("aiohttp").warning("theirs, in need")
    said = stream.getvalue()
    assert '["ours"]' in said
    assert '["theirs"]' not in said
    assert '["theirs, in need"]' in said
    log.set_level("error")
    assert log.get_level() == "error"


async def test_lines_for_later_keep_their_time_place_and_order() -> None:
    stream = io.StringIO()
    log.configure(stream=stream, json_lines=True)
    later = log.Later(log.get_logger("coordd.test"))
    later.info("first", number=1)
    later.warning("second")
    assert stream.getvalue() == ""
    await asyncio.sleep(2 * later.DELAY_S)
    log.get_logger("coordd.test").info("third")
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert [line["message"] for line in (first, second, third)] == ["first", "second", "third"]
    assert [line["level"] for line in (first, second)] == ["INFO", "WARN"]
    assert first["number"] == 1
    assert {line["caller"].partition(":")[0] for line in (first, second)} == {"test_log.py"}
    assert first["caller"] != second["caller"]
    assert second["time"] < third["time"]
    assert "said_at" not in first


async def test_lines_for_later_can_be_had_at_once() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    later = log.Later(log.get_logger("coordd.test"))
    later.info("the end is near")
    later.flush()
    assert stream.getvalue().count("the end is near") == 1
    await asyncio.sleep(2 * later.DELAY_S)
    assert stream.getvalue().count("the end is near") == 1


def test_lines_for_later_come_at_once_where_no_loop_runs() -> None:
    stream = io.StringIO()
    log.configure(stream=stream)
    log.Later(log.get_logger("coordd.test")).info("hello")
    assert "hello" in stream.getvalue()


# --- files ---

LINE = "x" * 600


def rotated(folder: Path, *, backups: int, max_age_days: int = 0, lines: int = 6) -> list[str]:
    """Write a file that takes one line before each of them; what is there afterwards."""
    file = folder / "rootcoord.log"
    log.configure(
        stdout=False, file=file, file_max_bytes=1000, file_backups=backups, file_max_age_days=max_age_days
    )
    for number in range(lines):
        log.get_logger("coordd.test").info("line", number=number, filled=LINE)
    for handler in logging.getLogger().handlers:
        handler.close()
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_rotated_by_size_and_the_newest_ones_stay(tmp_path: Path) -> None:
    assert rotated(tmp_path, backups=2) == ["rootcoord.log", "rootcoord.log.1", "rootcoord.log.2"]
    for name, number in (("rootcoord.log", 5), ("rootcoord.log.1", 4), ("rootcoord.log.2", 3)):
        assert f"[number={number}]" in (tmp_path / name).read_text()


def test_no_number_of_files_is_all_of_them(tmp_path: Path) -> None:
    assert len(rotated(tmp_path, backups=0)) == 6


@pytest.mark.parametrize(("lines", "kept"), [(0, [1, 2]), (2, [1, 2, 3])])
def test_files_go_by_their_age_at_the_start_and_when_one_is_rotated(
    tmp_path: Path, lines: int, kept: list[int]
) -> None:
    others = ("rootcoord.log.old", "xrootcoord.log.1")
    for number in (1, 2, 3, 4):
        (tmp_path / f"rootcoord.log.{number}").touch()
    for name in ("rootcoord.log.3", "rootcoord.log.4", *others):
        (tmp_path / name).touch()
        days_ago = time.time() - 2.1 * 86_400
        os.utime(tmp_path / name, (days_ago, days_ago))
    names = rotated(tmp_path, backups=20, max_age_days=2, lines=lines)
    assert names == sorted(["rootcoord.log", *(f"rootcoord.log.{number}" for number in kept), *others])
