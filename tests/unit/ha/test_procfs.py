"""A process' start, as /proc/<pid>/stat gives it."""

import os

import psutil
import pytest

from coordd.ha import procfs

FIELDS_3_TO_24 = "S 1 7 7 0 -1 4194304 10 20 0 0 1 2 3 4 20 0 1 0 123456 1000 200"


@pytest.mark.parametrize("name", ["python3", "a b", "tmux: server", ") S 9 9 (", "x) 1"])
def test_the_start_is_found_behind_any_name(name: str) -> None:
    assert procfs.parse_start_ticks(f"7 ({name}) {FIELDS_3_TO_24}") == 123456


@pytest.mark.parametrize("stat", ["", "7 (python3) S 1 7", "7 (a) " + "x " * 22])
def test_what_does_not_say_is_unknown(stat: str) -> None:
    assert procfs.parse_start_ticks(stat) == 0


def test_this_process() -> None:
    started_at = psutil.boot_time() + procfs.start_ticks(os.getpid()) / os.sysconf("SC_CLK_TCK")
    assert started_at == pytest.approx(psutil.Process().create_time(), abs=2)


def test_nobody_has_no_start() -> None:
    assert procfs.start_ticks(1 << 30) == 0
