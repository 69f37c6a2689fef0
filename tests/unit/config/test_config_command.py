"""`coordd config show` and `coordd config check`, run as a user would."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from coordd.cli.config_command import app
from tests.unit.config.support import Directory


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No configuration but that of the test; the logging that the command sets up ends with it."""
    monkeypatch.delenv("MILVUSCONF", raising=False)
    monkeypatch.chdir(tmp_path)
    handlers, ours = logging.getLogger().handlers, logging.getLogger("coordd")
    before, level = list(handlers), ours.level
    yield
    handlers[:] = before
    ours.setLevel(level)
    structlog.reset_defaults()


def run(*arguments: str | Path) -> int:
    result = app([str(argument) for argument in arguments], result_action="return_value", exit_on_error=False)
    assert isinstance(result, int)
    return result


def test_check_of_a_good_file(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory.write("log: {level: debug}\nrootCoord: {ImportTaskSubPath: x}\n")
    assert run("check", path) == 0
    out = capsys.readouterr().out
    assert out == f"{path}: 0 errors, 0 warnings; 1 settings of Milvus that coordd does not read\n"
    assert run("check", "--verbose", path) == 0
    assert "rootCoord.ImportTaskSubPath is a setting of Milvus" in capsys.readouterr().out


def test_check_names_every_wrong_key(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory.write("""\
        etcd:
          endpoint: a:1
          requestTimeout: fast
        rotCoord: {port: 1}
        log: {level: loud}
        coordd:
          failover: {serveGuard: 100}
    """)
    assert run("check", path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        ["error", f"{path}:3"],
        ["error", f"{path}:5"],
        ["error", f"{path}:7"],
        ["warning", f"{path}:2"],
        ["warning", f"{path}:4"],
    ]
    assert "did you mean etcd.endpoints?" in lines[3]
    assert "did you mean rootCoord?" in lines[4]
    assert lines[-1] == f"{path}: 3 errors, 2 warnings"


def test_check_judges_the_file_alone(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT_COORD_PORT", "not a port")
    directory.write("log: {level: loud}", "user.yaml")
    assert run("check", directory.write("log: {level: debug}")) == 0


def test_check_of_a_malformed_file(directory: Directory, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory.write("log:\n  level: [\n")
    assert run("check", path) == 1
    assert capsys.readouterr().out.startswith(f"error: {path}:3: is not valid YAML")


def test_check_of_an_unreadable_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", tmp_path / "none.yaml") == 2
    assert "cannot be read: No such file" in capsys.readouterr().out
    assert run("check", tmp_path) == 2


def test_check_warns_of_what_would_be_warned_of_at_start(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", directory.write("common: {session: {ttl: 1}}")) == 0
    assert "warning: " in capsys.readouterr().out


def test_show_prints_the_settings_in_force(
    directory: Directory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = directory.write("log: {level: debug}\netcd: {auth: {password: hunter2}}")
    monkeypatch.setenv("ROOT_COORD_PORT", "5")
    assert run("show", "--no-etcd", "--origin", "--config", path) == 0
    captured = capsys.readouterr()
    assert "rootCoord.port: 5" in captured.out
    assert "# environment ROOT_COORD_PORT" in captured.out
    assert f"# {path}:1" in captured.out
    assert "hunter2" not in captured.out
    assert captured.err == ""
    assert run("show", "--no-etcd", "--role", "datacoord", "-c", path) == 0
    assert "rootCoord.port" not in capsys.readouterr().out


def test_show_without_etcd_at_hand_says_so_and_shows_the_rest(
    directory: Directory, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        directory.write(f"etcd: {{endpoints: '127.0.0.1:{port}', requestTimeout: 500}}")
        assert run("show") == 0
    captured = capsys.readouterr()
    assert f"etcd.endpoints: 127.0.0.1:{port}" in captured.out
    assert f"settings in etcd are not shown, 127.0.0.1:{port} cannot be read" in captured.err
