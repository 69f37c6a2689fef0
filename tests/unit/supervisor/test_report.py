"""Reports survive the pipe whole, in pieces and beside rubbish; the replica's end never blocks."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordd.supervisor.link import ParentLink
from coordd.supervisor.report import MAX_LINE_BYTES, Decoder, Report, encode

REPORTS = st.builds(
    Report,
    timeout_ms=st.integers(0, 600_000),
    enabled=st.booleans(),
    ready=st.booleans(),
    stopping=st.booleans(),
    json_lines=st.booleans(),
    status=st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), max_size=20),
)


@given(st.lists(REPORTS, max_size=5), st.integers(1, 50))
def test_they_arrive_as_they_were_in_pieces_of_any_size(reports: list[Report], size: int) -> None:
    data = b"".join(map(encode, reports))
    decoder = Decoder()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [report for piece in pieces for report in decoder.feed(piece)] == reports


@given(st.binary(max_size=200), REPORTS)
def test_rubbish_costs_itself_only(rubbish: bytes, report: Report) -> None:
    assert Decoder().feed(rubbish + b"\n" + encode(report))[-1] == report


@given(st.text())
def test_a_status_is_one_short_line(status: str) -> None:
    line = encode(Report(timeout_ms=1000, status=status * 100))
    assert len(line) < MAX_LINE_BYTES
    assert line.count(b"\n") == 1
    assert len(Decoder().feed(line)) == 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, ParentLink]]:
    """(the parent's end, the replica's)."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    link = ParentLink(write_end, hangs=2)
    yield read_end, link
    link.close()
    os.close(read_end)


def read(fd: int) -> list[Report]:
    try:
        return Decoder().feed(os.read(fd, 1 << 20))
    except BlockingIOError:
        return []


async def test_it_beats_from_the_loop_several_times_per_timeout(pipe: tuple[int, ParentLink]) -> None:
    read_end, link = pipe
    link.watch(asyncio.get_running_loop(), enabled=True, timeout_ms=200, json_lines=False)
    assert len(read(read_end)) == 1, "at once, too"
    heard = 0
    while heard < 5:
        await asyncio.sleep(0.01)
        heard += len(read(read_end))
    link.close()
    assert os.read(read_end, 100) == b"", "the end of the loop shows as the end of the pipe"
    link.status("late", ready=True)
    link.close()


async def test_a_change_is_told_at_once_and_no_change_is_not(pipe: tuple[int, ParentLink]) -> None:
    read_end, link = pipe
    link.watch(asyncio.get_running_loop(), enabled=False, timeout_ms=600_000, json_lines=True)
    link.status("STANDBY", ready=True)
    link.status("STANDBY", ready=False)
    link.stopping()
    link.stopping()
    first = Report(timeout_ms=600_000, enabled=False, json_lines=True)
    standby = first._replace(status="STANDBY", ready=True)
    assert read(read_end) == [first, standby, standby._replace(stopping=True)]


async def test_a_parent_that_does_not_read_holds_nothing_up(pipe: tuple[int, ParentLink]) -> None:
    read_end, link = pipe
    link.watch(asyncio.get_running_loop(), enabled=True, timeout_ms=200, json_lines=False)
    for number in range(20_000):
        link.status(f"{number} {'x' * 100}", ready=False)
    read(read_end)
    for _ in range(500):
        if any(report.status.startswith("19999 ") for report in read(read_end)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("what did not fit is told by the next beat")


async def test_a_parent_that_is_gone_is_no_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    link = ParentLink(write_end)
    link.watch(asyncio.get_running_loop(), enabled=True, timeout_ms=200, json_lines=False)
    link.stopping()
    link.close()
