"""Which command lines get a parent process, and that it stays small."""

import json
import re
import subprocess
import sys

import pytest

from coordd.supervisor import is_wanted
from coordd.supervisor.log_line import text_line

FACTS = (("pid", 12), ("silent_s", 1.25), ("restart", True))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("run rootcoord", True),
        ("run mixcoord --config /etc/coordd", True),
        ("run rootcoord --no-watchdog", False),
        ("run --no-watchdog rootcoord", False),
        ("run --help", False),
        ("run rootcoord -h", False),
        ("dev", False),
        ("status --watch", False),
        ("config check run", False),
        ("", False),
    ],
)
def test_only_run_is_supervised(line: str, wanted: bool) -> None:
    assert is_wanted(line.split(), {}) is wanted


@pytest.mark.parametrize("value", ["false", "False", "0", "f"])
def test_the_environment_can_switch_it_off(value: str) -> None:
    assert not is_wanted(["run", "rootcoord"], {"COORDD_WATCHDOG_ENABLED": value})
    assert is_wanted(["run", "rootcoord"], {"COORDD_WATCHDOG_ENABLED": "true"})


def test_the_entry_point_imports_nothing_heavy_before_the_fork() -> None:
    def modules(program: str) -> set[str]:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
        return set(done.stdout.split())

    more = modules("import coordd.cli, sys; print(*sys.modules)") - modules("import sys; print(*sys.modules)")
    heavy = {
        "asyncio",
        "cyclopts",
        "dataclasses",
        "grpc",
        "inspect",
        "logging",
        "pathlib",
        "pydantic",
        "yaml",
    }
    assert not heavy & {name.partition(".")[0] for name in more}
    assert "coordd.supervisor.parent" in more
    assert not {name for name in more if name.startswith("coordd.")} - {
        name for name in more if name.startswith(("coordd.cli", "coordd.supervisor"))
    }


def test_a_log_line_has_the_logs_format() -> None:
    line = text_line("the replica hangs, killing it", FACTS, json_lines=False)
    assert re.fullmatch(
        r"\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3} [+-]\d\d:\d\d\] \[WARN\] \[supervisor:0\] "
        r'\["the replica hangs, killing it"\] \[pid=12\] \[silent_s=1\.25\] \[restart=true\]',
        line,
    )


def test_a_log_line_as_json() -> None:
    record = json.loads(text_line("the replica hangs, killing it", FACTS, json_lines=True))
    assert record.pop("time")
    assert record == {
        "level": "WARN",
        "caller": "supervisor:0",
        "message": "the replica hangs, killing it",
        "pid": 12,
        "silent_s": 1.25,
        "restart": True,
    }
