"""Checks one file by itself, without environment, etcd and other files: what `coordd config check` prints."""

from dataclasses import dataclass
from pathlib import Path

from coordd.config.errors import ConfigError, Problem
from coordd.config.load import assemble
from coordd.config.sources import Files, Layer, file_layer
from coordd.config.unread import UnreadKey, unknown_sections, unread_keys


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. `errors` stop coordd from starting, `warnings` are worth a look.

    `unread` are settings of Milvus that coordd has no use for. `unreadable`: nothing could be checked.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unread: tuple[UnreadKey, ...] = ()
    unreadable: bool = False

    @property
    def exit_code(self) -> int:
        """0 nothing wrong, 1 errors, 2 the file could not be read."""
        return 2 if self.unreadable else int(bool(self.errors))


def check_file(path: Path) -> Report:
    """Check the file; never raises for what is in it."""
    try:
        layer = file_layer(path)
    except ConfigError as error:
        return Report(_texts(error.problems), unreadable=error.unreadable)
    unread = unread_keys([layer])
    strange = [*unknown_sections([layer]), *(key for key in unread if not key.known_to_milvus)]
    warnings = tuple(str(key) for key in sorted(strange, key=lambda key: key.origin.line or 0))
    known = tuple(key for key in unread if key.known_to_milvus)
    errors, more = _settings(path, layer)
    return Report(errors, (*warnings, *more), known)


def _settings(path: Path, layer: Layer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        loaded = assemble(Files((path,), required=True), [(path, layer)], (), ())
    except ConfigError as error:
        return _texts(error.problems), ()
    return (), tuple(f"{path}: {warning}" for warning in loaded.warnings)


def _texts(problems: tuple[Problem, ...]) -> tuple[str, ...]:
    return tuple(str(problem) for problem in problems)
