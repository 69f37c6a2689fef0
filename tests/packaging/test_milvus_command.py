"""deploy/docker/milvus: Milvus' command line, answered by the real coordd from an empty directory."""

import os
import shutil
from pathlib import Path

import pytest

from coordd.version import MILVUS_VERSION, coordd_version
from tests.packaging.files import BIN, MILVUS_COMMAND, clean_env, run

SHELLS = [path for name in ("dash", "bash", "busybox") if (path := shutil.which(name))]


@pytest.fixture
def path_with_milvus(tmp_path: Path) -> str:
    """A PATH like the image's: coordd, milvus, and what Debian's base system has."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "milvus").symlink_to(MILVUS_COMMAND)
    (programs / "coordd").symlink_to(BIN / "coordd")
    return f"{programs}:/usr/bin:/bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A directory with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def echo(tmp_path: Path) -> dict[str, str]:
    """An environment in which `coordd` prints its arguments, one a line."""
    programs = tmp_path / "echo"
    programs.mkdir()
    fake = programs / "coordd"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    return clean_env(PATH=f"{programs}:/usr/bin:/bin")


def test_it_is_executable() -> None:
    assert os.access(MILVUS_COMMAND, os.X_OK)


def test_the_real_coordd_answers_from_an_empty_directory(path_with_milvus: str, empty: Path) -> None:
    done = run(["milvus", "version"], cwd=empty, env=clean_env(PATH=path_with_milvus))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"coordd {coordd_version()} ")
    assert MILVUS_VERSION in done.stdout
    assert list(empty.iterdir()) == []


def test_coordd_refuses_a_role_that_the_script_let_through(path_with_milvus: str, empty: Path) -> None:
    # The roles are listed in the script and in coordd: this is coordd's own refusal.
    done = run(["coordd", "run", "proxy"], cwd=empty, env=clean_env(PATH=path_with_milvus))
    assert done.returncode == 2
    assert "proxy" in done.stdout + done.stderr


def test_coordd_takes_the_options_that_follow_the_role(path_with_milvus: str, empty: Path) -> None:
    missing = empty / "no-such.yaml"
    done = run(
        ["milvus", "run", "rootcoord", "-alias", "a", "--config", missing],
        cwd=empty,
        env=clean_env(PATH=path_with_milvus),
    )
    assert done.returncode == 1
    assert str(missing) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "rootcoord"], ["run", "rootcoord"]),
        (["run", "mixcoord"], ["run", "mixcoord"]),
        (["run", "querycoord", "-alias", "a b"], ["run", "querycoord"]),
        (["run", "datacoord", "--alias=x"], ["run", "datacoord"]),
        (["run", "rootcoord", "--config", "/a b/c"], ["run", "rootcoord", "--config", "/a b/c"]),
        (["run", "rootcoord", "-alias", "x", "--config", "$HOME"], ["run", "rootcoord", "--config", "$HOME"]),
        (
            ["run", "mixture", "-rootcoord", "--querycoord=true", "-datacoord", "-indexcoord"],
            ["run", "mixcoord"],
        ),
    ],
)
def test_what_milvus_takes_becomes_what_coordd_takes(
    shell: str, arguments: list[str], expected: list[str], echo: dict[str, str], empty: Path
) -> None:
    interpreter = [shell, "sh"] if shell.endswith("busybox") else [shell]
    done = run([*interpreter, MILVUS_COMMAND, *arguments], cwd=empty, env=echo)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "no command given"),
        (["run"], "no role given"),
        (["stop", "rootcoord"], "unknown command 'stop'"),
        (["run", "proxy"], "proxy is no coordinator"),
        (["run", "querynode"], "querynode is no coordinator"),
        (["run", "standalone"], "standalone needs more than coordinators"),
        (["run", "indexcoord"], "use: milvus run datacoord"),
        (["run", "rootcord"], "unknown role 'rootcord'"),
        (["run", "rootcoord", "-alias"], "-alias needs a name"),
        (["run", "rootcoord", "-querycoord"], "-querycoord belongs to 'milvus run mixture'"),
        (["run", "mixture", "-rootcoord", "-datacoord"], "mixture without -querycoord"),
        (["run", "mixture", "-rootcoord", "-querycoord", "-datacoord", "-proxy"], "'-proxy'"),
    ],
)
def test_what_is_not_here_is_refused_in_one_line(
    arguments: list[str], reason: str, echo: dict[str, str], empty: Path
) -> None:
    done = run([MILVUS_COMMAND, *arguments], cwd=empty, env=echo)
    assert done.returncode == 2
    assert done.stdout == ""
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
