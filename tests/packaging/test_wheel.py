"""The wheel: built from what the image's build gets, installed into a clean environment, run from nowhere."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from coordd.version import coordd_version
from tests.packaging.build_context import context_files
from tests.packaging.files import ROOT, clean_env, run

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as in the Dockerfile, from the files of the build context only."""
    source = tmp_path_factory.mktemp("context")
    for name in context_files():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    dist = tmp_path_factory.mktemp("dist")
    options = ["--no-build-isolation", "--no-deps", "--no-cache-dir", "--quiet", "--wheel-dir", str(dist)]
    done = run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=source, timeout_s=120)
    assert done.returncode == 0, done.stderr
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a new environment that has the wheel; its dependencies are those of this one."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=60)
    python = home / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet"]
    done = run(
        [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel],
        cwd=home,
        timeout_s=60,
    )
    assert done.returncode == 0, done.stderr
    # A path in a .pth file is searched last, and the .pth files there (our editable install) are not read.
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return home / "bin"


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"coordd", f"coordd-{coordd_version()}.dist-info"}
    for needed in ("coordd/pb/root_coord_pb2.py", "coordd/pb/root_coord_pb2.pyi", "coordd/py.typed"):
        assert needed in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_it_runs_from_an_empty_directory(programs: Path, tmp_path: Path) -> None:
    done = run([programs / "coordd", "version"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"coordd {coordd_version()} ")
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_installed_package_that_runs(programs: Path, tmp_path: Path) -> None:
    done = run([programs / "python", "-c", "import coordd; print(coordd.__file__)"], cwd=tmp_path)
    assert Path(done.stdout.strip()).is_relative_to(programs.parent)


def test_its_data_files_are_there(programs: Path, tmp_path: Path) -> None:
    # The list of Milvus' own keys is read to tell a misspelt key from one that only Milvus has.
    wrong = tmp_path / "milvus.yaml"
    wrong.write_text("etcd:\n  endpoint: localhost:2379\n")
    done = run([programs / "coordd", "config", "check", wrong], cwd=tmp_path, env=clean_env())
    assert "etcd.endpoint" in done.stdout + done.stderr
    assert "etcd.endpoints" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
