"""Configuration from its sources: `load_config` (files < environment), `with_etcd` (etcd above both).

Neither logs: logging is configured from what they return. `log_findings` reports what is worth a line, once.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from structlog.typing import FilteringBoundLogger

from coordd.config.coordinators import split_address
from coordd.config.errors import Origin, Source
from coordd.config.keys import shown
from coordd.config.resolve import resolve
from coordd.config.schema import READ_PATHS
from coordd.config.settings import ROLE_ATTRIBUTES, Settings
from coordd.config.sources import FILE_NAMES, Files, Layer, env_layer, etcd_layer, file_layer, locate
from coordd.config.unread import UnreadKey, unread_keys
from coordd.config.yaml_source import Entry

ETCD_READ_TIMEOUT_S: Final = 3.0
"""How long a read of the settings in etcd may take; as in Milvus."""

EtcdReader = Callable[[], Awaitable[Mapping[str, str]]]
"""Reads all keys below `<rootPath>/config/` and returns the rest of each key -> value."""


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """Settings and where they came from.

    `origins`: normalised name of each setting -> the place that decided it; `member_origins`: the same for
    what is read in groups, by YAML path. `items`: normalised name -> raw text of everything that the sources
    hold, unread keys included, secrets masked; of the environment only what is a setting or overrides one.
    `spellings`: for each item the names that files and etcd have for it. `unknown_keys`: keys in sections
    that coordd reads that neither coordd nor Milvus has; `unread_keys`: those that only Milvus has.
    `warnings` are sentences for the operator. `paths` are the files that were read, lowest precedence first;
    `files` those that are looked for again when files are read anew.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    member_origins: Mapping[str, Origin]
    items: Mapping[str, str]
    spellings: Mapping[str, tuple[str, ...]]
    unknown_keys: tuple[UnreadKey, ...]
    unread_keys: tuple[UnreadKey, ...]
    warnings: tuple[str, ...]
    paths: tuple[Path, ...]
    files: Files
    layers: tuple[Layer, ...] = field(repr=False)
    env_warnings: tuple[str, ...] = field(repr=False)


