"""What can be wrong with a configuration, and where it was written.

A `Problem` is one wrong setting; a `ConfigError` carries all that were found, so that a person can mend them
in one go. Values of secrets never reach a message: whoever builds a `Problem` masks them first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from coordd.errors import CoorddError


class Source(StrEnum):
    """Where a value came from, lowest precedence first."""

    DEFAULT = "default"
    FILE = "file"
    ENV = "environment"
    ETCD = "etcd"


@dataclass(frozen=True, slots=True)
class Origin:
    """One place that sets one value.

    `file` and `line` (from 1) are set for files; `name` is the environment variable or the etcd key, and for
    files the key as it is written there.
    """

    source: Source
    file: str | None = None
    line: int | None = None
    name: str = ""

    def __str__(self) -> str:
        match self.source:
            case Source.FILE:
                return self.file or "" if self.line is None else f"{self.file}:{self.line}"
            case Source.DEFAULT:
                return "default"
            case _:
                return f"{self.source.value} {self.name}"


DEFAULT_ORIGIN = Origin(Source.DEFAULT)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: which key, where it is written, and why it cannot be used."""

    key: str
    origin: Origin
    reason: str

    def __str__(self) -> str:
        if not self.key:
            return f"{self.origin}: {self.reason}"
        return f"{self.origin}: {self.key} {self.reason}"


class ConfigError(CoorddError):
    """The configuration cannot be used. `problems` names each wrong place; it is never empty.

    `unreadable` is true when a file or directory could not be read at all, so that nothing is known of its
    content.
    """

    def __init__(
        self, problems: Sequence[Problem], *, hint: str | None = None, unreadable: bool = False
    ) -> None:
        self.problems = tuple(problems)
        self.unreadable = unreadable
        head = "" if len(self.problems) == 1 else f"{len(self.problems)} settings are wrong:\n  "
        super().__init__(head + "\n  ".join(str(problem) for problem in self.problems), hint=hint)
