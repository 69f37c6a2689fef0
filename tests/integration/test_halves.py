"""`make test` in little: one test in each run of pytest, what both say together, and how they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from coordd.etcd.child import bound_to_parent
from tests.support.etcd import eventually

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
FOLDERS = ("computing", "waiting")
PATIENCE_S = 30.0
UNDER_WAY = """
import os, pathlib, time

def test_under_way():
    part = pathlib.Path(__file__).with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(part.with_suffix(".pid"))
    time.sleep(600)
"""


def halves(project: Path) -> subprocess.Popen[str]:
    """Started on what `project` has in FOLDERS."""
    return subprocess.Popen(
        bound_to_parent([sys.executable, "-m", "tests.halves", "cache/log", "computing"]),
        cwd=project,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:hypothesispytest -p no:asyncio",
        },
        stdout=subprocess.PIPE,
        text=True,
    )


def write_test(project: Path, folder: str, text: str) -> Path:
    (project / folder).mkdir()
    path = project / folder / f"test_{folder}.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("failing", FOLDERS)
def test_a_failure_in_either_run_is_a_failure(failing: str, tmp_path: Path) -> None:
    for folder in FOLDERS:
        write_test(tmp_path, folder, f"def test_it():\n    assert {folder != failing}\n")
    with halves(tmp_path) as both:
        said, _ = both.communicate(timeout=PATIENCE_S)
    assert both.returncode == 1
    assert (said.count("1 passed"), said.count("1 failed")) == (1, 1)
    assert ("computing/test_computing.py" in said) == (failing == "computing"), (
        "it is shown if it tells of one"
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_both_runs_end_with_it(ending: signal.Signals, tmp_path: Path) -> None:
    pids = [write_test(tmp_path, folder, UNDER_WAY).with_suffix(".pid") for folder in FOLDERS]
    with halves(tmp_path) as both:
        await eventually(lambda: all(path.exists() for path in pids), PATIENCE_S)
        runs = [psutil.Process(int(path.read_text())) for path in pids]
        both.send_signal(ending)
        said, _ = both.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(runs, PATIENCE_S)
    assert alive == []
    if ending == signal.SIGTERM:
        assert both.returncode == 128 + ending
        assert "KeyboardInterrupt" in said, "there was time to clean up"
