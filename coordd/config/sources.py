"""Files, environment and etcd as layers of entries; which files are read.

Directory and file order are Milvus' (2.5; 2.3 reads `milvus.yaml` alone): `MILVUSCONF`, else `<cwd>/configs`;
`milvus.yaml` < `_test.yaml` < `default.yaml` < `user.yaml`, the later overrides. Precedence:
files < environment < etcd.

Source of truth: Milvus 2.3.5 and 2.5 pkg/util/paramtable/base_table.go, pkg/config/{env,etcd,file}_source.go.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordd.config.errors import ConfigError, Origin, Problem, Source
from coordd.config.keys import normalise, normalise_env
from coordd.config.schema import READ_PATHS
from coordd.config.yaml_source import Entry, read_yaml

FILE_NAMES: Final = ("milvus.yaml", "_test.yaml", "default.yaml", "user.yaml")
DIRECTORY_VARIABLE: Final = "MILVUSCONF"

_SERVICE_LINK: Final = re.compile(r"^(tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Layer:
    """The entries of one source, by normalised name. Several entries of one name were spelled differently."""

    source: Source
    entries: Mapping[str, tuple[Entry, ...]]

    def find(self, names: tuple[str, ...]) -> tuple[Entry, ...]:
        """All entries under any of `names`."""
        return tuple(entry for name in names for entry in self.entries.get(name, ()))


@dataclass(frozen=True, slots=True)
class Files:
    """Which files belong to a configuration. Not every one of `candidates` has to exist."""

    candidates: tuple[Path, ...]
    required: bool

    def existing(self) -> tuple[Path, ...]:
        """Those that exist now, lowest precedence first.

        Raises:
            ConfigError: it cannot be told, e.g. for lack of permission.
        """
        return tuple(path for path in self.candidates if self.required or _exists(path))


def locate(path: Path | None, env: Mapping[str, str], cwd: Path) -> Files:
    """Find the files: `path` (a file or a directory), else `MILVUSCONF`, else `<cwd>/configs`.

    Raises:
        ConfigError: `path` or `MILVUSCONF` names nothing that exists, or `path` is a directory without any
            of the files.
    """
    if path is not None:
        return _named(path, "--config")
    if env.get(DIRECTORY_VARIABLE):
        return _named(Path(env[DIRECTORY_VARIABLE]), DIRECTORY_VARIABLE)
    directory = cwd / "configs"
    return Files(tuple(directory / name for name in FILE_NAMES), required=False)


def _named(path: Path, by: str) -> Files:
    if not _exists(path):
        raise _unreadable(path, f"does not exist, but is named by {by}")
    if not path.is_dir():
        return Files((path,), required=True)
    files = Files(tuple(path / name for name in FILE_NAMES), required=False)
    if not files.existing():
        raise _unreadable(path, f"is named by {by}, but holds none of " + ", ".join(FILE_NAMES))
    return files


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror or error}") from error
    return True


def _unreadable(path: Path, reason: str) -> ConfigError:
    return ConfigError([Problem("", Origin(Source.FILE, str(path)), reason)], unreadable=True)


def file_layer(path: Path) -> Layer:
    """The layer of one file.

    Raises:
        ConfigError: see `read_yaml`.
    """
    return layer_of(Source.FILE, read_yaml(path))


def layer_of(source: Source, entries: tuple[Entry, ...]) -> Layer:
    """Group entries by normalised name."""
    grouped: dict[str, tuple[Entry, ...]] = {}
    for entry in entries:
        name = normalise_env(entry.key) if source is Source.ENV else normalise(entry.key)
        grouped[name] = (*grouped.get(name, ()), entry)
    return Layer(source, grouped)


def env_layer(env: Mapping[str, str]) -> tuple[Layer, tuple[str, ...]]:
    """The layer of the environment, and warnings about variables that were passed over.

    Kubernetes sets `ROOTCOORD_PORT=tcp://10.0.0.7:53100` in every container when there is a Service named
    `rootcoord`; nobody means that as a port, so it is not read as one.
    """
    entries: list[Entry] = []
    warnings: list[str] = []
    for name in sorted(env):
        if name.upper().endswith("_PORT") and _SERVICE_LINK.match(env[name]):
            if normalise_env(name) in READ_PATHS:
                warnings.append(
                    f"environment variable {name} is not read: {env[name]} is what Kubernetes sets for a"
                    " Service of that name (enableServiceLinks: false stops it)"
                )
            continue
        entries.append(Entry(name, env[name], Origin(Source.ENV, name=name)))
    return layer_of(Source.ENV, tuple(entries)), tuple(warnings)


def etcd_layer(values: Mapping[str, str]) -> Layer:
    """The layer of what lies in etcd: key below `<rootPath>/config/` -> value."""
    return layer_of(
        Source.ETCD, tuple(Entry(key, values[key], Origin(Source.ETCD, name=key)) for key in sorted(values))
    )
