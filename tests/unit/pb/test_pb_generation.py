"""hatch_build.py: compiles all of proto/ or changes nothing."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

import coordd.pb

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def hatch_build() -> ModuleType:
    for tool in ("hatchling", "grpc_tools"):
        pytest.importorskip(tool, reason="build tools come with the extra dev")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with the .proto files and nothing generated."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    (tmp_path / "coordd" / "pb").mkdir(parents=True)
    return tmp_path


def contents(tree: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (tree / "coordd" / "pb").iterdir()}


def test_modules_in_use_are_those_of_the_proto_files(hatch_build: Any, tree: Path) -> None:
    hatch_build.compile_protos(tree)
    in_use = Path(*coordd.pb.__path__)
    stale = [name for name, content in contents(tree).items() if (in_use / name).read_bytes() != content]
    assert stale == [], "run python hatch_build.py"


def test_every_proto_file_gives_a_module_and_a_stub_and_a_second_run_none(
    hatch_build: Any, tree: Path
) -> None:
    protos = [path.stem for path in (tree / "proto" / "coordd" / "pb").iterdir()]
    written = hatch_build.compile_protos(tree)
    assert {path.name for path in written} == {
        f"{name}_pb2.{kind}" for name in protos for kind in ("py", "pyi")
    }
    assert set(contents(tree)) == {path.name for path in written}
    assert hatch_build.compile_protos(tree) == []


def test_a_module_without_its_proto_file_is_removed_and_other_files_stay(
    hatch_build: Any, tree: Path
) -> None:
    package = tree / "coordd" / "pb"
    hatch_build.compile_protos(tree)
    (package / "gone_pb2.py").write_text("")
    (package / "__init__.py").write_text("")
    assert hatch_build.compile_protos(tree) == [Path("coordd", "pb", "gone_pb2.py")]
    assert (package / "__init__.py").exists()


def test_a_proto_file_that_protoc_refuses_changes_nothing(
    hatch_build: Any, tree: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hatch_build.compile_protos(tree)
    before = contents(tree)
    with (tree / "proto" / "coordd" / "pb" / "query_coord.proto").open("a") as file:
        file.write("message Broken { int64 id = 1 }\n")
    with pytest.raises(hatch_build.ProtoError, match="protoc refused"):
        hatch_build.compile_protos(tree)
    assert "query_coord.proto" in capfd.readouterr().err
    assert contents(tree) == before


def test_a_tree_without_proto_files_is_an_error(hatch_build: Any, tmp_path: Path) -> None:
    with pytest.raises(hatch_build.ProtoError, match=r"no \.proto files"):
        hatch_build.compile_protos(tmp_path)


def test_stubs_are_python_and_name_no_bare_mapping(hatch_build: Any, tree: Path) -> None:
    hatch_build.compile_protos(tree)
    stubs = {name: text.decode() for name, text in contents(tree).items() if name.endswith(".pyi")}
    for name, text in stubs.items():
        ast.parse(text, name)
        assert "_Mapping]" not in text
    assert "    None: " not in stubs["schema_pb2.pyi"]
    assert "def Value(cls, name: str | bytes) -> DataType: ..." in stubs["schema_pb2.pyi"]