def load_config(
    path: Path | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> LoadedConfig:
    """Read files and environment. `path` is a file or a directory; see `coordd.config.sources.locate`.

    Without any file the built-in defaults hold. Reads disk: not for the event loop of a serving process.

    Raises:
        ConfigError: something cannot be read or is wrong; names every place.
    """
    env = os.environ if env is None else env
    files = locate(path, env, Path.cwd() if cwd is None else cwd)
    from_env, env_warnings = env_layer(env)
    return assemble(files, read_files(files), (from_env,), env_warnings)


def read_files(files: Files) -> tuple[tuple[Path, Layer], ...]:
    """The files that exist now, each with its layer, lowest precedence first.

    Raises:
        ConfigError: see `coordd.config.yaml_source.read_yaml`.
    """
    return tuple((path, file_layer(path)) for path in files.existing())


async def with_etcd(loaded: LoadedConfig, reader: EtcdReader) -> LoadedConfig:
    """`loaded` with the settings in etcd above everything else.

    Raises:
        ConfigError: a value in etcd is wrong; names its key.
        TimeoutError: etcd did not answer within `ETCD_READ_TIMEOUT_S`. Errors of `reader` pass through.
    """
    async with asyncio.timeout(ETCD_READ_TIMEOUT_S):
        values = await reader()
    return overlay(loaded, values)


def overlay(loaded: LoadedConfig, values: Mapping[str, str]) -> LoadedConfig:
    """`loaded` with `values` (key below `<rootPath>/config/` -> text) in place of what etcd held before.

    Raises:
        ConfigError: a value is wrong.
    """
    upper = tuple(layer for layer in loaded.layers if layer.source is Source.ENV)
    lower = [layer for layer in loaded.layers if layer.source is Source.FILE]
    files = tuple(zip(loaded.paths, lower, strict=True))
    return assemble(loaded.files, files, (*upper, etcd_layer(values)), loaded.env_warnings)


def reread(loaded: LoadedConfig, files: Sequence[tuple[Path, Layer]]) -> LoadedConfig:
    """`loaded` with new content of its files; environment and etcd stay as they were.

    Raises:
        ConfigError: a value is wrong.
    """
    upper = tuple(layer for layer in loaded.layers if layer.source is not Source.FILE)
    return assemble(loaded.files, files, upper, loaded.env_warnings)


def assemble(
    files: Files, read: Sequence[tuple[Path, Layer]], upper: Sequence[Layer], env_warnings: tuple[str, ...]
) -> LoadedConfig:
    """Put file layers and the layers above them together.

    Raises:
        ConfigError: a value is wrong.
    """
    layers = (*(layer for _path, layer in read), *upper)
    resolved = resolve(layers)
    unread = unread_keys(layers)
    items, spellings = _items(layers)
    loaded = LoadedConfig(
        settings=resolved.settings,
        origins=MappingProxyType(dict(resolved.origins)),
        member_origins=MappingProxyType(dict(resolved.member_origins)),
        items=MappingProxyType(items),
        spellings=MappingProxyType(spellings),
        unknown_keys=tuple(key for key in unread if not key.known_to_milvus),
        unread_keys=tuple(key for key in unread if key.known_to_milvus),
        warnings=(),
        paths=tuple(path for path, _layer in read),
        files=files,
        layers=layers,
        env_warnings=env_warnings,
    )
    return replace(loaded, warnings=tuple(_warnings(loaded)))


def _items(layers: Sequence[Layer]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    items: dict[str, str] = {}
    spellings: dict[str, tuple[str, ...]] = {}
    shared = set(READ_PATHS).union(*(layer.entries for layer in layers if layer.source is not Source.ENV))
    for layer in layers:
        for name, entries in layer.entries.items():
            if name in shared:
                items[name] = shown(name, entries[-1].value)
                written = (*spellings.get(name, ()), *_spellings(layer.source, entries))
                spellings[name] = tuple(dict.fromkeys(written))
    return items, spellings


def _spellings(source: Source, entries: Sequence[Entry]) -> list[str]:
    """As Milvus lists them: names in files in lower case, those in etcd as they are, variables not at all."""
    if source is Source.ENV:
        return []
    return [entry.key.lower() if source is Source.FILE else entry.key for entry in entries]


def _warnings(loaded: LoadedConfig) -> list[str]:
    settings, failover = loaded.settings, loaded.settings.coordd.failover
    warnings = list(loaded.env_warnings)
    if not loaded.paths:
        where = loaded.files.candidates[0].parent
        warnings.append(f"no {' or '.join(FILE_NAMES)} in {where}: built-in defaults hold")
    silence_ms = failover.serve_guard_ms + failover.margin_ms
    if settings.common.session_ttl_s * 1000 < silence_ms:
        warnings.append(
            f"common.session.ttl ({settings.common.session_ttl_s} s) is shorter than"
            f" coordd.failover.serveGuard + coordd.failover.margin ({failover.serve_guard_ms} ms"
            f" + {failover.margin_ms} ms): the lease of a silent replica ends before its place could be"
            " taken, and only then does a standby take over"
        )
    if settings.common.security.internal_tls_enabled:
        warnings.append(
            "common.security.internaltlsEnabled is true, but this version of coordd serves plain text:"
            " processes that insist on TLS cannot reach it"
        )
    if settings.kafka.broker_list:
        warnings.extend(settings.kafka.not_in_force())
    warnings.extend(_port_warnings(loaded))
    warnings.extend(
        f"{path} is set in etcd, where it is found only after it was needed: set it elsewhere"
        for name, path in READ_PATHS.items()
        if path.startswith("etcd.") and loaded.origins[name].source is Source.ETCD
    )
    return warnings


def _port_warnings(loaded: LoadedConfig) -> list[str]:
    """`<role>.address` may carry a port (`ROOT_COORD_ADDRESS=rootcoord:53100`); only `<role>.port` counts."""
    warnings = []
    for role in ROLE_ATTRIBUTES:
        section = loaded.settings.coordinator(role)
        _host, port = split_address(loaded.items.get(f"{role}address", ""))
        if port not in {None, section.port}:
            warnings.append(
                f"{READ_PATHS[f'{role}address']} names port {port}, but {role} listens on and advertises port"
                f" {section.port}: set {READ_PATHS[f'{role}port']} if that is not meant"
            )
    return warnings


def log_findings(loaded: LoadedConfig, log: FilteringBoundLogger) -> None:
    """Log once what an operator may want to know: warnings, and at DEBUG the keys that are not read."""
    for warning in loaded.warnings:
        log.warning("configuration warning", warning=warning)
    for found in loaded.unknown_keys:
        log.debug(
            "unknown configuration key",
            key=found.key, origin=str(found.origin), suggestion=found.suggestion or "",
        )  # fmt: skip
    if loaded.unread_keys:
        log.debug("configuration keys of Milvus that are not read", count=len(loaded.unread_keys))
