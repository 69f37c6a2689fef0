"""Compiles ``proto/coordd/pb/*.proto`` into the modules of ``coordd.pb``.

Runs as a hatchling build hook for wheels and editable installs, and by hand as
``python hatch_build.py`` after a change to a .proto file.  Every run compiles everything (well under
a second) and writes only what differs, so there is no notion of stale output; a module whose .proto
file is gone is removed.  Service stubs are not generated: servers and clients build their calls from
the descriptors.
"""

from __future__ import annotations

import importlib.resources
import keyword
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("coordd", "pb")
GENERATED = ("*_pb2.py", "*_pb2.pyi")

# What protoc's stubs need before `mypy --strict` takes them (seen with grpcio-tools 1.85).
STUB_FIXES = (
    # An enum value called `None` is declared as `None: DataType`, which is no Python. At run time such
    # a value is reached by DataType.Value("None") only, so the stub does not name it either.
    (re.compile(rf"^ *(?:{'|'.join(keyword.kwlist)}): .*\n", re.MULTILINE), ""),
    # A submessage may be given as a mapping of its fields, declared as a generic without arguments.
    (re.compile(r"\b_Mapping\]"), "_Mapping[str, _Any]]"),
    (re.compile(r"\A"), "from typing import Any as _Any\n"),
    # Enum fields are declared with their enum's type, but Enum.Value() as int, which does not fit them.
    (
        re.compile(r"^class (\w+)\(int, metaclass=.*\n", re.MULTILINE),
        r"\g<0>    @classmethod" "\n" r"    def Value(cls, name: str | bytes) -> \1: ..." "\n",
    ),
)


class ProtoError(Exception):
    """The .proto files could not be compiled; the text says why."""


def compile_protos(root: Path = ROOT) -> list[Path]:
    """Bring the generated modules below `root` in line with its .proto files.

    Returns the files written or removed, relative to `root`; empty when all was current.  A module is
    replaced in one step, so a process that imports meanwhile sees the old or the new one.

    Raises:
        ProtoError: there are no .proto files, grpcio-tools is missing, or protoc refuses a file (its
            messages are on stderr).  Nothing has been written then.
    """
    fresh = _compile(root / "proto")
    target = root / PACKAGE
    changed = []
    for name, content in fresh.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            _replace(path, content)
            changed.append(PACKAGE / name)
    for path in _generated(target):
        if path.name not in fresh:
            path.unlink()
            changed.append(PACKAGE / path.name)
    return changed


def fix_stub(text: str) -> str:
    """Make a stub of protoc acceptable to a strict type checker."""
    for pattern, replacement in STUB_FIXES:
        text = pattern.sub(replacement, text)
    return text


def _compile(proto_dir: Path) -> dict[str, bytes]:
    """Content of each generated file, by its name."""
    sources = sorted((proto_dir / PACKAGE).glob("*.proto"))
    if not sources:
        raise ProtoError(f"no .proto files in {proto_dir / PACKAGE}")
    with tempfile.TemporaryDirectory(prefix="coordd-pb-") as scratch:
        _protoc(proto_dir, sources, Path(scratch))
        fresh = {path.name: path.read_text("utf-8") for path in _generated(Path(scratch, PACKAGE))}
    return {
        name: (fix_stub(text) if name.endswith(".pyi") else text).encode() for name, text in fresh.items()
    }


def _protoc(proto_dir: Path, sources: list[Path], out: Path) -> None:
    try:
        from grpc_tools import protoc  # noqa: PLC0415  (an sdist is built without it)
    except ImportError as error:
        raise ProtoError("compiling .proto files needs grpcio-tools: pip install grpcio-tools") from error
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    with importlib.resources.as_file(well_known) as include:
        options = [f"-I{proto_dir}", f"-I{include}", f"--python_out={out}", f"--pyi_out={out}"]
        status = protoc.main(["protoc", *options, *map(os.fspath, sources)])
    if status != 0:
        raise ProtoError(f"protoc refused the files in {proto_dir / PACKAGE}; its messages are above")


def _generated(directory: Path) -> list[Path]:
    return sorted(path for pattern in GENERATED for path in directory.glob(pattern))


def _replace(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(content)
    scratch.replace(path)


class ProtoBuildHook(BuildHookInterface[Any]):
    """Generates the modules before hatchling collects (wheel) or links (editable) the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":  # an sdist carries the .proto files only
            return
        try:
            compile_protos(Path(self.root))
        except ProtoError as error:
            self.app.abort(str(error))


def main() -> int:
    try:
        changed = compile_protos()
    except ProtoError as error:
        sys.stderr.write(f"hatch_build.py: {error}\n")
        return 1
    for path in changed:
        sys.stdout.write(f"{'wrote' if (ROOT / path).exists() else 'removed'} {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
